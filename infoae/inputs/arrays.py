"""Arrays of ready pixels as a source: `.npy`, `.npz` (compressed or not) and IDX (`.gz` or not), read as a stream."""

from __future__ import annotations

import gzip
import math
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infoae.data import idx, npy
from infoae.data.image_spec import ImageSpec
from infoae.data.unreadable import UnreadableImageError, check_file, unreadable
from infoae.errors import InfoAEError
from infoae.inputs import zip_file
from infoae.inputs.blocks import Block, key_of


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

        Raises InfoAEError for a file that holds anything but such images, and whatever it may be if it is damaged.
        """
        check_file(path)
        if path.lower().endswith(".npz"):
            entry, (shape, dtype) = _choose_entry(path, image, entry)
        else:
            entry = None
            with _opened(path, entry) as file:
                shape, dtype = _header(path, file)
        if dtype != np.uint8:
            raise InfoAEError(f"{key_of(path)} holds {dtype.name}: give uint8 pixels, 0 to 255")
        if not _fits(shape, image):
            hint = ""
            if shape[1:] == (image.height, image.width, image.channels):
                hint = "; its channels are last: save images.transpose(0, 3, 1, 2)"
            wanted = ", ".join(map(str, image.shape))
            raise InfoAEError(f"{key_of(path)} has shape {shape}: (N, {wanted}) is needed{hint}")
        return cls(path, entry, shape[0], image.shape)

    def count(self) -> int:
        """Return the number of images, which the header tells."""
        return self.num_images

    def blocks(self, size: int) -> Iterator[Block]:
        """Return ready pixels uint8 (N, C, H, W), read as a stream; the key is the row's number."""
        key = key_of(self.path)
        done = 0
        try:
            for images in self._read(size):
                yield Block([f"{key}#{row}" for row in range(done, done + len(images))], images)
                done += len(images)
        except UnreadableImageError as error:
            reason = f"unreadable after image {done} of {self.num_images}: {error}"
            yield Block([key], [UnreadableImageError(reason)])

    def _read(self, size: int) -> Iterator[NDArray[np.uint8]]:
        row_bytes = math.prod(self.image_shape)
        left = self.num_images
        with ExitStack() as stack:
            with unreadable():
                file = stack.enter_context(_opened(self.path, self.entry))
                _header(self.path, file)
            while left:
                with unreadable():
                    content = file.read(min(size, left) * row_bytes)
                rows = len(content) // row_bytes
                if rows:
                    yield np.frombuffer(content, np.uint8, rows * row_bytes).reshape(rows, *self.image_shape)
                if rows < min(size, left):
                    raise UnreadableImageError("the file ends early")
                left -= rows


def image_of(path: str, entry: str | None) -> ImageSpec:
    """Return what the images of an array file are, as its header says. Raises InfoAEError if it holds no images."""
    check_file(path)
    if path.lower().endswith(".npz"):
        shape, _ = _choose_entry(path, None, entry)[1]
    else:
        with _opened(path, None) as file:
            shape, _ = _header(path, file)
    if not _fits(shape, None):
        raise InfoAEError(f"{key_of(path)} has shape {shape}: (N, 1 or 3 channels, H, W) or (N, H, W) is needed")
    channels: Literal[1, 3] = 3 if shape[1:-2] == (3,) else 1
    return ImageSpec(channels=channels, height=shape[-2], width=shape[-1])


@contextmanager
def _opened(path: str, entry: str | None) -> Iterator[IO[bytes] | gzip.GzipFile]:
    """The bytes of the array file or of one array in it, inflated as they are read."""
    if entry is not None:
        with zip_file.opened(path) as archive, _member(archive, entry) as member:
            yield member
    elif path.lower().endswith(".gz"):
        with gzip.open(path) as file:
            yield file
    else:
        with Path(path).open("rb") as file:
            yield file


def _member(archive: zipfile.ZipFile, entry: str) -> IO[bytes]:
    """One array of a `.npz` file. Of other compressions than NumPy's zipfile inflates more than it is asked for."""
    if archive.getinfo(entry + ".npy").compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableImageError("an array compressed as NumPy does not: save it with np.savez_compressed")
    return archive.open(entry + ".npy")


def _header(path: str, file: IO[bytes] | gzip.GzipFile) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read up to the first pixel and return the array's shape and type."""
    if not path.lower().endswith((".npy", ".npz")):
        return idx.read_header(file)
    shape, fortran_order, dtype = npy.read_header(file)  # type: ignore[arg-type]
    if fortran_order and len(shape) > 1:
        raise InfoAEError(f"{key_of(path)}: an array is in Fortran order; save it with np.ascontiguousarray")
    return shape, dtype


def _choose_entry(
    path: str, image: ImageSpec | None, wanted: str | None
) -> tuple[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Choose an array of a `.npz` file; return its name, shape and type."""
    with zip_file.opened(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]

        def header(name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
            with _member(archive, name) as file:
                return _header(path, file)

        if wanted is not None:
            if wanted not in names:
                raise InfoAEError(f"{key_of(path)} has no array {wanted!r}: it has {_some(names)}")
            return wanted, header(wanted)
        headers = {name: header(name) for name in names}
    fitting = [name for name, (shape, dtype) in headers.items() if dtype == np.uint8 and _fits(shape, image)]
    candidates = fitting or names
    if "images" in candidates:
        return "images", headers["images"]
    if len(candidates) != 1:
        raise InfoAEError(f"{key_of(path)} has the arrays {_some(names)}: choose one with --column")
    return candidates[0], headers[candidates[0]]


def _some(names: list[str]) -> str:
    return ", ".join(map(key_of, names[:20])) + (f" and {len(names) - 20} more" if names[20:] else "") or "(none)"


def _fits(shape: tuple[int, ...], image: ImageSpec | None) -> bool:
    if image is None:
        return len(shape) == 3 or (len(shape) == 4 and shape[1] in (1, 3))
    return shape[1:] == image.shape or (image.channels == 1 and shape[1:] == image.shape[1:])
