"""The headers of a Parquet file's pages, which alone bound the memory that reading it takes.

What the file's end states of a column may be false. pyarrow allocates for each page what the header of that page
states, and inflates it whole; it has no limit of its own.
"""

from __future__ import annotations

import os
from typing import IO

from infoae.inputs.parquet_footer import Chunk
from infoae.inputs.thrift import read_struct
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


def check_pages(file: IO[bytes], chunk: Chunk) -> None:
    """Look at each page of a column of a row group, as `chunk` says where it lies.

    Raises ValueError if reading one would take more memory than MAX_PAGE_BYTES allows, and whatever it may be if a
    header is damaged.
    """
    file.seek(min(chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset))
    values = 0
    while values < chunk.num_values:  # as pyarrow does, which goes on beyond the size that is stated
        header = read_struct(file)
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
