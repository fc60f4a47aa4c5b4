"""Made images on disk: a folder of PNG files by category with an index, or one `.npz`."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.data.image_spec import ImageSpec
from infoae.deploy.bundle import Manifest
from infoae.deploy.formats import safe_text
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import atomic_file, atomic_folder
from infoae.limits import MAX_IMAGES, MAX_NPZ_BYTES


@dataclass(frozen=True)
class Pictures:
    """Images of one category: `images` float32 (N, C, H, W) in [0, 1]; `origin` says of each where it comes from."""

    category: int
    images: NDArray[np.float32]
    origin: Sequence[dict[str, str]]


def check_amount(count: int, num_categories: int, image: ImageSpec, out: Path) -> None:
    """Raise UsageError where `count` images of each of so many categories are more than `out` can be written with."""
    total = count * num_categories
    if total > MAX_IMAGES:
        raise UsageError(f"--count {count}: {total:,} images in all, more than {MAX_IMAGES}")
    size = total * math.prod(image.shape)
    if out.suffix.lower() == ".npz" and size > MAX_NPZ_BYTES:
        raise UsageError(
            f"--count {count}: {size:,} bytes of pixels; an .npz file is made in memory, of at most {MAX_NPZ_BYTES}: "
            "give --out a folder, or a lower --count"
        )


def write_pictures(pictures: Iterable[Pictures], manifest: Manifest, out: Path) -> int:
    """Write to `out`, which appears when all is written, and return how many images that were.

    A folder gets `<category>/<number>.png` (as torchvision's ImageFolder reads it) and `index.csv` with the columns
    path, label, name and those of `origin`; a name ending in `.npz` gets arrays `images` uint8 (N, C, H, W) and
    `labels` int64 (N,). Raises InfoAEError if `out` cannot be written; a folder must not exist yet.
    """
    if out.suffix.lower() != ".npz" and out.exists():
        raise InfoAEError(f"{out} exists already: delete it, or give another --out")
    try:
        if out.suffix.lower() == ".npz":
            return _write_arrays(pictures, manifest, out)
        return _write_folder(pictures, manifest, out)
    except OSError as error:
        raise InfoAEError(f"cannot write {out}: {one_line(error)}") from error


def _write_arrays(pictures: Iterable[Pictures], manifest: Manifest, out: Path) -> int:
    images = [np.empty((0, *manifest.drawn_image.shape), np.uint8)]
    labels = [np.empty(0, np.int64)]
    for made in pictures:
        images.append(_pixels(made.images))
        labels.append(np.full(len(made.images), made.category, np.int64))
    with atomic_file(out) as temporary, temporary.open("wb") as file:  # given a name, NumPy adds .npz to X.NPZ
        np.savez_compressed(file, images=np.concatenate(images), labels=np.concatenate(labels))
    return sum(map(len, labels))


def _write_folder(pictures: Iterable[Pictures], manifest: Manifest, out: Path) -> int:
    index: list[dict[str, str]] = []
    counts = Counter[int]()  # of the categories, whose images come in several parts
    digits = len(str(manifest.num_categories - 1))
    with atomic_folder(out) as folder:
        for made in pictures:
            name = f"{made.category:0{digits}d}"
            (folder / name).mkdir(exist_ok=True)
            first = counts[made.category]
            counts[made.category] += len(made.images)
            for number, (pixels, origin) in enumerate(zip(_pixels(made.images), made.origin, strict=True), first):
                path = f"{name}/{number:06d}.png"
                Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(folder / path)
                known = {"path": path, "label": str(made.category), "name": manifest.category_names[made.category]}
                index.append({column: safe_text(text) for column, text in (known | origin).items()})
        with (folder / "index.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(index[0]) if index else ["path", "label", "name"])
            writer.writeheader()
            writer.writerows(index)
    return len(index)


def _pixels(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    pixels: NDArray[np.uint8] = np.rint(images.clip(0, 1) * 255).astype(np.uint8)
    return pixels
