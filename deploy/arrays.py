"""Arrays of ready pixels as a source: `.npy`, `.npz` (compressed or not) and IDX (`.gz` or not), read as a stream."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from infoae.data import idx
from infoae.data.unreadable import UnreadableImageError
from infoae.deploy.blocks import Block, key_of
from infoae.deploy.bundle import ImageSpec
from infoae.errors import InfoAEError, one_line

_DAMAGE = (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, struct.error, NotImplementedError)


@dataclass(frozen=True)
class ArrayFile:
    """A file of N images of `image_shape` (C, H, W) as uint8; `entry` is the array's name in a `.npz`."""

    path: str
    entry: str | None
    num_images: int
    image_shape: tuple[int, int, int]

    @classmethod
    def open(cls, path: str, image: ImageSpec, entry: str | None) -> ArrayFile:
        """Read the header.

        Raises UnreadableImageError for a file that is damaged, InfoAEError for one that holds anything but such images.
        """
        try:
            entry = _choose_entry(path, image, entry) if path.lower().endswith(".npz") else None
            with _opened(path, entry) as file:
                shape, dtype = _header(path, file)
        except _DAMAGE as error:
            raise UnreadableImageError(f"cannot be opened: {one_line(error)}") from error
        if dtype != np.uint8:
            raise InfoAEError(f"{key_of(path)} holds {dtype.name}: give uint8 pixels, 0 to 255")
        if not _fits(shape, image):
            raise InfoAEError(f"{key_of(path)} has shape {shape}: (N, {', '.join(map(str, image.shape))}) is needed")
        return cls(path, entry, shape[0], image.shape)

    def count(self) -> int:
        """Return the number of images, which the header tells."""
        return self.num_images

    def blocks(self, size: int) -> Iterator[Block]:
        """Return ready pixels uint8 (N, C, H, W), read as a stream; the key is the row's number."""
        key = key_of(self.path)
        row_bytes = math.prod(self.image_shape)
        done = 0
        try:
            with _opened(self.path, self.entry) as file:
                _header(self.path, file)
                while done < self.num_images:
                    wanted = min(size, self.num_images - done)
                    content = file.read(wanted * row_bytes)
                    rows = len(content) // row_bytes
                    images = np.frombuffer(content, np.uint8, rows * row_bytes).reshape(rows, *self.image_shape)
                    if rows:
                        yield Block([f"{key}#{row}" for row in range(done, done + rows)], images)
                    done += rows
                    if rows < wanted:
                        raise EOFError("the file ends early")
        except _DAMAGE as error:
            reason = f"unreadable after image {done} of {self.num_images}: {one_line(error)}"
            yield Block([key], [UnreadableImageError(reason)])


@contextmanager
def _opened(path: str, entry: str | None) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The bytes of the array file or of one array in it, inflated as they are read."""
    if entry is not None:
        with zipfile.ZipFile(path) as archive, archive.open(entry + ".npy") as member:
            yield member
    elif path.lower().endswith(".gz"):
        with gzip.open(path) as file:
            yield file
    else:
        with Path(path).open("rb") as file:
            yield file


def _header(path: str, file: IO[bytes] | gzip.GzipFile) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Read up to the first pixel and return the array's shape and type."""
    if not path.lower().endswith((".npy", ".npz")):
        return idx.read_header(file)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown .npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = read(file)
    if fortran_order and len(shape) > 1:
        raise InfoAEError(f"{key_of(path)}: an array is in Fortran order; save it with np.ascontiguousarray")
    return shape, dtype


def _choose_entry(path: str, image: ImageSpec, wanted: str | None) -> str:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    if wanted is not None:
        if wanted not in names:
            raise InfoAEError(f"{key_of(path)} has no array {wanted!r}: it has {', '.join(names) or 'none'}")
        return wanted
    fitting = []
    for name in names:
        with _opened(path, name) as file:
            shape, dtype = _header(path, file)
        if dtype == np.uint8 and _fits(shape, image):
            fitting.append(name)
    candidates = fitting or names
    if "images" in candidates:
        return "images"
    if len(candidates) != 1:
        raise InfoAEError(f"{key_of(path)} has the arrays {', '.join(names) or '(none)'}: choose one with --column")
    return candidates[0]


def _fits(shape: tuple[int, ...], image: ImageSpec) -> bool:
    return shape[1:] == image.shape or (image.channels == 1 and shape[1:] == image.shape[1:])
