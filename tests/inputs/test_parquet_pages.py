"""What reading a page would take is looked at before it is read, and every honest page passes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae.inputs.parquet_footer import Chunk, read_chunks
from infoae.inputs.parquet_pages import check_pages
from tests.helpers import parquet_pages as pages


def checked(path: Path) -> None:
    with path.open("rb") as file:
        for chunk in read_chunks(str(path))[0]:
            check_pages(file, chunk)


@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False}, {"data_page_version": "2.0"}, {"data_page_size": 9}]
)
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_honest_pages_pass(tmp_path: Path, options: dict[str, Any], compression: str) -> None:
    images = [bytes([number % 7]) * 1000 for number in range(3000)]
    images[5] = None  # type: ignore[call-overload]
    structs = pa.array([{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)])
    table = pa.table({"image": pa.array(images, pa.binary()), "struct": structs})
    parquet.write_table(table, tmp_path / "x.parquet", compression=compression, write_page_checksum=True, **options)
    checked(tmp_path / "x.parquet")


def test_a_page_that_takes_too_much_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pages.inflating(path, 2**30)
    with pytest.raises(
        ValueError, match=r"a page of 1073741834 bytes, more than .* \(INFOAE_MAX_PAGE_BYTES raises it\)"
    ):
        checked(path)
    pages.lengths_without_end(path)
    with pytest.raises(ValueError, match="pages in encoding 6, which is not read: write them plain or as a dictionary"):
        checked(path)
    pages.dictionary_without_end(path)
    with pytest.raises(ValueError, match=f"a page of {16 * 2**30} bytes, more than"):
        checked(path)


@pytest.mark.parametrize("sizes", [(-1, 4), (4, -1), (2**31, 4), (4, 2**31)])
def test_sizes_of_a_page_are_sizes(tmp_path: Path, sizes: tuple[int, int]) -> None:
    pages.with_page(tmp_path / "x.parquet", pages.header(pages.DATA, *sizes, 3))
    with pytest.raises(ValueError, match=r"a page of -?\d+ bytes"):
        checked(tmp_path / "x.parquet")


@pytest.mark.parametrize("content", [b"", b"\x15", b"\x15\x00", b"\xff" * 100, b"\x15" + b"\x80" * 100, b"\x1c" * 5000])
def test_a_damaged_header_ends(content: bytes) -> None:
    with pytest.raises((ValueError, EOFError, KeyError, RecursionError)):
        check_pages(io.BytesIO(content), Chunk("image", 3, 0, 0, None))
