"""IDX, the file format of MNIST: a magic number, the dimensions, then the values."""

from __future__ import annotations

import io
import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


class Stream(Protocol):
    """What a header is read from: a file, or one that is inflated as it is read."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes."""


def read_header(file: Stream) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read up to the first value and return shape and type of the array. Raises ValueError with what is wrong."""
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[3] == 0:
        raise ValueError("not an IDX file")
    kind, num_dims = start[2], start[3]
    if kind not in _TYPES:
        raise ValueError(f"IDX values of unknown type 0x{kind:02x}")
    sizes = file.read(4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise ValueError("IDX header cut short")
    return tuple(np.frombuffer(sizes, ">u4").tolist()), np.dtype(_TYPES[kind])


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file in their shape. Raises ValueError with what is wrong."""
    file = io.BytesIO(content)
    shape, dtype = read_header(file)
    if dtype != np.uint8:
        raise ValueError(f"IDX values of type {dtype.name}; only unsigned bytes (uint8) are images or labels")
    start, expected = file.tell(), math.prod(shape)
    if len(content) - start != expected:
        raise ValueError(f"IDX header promises {expected} bytes of shape {shape}, the file has {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
