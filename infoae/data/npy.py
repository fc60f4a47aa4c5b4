"""The header of a `.npy` array, read so that nothing it states is believed before it is looked at."""

from __future__ import annotations

import io
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infoae.data.unreadable import UnreadableImageError, check_file, unreadable
from infoae.errors import InfoAEError
from infoae.limits import MAX_HEADER_BYTES

_PARSING = threading.Lock()
"""NumPy parses a header by Python's own parser, which up to 3.12.1 fails in two threads at once (CPython 106905)."""


@dataclass(frozen=True)
class Header:
    """What a file states of its array, whose values begin at byte `start`."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    dtype: np.dtype[Any]
    start: int


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read up to the first value; return shape, whether the order is Fortran's, and type.

    Raises ValueError with what is wrong, and whatever NumPy and Python's own parser raise on damage.
    """
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unknown .npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    stated = file.read(2 * version[0])
    length = int.from_bytes(stated, "little")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"a header of {length} bytes, more than {MAX_HEADER_BYTES}")
    stated += file.read(length)
    with _PARSING:
        shape, fortran_order, dtype = read(io.BytesIO(stated))
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran_order, dtype


def header(file: IO[bytes], name: str, size: int) -> Header:
    """Read the header of `file`, which is called `name` and has `size` bytes.

    Raises InfoAEError where it is none, or states more values than there are, or Python objects.
    """
    try:
        with unreadable():
            shape, fortran_order, dtype = read_header(file)
            start = file.tell()
        if math.prod(shape) * dtype.itemsize > size - start:
            raise UnreadableImageError(f"{size} bytes are too few for {dtype} {shape}")
        if dtype.hasobject:
            raise UnreadableImageError("Python objects, which are not unpickled")
    except UnreadableImageError as error:
        raise InfoAEError(f"{name} cannot be read as .npy: {error}") from None
    return Header(shape, "F" if fortran_order else "C", dtype, start)


def header_of(path: Path) -> Header:
    """Read the header of a file on this machine. Raises InfoAEError as `header` does."""
    try:
        size = check_file(path)
        with unreadable(), path.open("rb") as file:
            return header(file, str(path), size)
    except UnreadableImageError as error:
        raise InfoAEError(f"{path} cannot be read as .npy: {error}") from None


def mapped(path: Path) -> NDArray[Any]:
    """Return the array of a file, mapped into memory. Raises InfoAEError as `header` does."""
    found = header_of(path)
    if not math.prod(found.shape):
        return np.empty(found.shape, found.dtype)  # nothing cannot be mapped
    try:
        with unreadable():
            return np.memmap(path, found.dtype, "r", found.start, found.shape, found.order)
    except UnreadableImageError as error:
        raise InfoAEError(f"{path} cannot be read as .npy: {error}") from None
