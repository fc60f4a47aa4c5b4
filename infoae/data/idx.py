"""IDX, the file format of MNIST: a magic number, the dimensions, then the values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Return the unsigned bytes of an IDX file in their shape. Raises ValueError with what is wrong."""
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError("not an IDX file")
    kind, num_dims = content[2], content[3]
    if kind != 0x08:
        raise ValueError(f"IDX values of type 0x{kind:02x}; only unsigned bytes (0x08) are images or labels")
    start = 4 + 4 * num_dims
    if len(content) < start:
        raise ValueError("IDX header cut short")
    shape = [int(n) for n in np.frombuffer(content, ">u4", num_dims, offset=4)]
    expected = int(np.prod(shape, dtype=np.uint64)) if shape else 0
    if len(content) - start != expected:
        raise ValueError(f"IDX header promises {expected} bytes of shape {shape}, the file has {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
