"""What the end of a Parquet file says of its columns.

It is read here, since pyarrow ends the process where a column is damaged and is asked for. The end is a Thrift struct,
whose fields have numbers.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoae.inputs.thrift import read_struct

_ROW_GROUPS, _COLUMNS, _DESCRIPTION = 4, 1, 3
_PATH, _NUM_VALUES, _UNCOMPRESSED, _DATA_OFFSET, _DICTIONARY_OFFSET = 3, 5, 6, 9, 11


@dataclass(frozen=True)
class Chunk:
    """A column of a row group: its path, values, bytes, and where its pages begin, called as pyarrow calls them."""

    path_in_schema: str
    num_values: int
    total_uncompressed_size: int
    data_page_offset: int
    dictionary_page_offset: int | None


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
