"""The end of a Parquet file: read as pyarrow reads it, and where it is damaged, without the end of the process."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from infoae.inputs.parquet_footer import read_chunks
from infoae.inputs.thrift import read_struct
from tests.helpers.inputs import png, read


@pytest.mark.parametrize(
    "options", [{}, {"use_dictionary": False, "compression": "none"}, {"write_page_index": True, "compression": "zstd"}]
)
def test_it_says_what_pyarrow_says(options: dict[str, Any], tmp_path: Path) -> None:
    images = [{"bytes": png(row % 5), "path": f"{row}.png"} for row in range(40)]
    table = pa.table({"image": images, **{f"x{number}": range(40) for number in range(20)}})  # a list of over 15
    parquet.write_table(table, tmp_path / "x.parquet", row_group_size=16, **options)
    metadata = parquet.read_metadata(tmp_path / "x.parquet")
    found = read_chunks(str(tmp_path / "x.parquet"))
    assert [len(group) for group in found] == [22] * 3
    for number, group in enumerate(found):
        for column, chunk in enumerate(group):
            known = metadata.row_group(number).column(column)
            assert (chunk.path_in_schema, chunk.num_values) == (known.path_in_schema, known.num_values)
            assert chunk.total_uncompressed_size == known.total_uncompressed_size
            assert chunk.data_page_offset == known.data_page_offset
            assert chunk.dictionary_page_offset == (known.dictionary_page_offset if known.has_dictionary_page else None)


def test_a_column_that_pyarrow_cannot_be_asked_for_ends_no_process(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"image": [png(1), png(2)], "label": [1, 2]}), tmp_path / "x.parquet")
    content = (tmp_path / "x.parquet").read_bytes()
    optional, required = b"\x25\x02\x18\x05label", b"\x25\x00\x18\x05label"  # so its statistics do not fit
    assert content.count(optional) == 1
    (tmp_path / "x.parquet").write_bytes(content.replace(optional, required))
    assert read(tmp_path / "x.parquet")[2] == [None, None]


@given(st.binary(max_size=60))
def test_any_bytes_are_a_struct_or_a_reason(content: bytes) -> None:
    try:
        read_struct(io.BytesIO(content))
    except (ValueError, EOFError) as error:
        assert str(error)


@given(data=st.data())
def test_a_damaged_end_is_a_reason(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("x") / "x.parquet"
    parquet.write_table(pa.table({"image": [png(1), None]}), path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(len(content) - 400, len(content) - 9))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    keys, _, errors = read(path)
    assert len(keys) == len(errors)
