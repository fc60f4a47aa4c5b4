"""How many near-duplicates, blurred, dark and odd pictures are found, and how many others are taken for one.

    python benchmarks/quality.py --mnist BUNDLE [--cifar10 cifar10.tar BUNDLE] [--count 10000] [--out quality.json]

Piles are training images of MNIST and of CIFAR-10, with latents of a bundle of theirs. Some are changed one way each
and added, or pictures of another set are. --many is how many random thumbnails are grouped for the CPU time of that.
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
from PIL import Image, ImageChops, ImageFilter

from infoae import data
from infoae.config import Data
from infoae.data.decode import read_image
from infoae.deploy import Classifier
from infoae.files import write_json
from infoae.sorting import duplicates, outliers, quality

CHANGED, PLANTED = 500, 50
Picture = Image.Image


def encoded(picture: Picture, **settings: Any) -> bytes:
    written = io.BytesIO()
    picture.save(written, settings.pop("format", "PNG"), **settings)
    return written.getvalue()


def resized(picture: Picture, factor: float) -> Picture:
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Picture, edge: int) -> Picture:
    return picture.crop((edge, edge, picture.width - edge, picture.height - edge))


def shifted(picture: Picture) -> Picture:
    """Return the picture a pixel further right; the left column stays, too."""
    moved = ImageChops.offset(picture, 1, 0)
    moved.paste(picture.crop((0, 0, 1, picture.height)), (0, 0))
    return moved


SAME: dict[str, Callable[[Picture], bytes]] = {
    "shifted by a pixel": lambda picture: encoded(shifted(picture)),
    "JPEG of quality 70": lambda picture: encoded(picture, format="JPEG", quality=70),
    "half as large": lambda picture: encoded(resized(picture, 0.5)),
    "a quarter brighter": lambda picture: encoded(picture.point(lambda value: min(255, value * 5 // 4))),
    "a pixel less on each side": lambda picture: encoded(cropped(picture, 1)),
}
WORSE: dict[str, Callable[[Picture], bytes]] = {
    "as they are": encoded,
    "JPEG of quality 40": lambda picture: encoded(picture, format="JPEG", quality=40),
    "twice as large": lambda picture: encoded(resized(picture, 2)),
    "blurred by 1 pixel": lambda picture: encoded(picture.filter(ImageFilter.GaussianBlur(1))),
    "blurred by 1.5 pixels": lambda picture: encoded(picture.filter(ImageFilter.GaussianBlur(1.5))),
    "a fifth as bright": lambda picture: encoded(picture.point(lambda value: value // 5)),
    "cut off": lambda picture: encoded(picture)[:-30],
}


def near_duplicates(pictures: list[Picture], own: quality.Measures) -> dict[str, Any]:
    """Return recall and precision for CHANGED pictures changed each way and added, and what is found with none."""
    found: dict[str, Any] = {"none added": int((duplicates.first_alike(own.thumbnails) >= 0).sum())}
    for name, change in SAME.items():
        changed = quality.measured([change(picture) for picture in pictures[:CHANGED]])
        first = duplicates.first_alike(np.concatenate([own.thumbnails, changed.thumbnails]))
        of = np.arange(CHANGED)
        of[first[:CHANGED] >= 0] = first[:CHANGED][first[:CHANGED] >= 0]  # of one that is a near-duplicate itself
        right = int((first[len(pictures) :] == of).sum())
        found[name] = {"recall": right / CHANGED, "precision": right / max(1, int((first >= 0).sum()))}
    return found


def faults(pictures: list[Picture]) -> dict[str, Any]:
    """Return the share of pictures found to be blurred, dark or damaged, made worse each way."""
    some = pictures[:CHANGED]
    return {name: shares(quality.measured([change(picture) for picture in some])) for name, change in WORSE.items()}


def shares(measures: quality.Measures) -> dict[str, float]:
    return {
        "blurred": float((measures.sharpness < quality.BLURRED).mean()),
        "dark": float((measures.brightness < quality.DARK).mean()),
        "damaged": float(np.mean([reason is not None for reason in measures.damaged])),
    }


def planted(pictures: list[Picture], own: quality.Measures, others: list[Picture], bundle: Path) -> dict[str, float]:
    """Return how many of the PLANTED most unlike pictures are `others`, and what is told by the bound."""
    added = [encoded(picture) for picture in others[:PLANTED]]
    classifier = Classifier(bundle, "cpu")
    image = classifier.manifest.image
    size = image.channels, image.height, image.width
    pixels = np.stack([read_image(file, *size) for file in [*map(encoded, pictures), *added]])
    thumbnails = np.concatenate([own.thumbnails, quality.measured(added).thumbnails])
    scores = outliers.scores(thumbnails, classifier.classify(pixels).latent)
    told = scores > outliers.OUTLIER
    strange = np.arange(len(scores)) >= len(pictures)
    return {
        f"precision at {PLANTED}": float(strange[np.argsort(-scores)[:PLANTED]].mean()),
        "told": int(told.sum()),
        "told rightly": int(told[strange].sum()),
    }


def of_cifar10(path: Path, count: int) -> list[Picture]:
    with tarfile.open(path) as tar:
        names = sorted(name for name in tar.getnames() if name.startswith("train/") and name.endswith(".jpg"))
        chosen = np.random.default_rng(0).permutation(names)[:count]
        files = [tar.extractfile(str(name)) for name in chosen]
        return [Image.open(io.BytesIO(file.read())).convert("RGB") for file in files if file]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, metavar="BUNDLE")
    parser.add_argument("--cifar10", type=Path, nargs=2, metavar=("TAR", "BUNDLE"))
    parser.add_argument("--others", type=Path, help=".npy of pictures (N, C, H, W) to be added as outliers, too")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    digits = data.load(Data(), "train").images[: arguments.count]
    piles = {"MNIST": [Image.fromarray(digit[0]) for digit in digits]}
    bundles = {"MNIST": arguments.mnist}
    if arguments.cifar10:
        piles["CIFAR-10"] = of_cifar10(arguments.cifar10[0], arguments.count)
        bundles["CIFAR-10"] = arguments.cifar10[1]
    strangers = dict(piles)
    if arguments.others:
        some = np.random.default_rng(0).permutation(np.load(arguments.others, mmap_mode="r"))[:PLANTED]
        strangers["others"] = [Image.fromarray(each[0] if len(each) == 1 else each.transpose(1, 2, 0)) for each in some]
    result: dict[str, Any] = {}
    for name, pictures in piles.items():
        started = time.process_time()
        own = quality.measured([encoded(picture) for picture in pictures])
        result[name] = {"near-duplicates": near_duplicates(pictures, own), "faults": faults(pictures)}
        result[name]["outliers"] = {
            other: planted(pictures, own, strange, bundles[name])
            for other, strange in strangers.items()
            if other != name
        }
        result[name]["seconds"] = time.process_time() - started
    thumbnails = np.random.default_rng(0).integers(0, 256, (arguments.many, 32, 32), np.uint8)
    started = time.process_time()
    duplicates.first_alike(thumbnails)
    result["seconds to group"] = {str(arguments.many): time.process_time() - started}
    for name, value in result.items():
        print(name, value)
    if arguments.out:
        write_json(arguments.out, result)


if __name__ == "__main__":
    main()
