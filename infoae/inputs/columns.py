"""Encoded images in a column of a Parquet file as a source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from infoae.data.unreadable import UnreadableImageError, check_file
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Block, Encoded, in_blocks, key_of
from infoae.inputs.parquet_footer import read_chunks
from infoae.inputs.parquet_pages import check_pages
from infoae.limits import MAX_BYTES, MAX_EXPANSION, MAX_ROWS_PER_BYTE, expands_too_far


@dataclass(frozen=True)
class ParquetSource:
    """A Parquet file whose `column` holds images; one input a row, keyed by the row's number.

    The column holds bytes, or structs as Hugging Face's data sets have them: `bytes`, and where these are missing the
    `path` of a file, beside the Parquet file if it is not absolute.
    """

    path: str
    column: str
    leaves: tuple[str, ...]
    num_rows: int

    @classmethod
    def open(cls, path: str, column: str | None) -> ParquetSource:
        """Choose the column.

        Raises InfoAEError if the choice is not clear, and whatever it may be if the file is damaged.
        """
        size = check_file(path)
        with parquet.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            num_rows = metadata.num_rows
            if not 0 <= num_rows <= size * MAX_ROWS_PER_BYTE:
                raise UnreadableImageError(f"{num_rows} rows in {size} bytes: more a byte than {MAX_ROWS_PER_BYTE}")
            total = sum(chunk.total_uncompressed_size for group in read_chunks(path) for chunk in group)
            if expands_too_far(total, size):
                raise UnreadableImageError(f"{total} bytes in {size}: more times as many than {MAX_EXPANSION}")
        found = {field.name: leaves for field in schema if (leaves := _leaves(field))}
        wanted = [column] if column is not None else list(found)
        if len(wanted) != 1 or wanted[0] not in found:
            raise InfoAEError(
                f"{key_of(path)}: choose with --column one of the columns that hold bytes: "
                f"{', '.join(found) or 'there is none'}"
            )
        return cls(path, wanted[0], found[wanted[0]], num_rows)

    def count(self) -> int:
        """Return the number of rows, which the file's end tells."""
        return self.num_rows

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the images of the column, as they are encoded; the key is the row's number."""
        return in_blocks(self._items(), size, key_of(self.path))

    def _items(self) -> Iterator[tuple[str, Encoded]]:
        key, row = key_of(self.path), 0
        # A buffered stream decodes page by page: a row group of large images would not fit in memory. Nor would many
        # rows at a time: a dictionary repeats one large image in no space at all.
        with (
            Path(self.path).open("rb") as pages,
            parquet.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file,
        ):
            for number, group in enumerate(read_chunks(self.path)):
                for chunk in group:
                    if chunk.path_in_schema in self.leaves:
                        check_pages(pages, chunk)
                for batch in file.iter_batches(1, [number], list(self.leaves), use_threads=False):
                    for value in batch.column(0):
                        yield f"{key}#{row}", self._image(value.as_py())
                        row += 1
        if row != self.num_rows:
            raise EOFError(f"{row} rows, where the file states {self.num_rows}")

    def _image(self, value: Any) -> Encoded:
        content, name = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if content is None and name:
            if "://" in name:
                return UnreadableImageError(f"no image, but an address: {key_of(name)}")
            return Path(self.path).parent / str(name)
        if content is None:
            return UnreadableImageError("no image: null")
        if len(content) > MAX_BYTES:
            return UnreadableImageError(f"{len(content)} bytes, more than {MAX_BYTES}")
        return bytes(content)


def _leaves(field: Any) -> tuple[str, ...]:
    """The Parquet paths of what is read of a column; none if it holds no images."""
    kind = field.type
    if not pa.types.is_struct(kind):
        return (field.name,) if _holds_bytes(kind) else ()
    kinds = {kind.field(number).name: kind.field(number).type for number in range(kind.num_fields)}
    path = kinds.get("path", pa.null())
    has_path = pa.types.is_string(path) or pa.types.is_large_string(path)
    if not (_holds_bytes(kinds.get("bytes")) or (has_path and kinds.get("bytes") == pa.null())):
        return ()
    return (f"{field.name}.bytes", *([f"{field.name}.path"] if has_path else []))


def _holds_bytes(kind: Any) -> bool:
    if kind is None:
        return False
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests) or str(kind) == "binary_view"  # which an older pyarrow lacks
