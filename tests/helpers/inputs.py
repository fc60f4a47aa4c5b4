"""Inputs of every kind for the tests, and reading them back."""

from __future__ import annotations

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.data import ImageSet
from infoae.data.image_spec import ImageSpec
from infoae.inputs.decoding import decode
from infoae.inputs.sources import open_sources

IMAGE = ImageSpec(channels=1, height=28, width=28)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)


def png(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[index]).save(buffer, "PNG")
    return buffer.getvalue()


def read(
    *inputs: str | Path, column: str | None = None, size: int = 7, null: bool = False
) -> tuple[list[str], np.ndarray, list[str | None]]:
    """Everything in `inputs`: keys, the pixels of the readable ones, and what is wrong with the others."""
    keys: list[str] = []
    images, errors = [np.empty((0, 1, 28, 28), np.uint8)], []
    sources = open_sources([str(given) for given in inputs], IMAGE, column=column, null=null)
    for source in sources:
        for block in source.blocks(size):
            assert len(block) <= size
            assert len(block) or block.passed_over
            decoded = decode(block, IMAGE)
            keys += decoded.keys
            images.append(decoded.images)
            errors += decoded.errors
    counts = [source.count() for source in sources]
    if None not in counts and not any("unreadable after" in str(error) for error in errors):
        assert sum(filter(None, counts)) == len(keys)
    return keys, np.concatenate(images), errors


def idx(images: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, images.ndim) + struct.pack(f">{images.ndim}I", *images.shape) + images.tobytes()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def write_shards(folder: Path, images: NDArray[np.uint8], num_shards: int, test: ImageSet) -> None:
    """Write training images in so many shards, and a test split, as `infoae.data.shards` reads them."""
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
    for index, part in enumerate(np.array_split(images, num_shards)):
        np.save(folder / "train" / f"{index:05}.npy", part)
    np.save(folder / "test" / "0.npy", test.images[:, 0])  # without the axis of channels
    if test.labels is not None:
        np.save(folder / "test_labels.npy", test.labels)
