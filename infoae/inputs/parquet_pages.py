"""The headers of a Parquet file's pages, which alone bound the memory that reading it takes.

What the file's end states of a column may be false. pyarrow allocates for each page what the header of that page
states, and inflates it whole; it has no limit of its own. The headers are structs in Thrift's compact protocol.
"""

from __future__ import annotations

import os
from typing import IO, Any

from infoae.limits import MAX_PAGE_BYTES

# Fields of a header, and of what it says of a dictionary or of data, which has two versions.
_SIZE, _COMPRESSED_SIZE, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8
_NUM_VALUES = 1
_ENCODING = {_DATA: 2, _DICTIONARY: 2, _DATA_2: 4}

_BOUNDED = {0, 2, 8}
"""Encodings that take no more memory than the page: plain, and of a dictionary. In the others (delta) a few bytes of
the page state how many lengths to make room for, up to 8 GB."""
_ENTRY_BYTES = 16
"""That pyarrow takes for an entry of a dictionary, beside its bytes."""


def check_pages(file: IO[bytes], chunk: Any) -> None:
    """Look at each page of a column of a row group, as `chunk` (pyarrow's ColumnChunkMetaData) says where it lies.

    Raises ValueError if reading one would take more memory than MAX_PAGE_BYTES allows, and whatever it may be if a
    header is damaged.
    """
    first = chunk.dictionary_page_offset if chunk.has_dictionary_page else None
    file.seek(min(chunk.data_page_offset, first or chunk.data_page_offset))
    values = 0
    while values < chunk.num_values:  # as pyarrow does, which goes on beyond the size that is stated
        header = _struct(file)
        sizes = [header[_SIZE], header[_COMPRESSED_SIZE]]
        for kind in _ENCODING.keys() & header.keys():
            number, encoding = header[kind][_NUM_VALUES], header[kind][_ENCODING[kind]]
            if encoding not in _BOUNDED:
                raise ValueError(
                    f"pages in encoding {encoding}, which is not read: write them plain or as a dictionary"
                )
            if kind == _DICTIONARY:
                sizes.append(number * _ENTRY_BYTES)
            else:
                values += max(number, 0)
        if not (min(sizes) >= 0 and max(sizes) <= MAX_PAGE_BYTES):
            raise ValueError(f"a page of {max(sizes)} bytes, more than {MAX_PAGE_BYTES}")
        file.seek(header[_COMPRESSED_SIZE], os.SEEK_CUR)


def _struct(file: IO[bytes]) -> dict[int, Any]:
    """Read a struct: its whole numbers and structs by the number of their field; all else is passed over."""
    found: dict[int, Any] = {}
    field = 0
    while byte := _byte(file):
        field = field + (byte >> 4) if byte >> 4 else _signed(file)
        value = _value(file, byte & 15)
        if value is not None:
            found[field] = value
    return found


def _value(file: IO[bytes], kind: int) -> Any:
    match kind:
        case 1 | 2:  # true and false, which the kind itself says
            return None
        case 3 | 7:  # a byte, a float
            file.seek(1 if kind == 3 else 8, os.SEEK_CUR)
            return None
        case 4 | 5 | 6:
            return _signed(file)
        case 8:
            file.seek(_unsigned(file), os.SEEK_CUR)
            return None
        case 12:
            return _struct(file)
    raise ValueError(f"a page header with a value of kind {kind}")  # lists and maps are in none


def _byte(file: IO[bytes]) -> int:
    for byte in file.read(1):
        return byte
    raise EOFError("the file ends within the header of a page")


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
    raise ValueError("a page header with an endless number")
