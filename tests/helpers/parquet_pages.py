"""Parquet files whose pages take more memory than their end says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

PLAIN, DELTA_LENGTH, RLE = 0, 6, 3
DATA, DICTIONARY = 0, 2
LEVELS = (2).to_bytes(4, "little") + b"\x06\x01"
"""Of three values, none of them null."""


def number(value: int) -> bytes:
    """A whole number in Thrift's compact protocol: zigzag, seven bits a byte."""
    return natural(value << 1 if value >= 0 else ~(value << 1))


def natural(value: int) -> bytes:
    head = bytes([value & 127 | 128]) if value > 127 else b""
    return head + natural(value >> 7) if head else bytes([value])


def header(kind: int, size: int, compressed: int, values: int, encoding: int = PLAIN) -> bytes:
    """The header of a page: fields 1, 2 and 3, and a struct as field 5 of data, 7 of a dictionary."""
    start = b"\x15" + number(kind) + b"\x15" + number(size) + b"\x15" + number(compressed)
    inner = b"\x15" + number(values) + b"\x15" + number(encoding)
    if kind == DICTIONARY:
        return start + b"\x4c" + inner + b"\0\0"
    return start + b"\x2c" + inner + 2 * (b"\x15" + number(RLE)) + b"\0\0"


def with_page(path: Path, page: bytes, compression: str = "zstd") -> None:
    """Write three images, and over the first page of their column another, of which the file's end knows nothing."""
    image = np.random.default_rng(0).integers(0, 256, 500_000, dtype=np.uint8).tobytes()
    table = pa.table({"image": pa.array([image + bytes([n]) for n in range(3)], pa.binary())})
    parquet.write_table(
        table, path, compression=compression, use_dictionary=page.startswith(b"\x15" + number(DICTIONARY))
    )
    content = bytearray(path.read_bytes())
    content[4 : 4 + len(page)] = page
    path.write_bytes(content)


def inflating(path: Path, size: int) -> None:
    """Three images, of which the first has so many bytes, all zero, that take no room in the file."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(LEVELS + size.to_bytes(4, "little"))
        for start in range(0, size, 2**26):
            stream.write(bytes(min(2**26, size - start)))
    payload = sink.getvalue().to_pybytes()
    with_page(path, header(DATA, len(LEVELS) + 4 + size, len(payload), 3) + payload)


def lengths_without_end(path: Path) -> None:
    """Three images whose lengths are encoded as differences: 2**30 of them, all 0, in a few bytes."""
    differences = natural(2**30) + natural(4) + natural(2**30) + number(0) + number(0) + bytes(4)
    payload = LEVELS + differences
    with_page(path, header(DATA, len(payload), len(payload), 3, DELTA_LENGTH) + payload, "none")


def dictionary_without_end(path: Path) -> None:
    """Three images of a dictionary that states 2**30 entries."""
    with_page(path, header(DICTIONARY, 4, 4, 2**30) + bytes(4), "none")
