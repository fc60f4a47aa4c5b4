"""Encoded images inside larger files as a source: Parquet columns and tar archives (WebDataset shards)."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
from pyarrow import parquet

from infoae.data.limits import MAX_BYTES
from infoae.data.unreadable import UnreadableImageError
from infoae.deploy.blocks import Block, Encoded, in_blocks, key_of
from infoae.errors import InfoAEError, one_line

IMAGE_ENDINGS = frozenset(
    "avif bmp dib gif j2k jfif jp2 jpe jpeg jpg jpx pbm pgm png pnm ppm tif tiff webp".split()  # noqa: SIM905
)
"""A tar member with another ending is no image: WebDataset puts labels and captions beside each image."""


@dataclass(frozen=True)
class ParquetSource:
    """A Parquet file whose `column` holds images as bytes; one input a row, keyed by the row's number."""

    path: str
    column: str
    num_rows: int

    @classmethod
    def open(cls, path: str, column: str | None) -> ParquetSource:
        """Choose the column.

        Raises UnreadableImageError if the file is damaged, InfoAEError if the choice is not clear.
        """
        try:
            file = parquet.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise UnreadableImageError(f"cannot be opened: {one_line(error)}") from error
        with file:
            schema, num_rows = file.schema_arrow, file.metadata.num_rows
        found = {field.name: leaf for field in schema if (leaf := _bytes_leaf(field)) is not None}
        wanted = [column] if column is not None else list(found)
        if len(wanted) != 1 or wanted[0] not in found:
            raise InfoAEError(
                f"{key_of(path)}: choose with --column one of the columns that hold bytes: "
                f"{', '.join(found) or 'there is none'}"
            )
        return cls(path, found[wanted[0]], num_rows)

    def count(self) -> int:
        """Return the number of rows, which the file's end tells."""
        return self.num_rows

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the images of the column, as they are encoded; the key is the row's number."""
        return in_blocks(self._items(), size)

    def _items(self) -> Iterator[tuple[str, Encoded]]:
        key = key_of(self.path)
        row = 0
        try:
            # A buffered stream decodes page by page: a row group of large images would not fit in memory.
            with parquet.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                for batch in file.iter_batches(batch_size=32, columns=[self.column], use_threads=False):
                    values = batch.column(0)
                    if pa.types.is_struct(values.type):
                        values = values.field(0)
                    for value in values.to_pylist():
                        yield f"{key}#{row}", UnreadableImageError("no image: null") if value is None else value
                        row += 1
        except (OSError, pa.ArrowException) as error:
            yield key, UnreadableImageError(f"unreadable after row {row} of {self.num_rows}: {one_line(error)}")


class _StrictTarInfo(tarfile.TarInfo):
    """tarfile takes a damaged header after the first for the end of the archive; the rest would be lost in silence."""

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.HeaderError as error:
            if type(error).__name__ == "EOFHeaderError":  # the blocks of zeros that end an archive
                raise
            raise tarfile.ReadError(f"damaged or truncated header ({error})") from error


@dataclass(frozen=True)
class TarSource:
    """A tar archive, compressed or not, read once from front to back; one input for each member that is an image."""

    path: str

    @classmethod
    def open(cls, path: str) -> TarSource:
        """Look at the first member. Raises UnreadableImageError if the file is no tar archive."""
        try:
            with tarfile.open(path, "r|*") as archive:
                archive.next()
        except (OSError, EOFError, tarfile.TarError) as error:
            raise UnreadableImageError(f"cannot be opened: {one_line(error)}") from error
        return cls(path)

    def count(self) -> None:
        """Return None: only reading the archive tells."""

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the archive's image files in its order, as they are encoded; the key is the name of each."""
        return in_blocks(self._items(), size)

    def _items(self) -> Iterator[tuple[str, Encoded]]:
        key = key_of(self.path)
        last = "its start"
        try:
            with tarfile.open(self.path, "r|*", tarinfo=_StrictTarInfo) as archive:
                for member in iter(archive.next, None):
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps every member it has met
                    if not member.isdir() and member.name.rpartition(".")[2].lower() in IMAGE_ENDINGS:
                        yield f"{key}#{key_of(member.name)}", _content(archive, member)
                        last = key_of(member.name)
        except (OSError, EOFError, tarfile.TarError, ValueError) as error:
            yield key, UnreadableImageError(f"unreadable after {last}: {one_line(error)}")


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Encoded:
    if member.islnk() or member.issym():  # what it points to may lie anywhere; a stream does not go back
        return UnreadableImageError(
            f"a link to {key_of(member.linkname)}: pack the images themselves (tar --dereference --hard-dereference)"
        )
    if not member.isfile():
        return UnreadableImageError("not a regular file")
    if member.size > MAX_BYTES:
        return UnreadableImageError(f"{member.size} bytes, more than {MAX_BYTES}")
    file = archive.extractfile(member)
    assert file is not None, member.name
    return file.read()


def _bytes_leaf(field: Any) -> str | None:
    """The Parquet path to the bytes in a column: itself, or `bytes` in the struct of Hugging Face's datasets."""
    kind = field.type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        return _bytes_leaf_of(kind.field("bytes"), f"{field.name}.bytes")
    return _bytes_leaf_of(field, field.name)


def _bytes_leaf_of(field: Any, path: str) -> str | None:
    binary = pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type)
    return path if binary else None
