"""CSV, JSONL and Parquet: how Arrow rows become bytes, and parts become one file."""

from __future__ import annotations

import io
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
from pyarrow import compute, csv, parquet

from infoae.errors import printable

_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # wide ones too: some programs fold them
_UNSAFE = r"^[=+\-@＝＋－＠]|[^\pL\pM\pN\pP\pS\p{Zs}]"
"""What `safe_text` may change, in the words of RE2."""


class Format(ABC):
    """A file format for rows."""

    @abstractmethod
    def write(self, file: IO[bytes], batches: Sequence[pa.RecordBatch]) -> None:
        """Write rows to `file`, without what stands before the first row of a whole file."""

    @abstractmethod
    def join(self, file: IO[bytes], parts: Sequence[Path], schema: pa.Schema) -> None:
        """Write a whole file to `file` from `parts` made by `write`; `schema` is that of their rows."""


class TextFormat(Format):
    """A format in which rows can follow each other in a stream."""

    def header(self, schema: pa.Schema) -> bytes:  # noqa: ARG002
        """Return what stands before the first row."""
        return b""

    def join(self, file: IO[bytes], parts: Sequence[Path], schema: pa.Schema) -> None:
        """Write the header, then the bytes of each part."""
        file.write(self.header(schema))
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)


class Csv(TextFormat):
    """UTF-8, a header line, text in quotes, a missing value empty; the latent is `latent_0`, `latent_1` and so on.

    Text is safe to open in a spreadsheet or on a terminal (`safe_text`), unless `raw`.
    """

    def __init__(self, *, raw: bool = False) -> None:
        self._raw = raw

    def header(self, schema: pa.Schema) -> bytes:
        """Return the line of column names."""
        buffer = io.BytesIO()
        csv.write_csv(_without_lists(pa.RecordBatch.from_pylist([], schema)), buffer)
        return buffer.getvalue()

    def write(self, file: IO[bytes], batches: Sequence[pa.RecordBatch]) -> None:
        """Write a line for each row."""
        for batch in batches:
            batch = _without_lists(batch) if self._raw else _safe(_without_lists(batch))
            csv.write_csv(batch, file, csv.WriteOptions(include_header=False))


class Jsonl(TextFormat):
    """One JSON object a line; the latent is a list."""

    def write(self, file: IO[bytes], batches: Sequence[pa.RecordBatch]) -> None:
        """Write an object for each row."""
        for batch in batches:
            file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in batch.to_pylist()).encode())


class Parquet(Format):
    """Parquet; the latent is a list of fixed size."""

    def write(self, file: IO[bytes], batches: Sequence[pa.RecordBatch]) -> None:
        """Write a whole Parquet file: a part can be read by itself."""
        parquet.write_table(pa.Table.from_batches(batches), file)

    def join(self, file: IO[bytes], parts: Sequence[Path], schema: pa.Schema) -> None:
        """Write the row groups of each part into one file."""
        with parquet.ParquetWriter(file, schema) as writer:
            for part in parts:
                with parquet.ParquetFile(part) as content:
                    writer.write_table(content.read())


FORMATS: dict[str, Format] = {".csv": Csv(), ".jsonl": Jsonl(), ".parquet": Parquet()}
"""The formats by the ending of a file's name."""


def safe_text(text: str) -> str:
    r"""Return a text as CSV may have it: a spreadsheet runs what begins with =, +, - or @, a terminal what \x1b begins.

    The former gets a ' in front, which spreadsheets take for "this is text"; the latter is written as \x1b, line ends
    as \n.
    """
    text = printable(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _safe(batch: pa.RecordBatch) -> pa.RecordBatch:
    for index, field in enumerate(batch.schema):
        if pa.types.is_string(field.type):
            column = batch.column(index)
            if compute.any(compute.match_substring_regex(column, _UNSAFE)).as_py():
                texts = [None if text is None else safe_text(text) for text in column.to_pylist()]
                batch = batch.set_column(index, field, pa.array(texts, field.type))
    return batch


def _without_lists(batch: pa.RecordBatch) -> pa.RecordBatch:
    """CSV has no lists: the latent becomes one column for each of its dimensions."""
    if "latent" not in batch.schema.names:
        return batch
    latent = batch.column("latent")
    values = np.asarray(latent.values).reshape(len(batch), latent.type.list_size)
    missing = np.asarray(latent.is_null())
    batch = batch.drop_columns(["latent"])
    for index in range(values.shape[1]):
        batch = batch.append_column(f"latent_{index}", pa.array(values[:, index], mask=missing))
    return batch
