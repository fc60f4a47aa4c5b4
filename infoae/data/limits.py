"""The largest sizes that an input may state, each compared before anything is allocated or looped over.

Each can be raised by an environment variable of its name with INFOAE_ before it, as INFOAE_MAX_PIXELS=200000000.
"""

from __future__ import annotations

import os

from infoae.errors import UsageError


def _limit(name: str, default: int) -> int:
    given = os.environ.get(f"INFOAE_{name}", str(default))
    if not (given.isascii() and given.isdecimal() and 0 < len(given) < 19 and int(given)):
        raise UsageError(f"INFOAE_{name}={given[:50]!r}: give a whole number from 1")
    return int(given)


MAX_PIXELS = _limit("MAX_PIXELS", 64_000_000)
"""Pixels of an image (64 megapixels are 256 MB as RGBA)."""
MAX_BYTES = _limit("MAX_BYTES", 512 * 1024 * 1024)
"""Bytes of one encoded image: a file, a member of an archive, a row of a column."""
MAX_EXPANSION = _limit("MAX_EXPANSION", 2000)
"""Times as large a compressed container may become; up to FREE_EXPANSION it may in any case."""
MAX_ROWS_PER_BYTE = _limit("MAX_ROWS_PER_BYTE", 100)
"""Rows for each byte of a Parquet file: a run of nulls, or of one image, takes no room."""

FREE_EXPANSION = 1024 * 1024 * 1024
MAX_HEADER_BYTES = 1024 * 1024
"""Bytes of a header that only describes: of a .npy array, or the name and attributes of a tar member."""
MAX_NAME_BYTES = 64 * 1024
"""Bytes of one name in a list on standard input."""


def expands_too_far(size: int, compressed: int) -> bool:
    """Whether so many bytes, from so many `compressed` ones, are beyond MAX_EXPANSION."""
    return size > FREE_EXPANSION and size > MAX_EXPANSION * compressed
