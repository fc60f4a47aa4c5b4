"""What the end of a Parquet file says of its columns.

It is read here, since pyarrow ends the process where a column is damaged and its metadata are asked for. The end is a
struct in Thrift's compact protocol, whose fields have numbers.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_ROW_GROUPS, _COLUMNS, _DESCRIPTION = 4, 1, 3
_PATH, _NUM_VALUES, _UNCOMPRESSED, _DATA_OFFSET, _DICTIONARY_OFFSET = 3, 5, 6, 9, 11


@dataclass(frozen=True)
class Chunk:
    """A column of a row group: its path in the schema, values, bytes, and where its pages begin in the file."""

    path: str
    num_values: int
    uncompressed_size: int
    data_offset: int
    dictionary_offset: int | None


def read_chunks(path: str) -> list[list[Chunk]]:
    """Return the columns of each row group. Raises ValueError, EOFError or TypeError where the end is damaged."""
    with Path(path).open("rb") as file:
        file.seek(-8, os.SEEK_END)
        length = int.from_bytes(file.read(4), "little")
        size = file.seek(0, os.SEEK_END)
        file.seek(size - 8 - min(length, size - 8))
        end = read_struct(io.BytesIO(file.read(length)))
    try:
        return [[_chunk(column[_DESCRIPTION]) for column in group[_COLUMNS]] for group in end[_ROW_GROUPS]]
    except KeyError as error:
        raise ValueError(f"the file's end says nothing of its field {error}") from None


def _chunk(found: dict[int, Any]) -> Chunk:
    path = b".".join(found[_PATH]).decode()
    dictionary = found.get(_DICTIONARY_OFFSET)
    return Chunk(path, found[_NUM_VALUES], found[_UNCOMPRESSED], found[_DATA_OFFSET], dictionary)


def read_struct(file: IO[bytes]) -> dict[int, Any]:
    """Read a struct: each value by the number of its field. Raises ValueError or EOFError where it is damaged."""
    found: dict[int, Any] = {}
    field = 0
    while byte := _byte(file):
        field = field + (byte >> 4) if byte >> 4 else _signed(file)
        found[field] = byte & 15 == 1 if byte & 15 in (1, 2) else _value(file, byte & 15)
    return found


def _value(file: IO[bytes], kind: int) -> Any:
    match kind:
        case 1 | 2 | 3:  # true and false in a list, and a byte
            return _byte(file)
        case 4 | 5 | 6:
            return _signed(file)
        case 7:
            return _exactly(file, 8)
        case 8:
            return _exactly(file, _unsigned(file))
        case 9 | 10:
            byte = _byte(file)
            count = _unsigned(file) if byte >> 4 == 15 else byte >> 4
            return [_value(file, byte & 15) for _ in range(count)]  # each takes a byte, or the end comes first
        case 12:
            return read_struct(file)
    raise ValueError(f"a value of kind {kind} in the file's end")


def _exactly(file: IO[bytes], size: int) -> bytes:
    content = file.read(size)
    if len(content) < size:
        raise EOFError("the file's end is cut short")
    return content


def _byte(file: IO[bytes]) -> int:
    return _exactly(file, 1)[0]


def _signed(file: IO[bytes]) -> int:
    number = _unsigned(file)
    return (number >> 1) ^ -(number & 1)


def _unsigned(file: IO[bytes]) -> int:
    number = 0
    for shift in range(0, 70, 7):
        byte = _byte(file)
        number |= (byte & 127) << shift
        if byte < 128:
            return number
    raise ValueError("an endless number in the file's end")
