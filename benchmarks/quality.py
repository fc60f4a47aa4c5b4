"""How many near-duplicates, blurred, dark and odd pictures are found, and how many others are taken for one.

    python benchmarks/quality.py [--count 2000] [--cifar10 cifar10.tar] [--many 50000] [--out quality.json]

The first test digits of MNIST, and pictures of CIFAR-10 if its tar is given, are changed one way each. Outliers are
pictures of the other set, or digits given another's category, in the first 32 principal components of digits. --many is
how many random thumbnails are grouped for the CPU time of that.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from sklearn.decomposition import PCA

from infoae import data
from infoae.config import Data
from infoae.files import write_json
from infoae.sorting import quality

Picture = Image.Image


def encoded(picture: Picture, **settings: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, settings.pop("format", "PNG"), **settings)
    return written.getvalue()


def larger(picture: Picture, factor: float) -> Picture:
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Picture, edge: int) -> Picture:
    inner = picture.crop((edge, edge, picture.width - edge, picture.height - edge))
    return inner.resize(picture.size, Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Picture], bytes]] = {
    "JPEG of quality 40": lambda picture: encoded(picture, format="JPEG", quality=40),
    "7 % larger": lambda picture: encoded(larger(picture, 1.07)),
    "twice as large": lambda picture: encoded(larger(picture, 2)),
    "a pixel less on each side": lambda picture: encoded(cropped(picture, 1)),
    "blurred by 1 pixel": lambda picture: encoded(picture.filter(ImageFilter.GaussianBlur(1))),
    "blurred by 1.5 pixels": lambda picture: encoded(picture.filter(ImageFilter.GaussianBlur(1.5))),
    "a fifth as bright": lambda picture: encoded(picture.point(lambda value: value // 5)),
    "cut off": lambda picture: encoded(picture)[:-30],
}


def rates(pictures: list[Picture]) -> dict[str, Any]:
    """Return the share of pictures found to be anything, as they are and changed."""
    own = quality.measured([encoded(picture) for picture in pictures])
    found = {"as they are": shares(own, quality.first_alike(own.thumbnails) >= 0)}
    for name, change in CHANGES.items():
        changed = quality.measured([change(picture) for picture in pictures])
        hashes = quality.perceptual_hashes(own.thumbnails), quality.perceptual_hashes(changed.thumbnails)
        close = np.unpackbits(hashes[0] ^ hashes[1], axis=1).sum(axis=1) <= quality.ALIKE_BITS
        pairs = zip(own.thumbnails, changed.thumbnails, strict=True)
        alike = [quality.first_alike(np.stack(pair))[1] == 0 for pair in pairs]
        assert not (np.array(alike) & ~close).any()
        found[name] = shares(changed, np.array(alike))
    return found


def shares(measures: quality.Measures, alike: NDArray[np.bool_]) -> dict[str, float]:
    return {
        "duplicate": float(alike.mean()),
        "blurred": float((measures.sharpness < quality.BLURRED).mean()),
        "dark": float((measures.brightness < quality.DARK).mean()),
        "damaged": float(np.mean([reason is not None for reason in measures.damaged])),
    }


def outliers(digits: NDArray[np.uint8], labels: NDArray[np.int64], others: NDArray[np.uint8]) -> dict[str, float]:
    """Return the share of digits, of digits under another label, and of `others` under a label, taken for outliers."""
    rng = np.random.default_rng(0)
    strangers = rng.choice(len(digits), len(digits) // 50, replace=False)
    given = labels.copy()
    given[strangers] = (labels[strangers] + rng.integers(1, 10, len(strangers))) % 10
    pixels = np.concatenate([digits, others[: len(strangers)]]).reshape(-1, digits[0].size) / 255
    given = np.concatenate([given, rng.integers(0, 10, len(pixels) - len(digits))])
    latents = PCA(32, random_state=0).fit(pixels[: len(digits)]).transform(pixels)
    odd = quality.outlier_scores(latents, given) > quality.OUTLIER
    right = np.ones(len(digits), bool)
    right[strangers] = False
    return {
        "digits": float(odd[: len(digits)][right].mean()),
        "digits of another label": float(odd[strangers].mean()),
        "photographs": float(odd[len(digits) :].mean()),
    }


def of_cifar10(path: Path, count: int) -> list[Picture]:
    with tarfile.open(path) as tar:
        names = sorted(name for name in tar.getnames() if name.startswith("test/") and name.endswith(".jpg"))
        chosen = np.random.default_rng(0).permutation(names)[:count]
        files = [tar.extractfile(str(name)) for name in chosen]
        return [Image.open(io.BytesIO(file.read())).convert("RGB") for file in files if file]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--cifar10", type=Path)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    test = data.load(Data(), "test")
    assert test.labels is not None
    digits = np.asarray(test.images)[:, 0]
    result: dict[str, Any] = {"MNIST": rates([Image.fromarray(digit) for digit in digits[: arguments.count]])}
    if arguments.cifar10:
        pictures = of_cifar10(arguments.cifar10, arguments.count)
        result["CIFAR-10"] = rates(pictures)
        grey = np.stack([np.asarray(picture.convert("L").resize((28, 28))) for picture in pictures])
        result["outliers"] = outliers(digits, np.asarray(test.labels, np.int64), grey)
    thumbnails = np.random.default_rng(0).integers(0, 256, (arguments.many, 32, 32), np.uint8)
    started = time.process_time()
    quality.first_alike(thumbnails)
    result["seconds to group"] = {str(arguments.many): time.process_time() - started}
    for name, value in result.items():
        print(name, value)
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
