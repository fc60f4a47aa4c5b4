"""The header of a `.npy` array, read so that nothing it states is believed before it is looked at."""

from __future__ import annotations

import io
from typing import IO, Any

import numpy as np

from infoae.limits import MAX_HEADER_BYTES


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
    shape, fortran_order, dtype = read(io.BytesIO(stated + file.read(length)))
    if any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape}")
    return shape, fortran_order, dtype
