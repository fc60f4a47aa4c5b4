"""Where rows go: one CSV, JSONL or Parquet file that appears whole, or standard output.

A file grows as parts in the hidden folder of its job (see `job_folder`). The name of a part says what a resumed job
must know: how many rows it holds, how many of them failed, a digest of their keys, and one of the part itself. Where
answers are counted, a file of its name, begun with `_counts-`, holds the counts. At the end the parts become the file.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from infoae.deploy.formats import FORMATS, Csv, Format, TextFormat
from infoae.deploy.job_folder import open_job
from infoae.deploy.reference import Counts
from infoae.errors import InfoAEError, Notice, UsageError, counted, one_line
from infoae.files import atomic_file, write_json

PART_ROWS = 65536
PART_SECONDS = 30.0
"""A part ends at so many rows or so many seconds, whichever is first: this much work an interruption may cost."""
_COUNTS = "_counts-"
_PART = re.compile(r"(\d{8})-(\d+)-(\d+)-([0-9a-f]{64})-([0-9a-f]{64})")


class Sink(Protocol):
    """Takes the rows of a result in order."""

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int, seen: Counts) -> None:
        """Add N rows; `keys` are those of their N inputs, `num_failed` of them unreadable, and `seen` the others."""


@dataclass(frozen=True)
class Part:
    """Rows that are safely stored: their number, how many have an error, the digest of their keys, and counts."""

    file: Path
    num_rows: int
    num_failed: int
    digest: str
    seen: Counts = field(default_factory=Counts)


class KeyDigest:
    """A digest over the keys of consecutive inputs, however they are cut into blocks."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, keys: Sequence[str]) -> None:
        """Add the next keys."""
        if keys:
            self._hash.update(("\0".join(keys) + "\0").encode())

    def hexdigest(self) -> str:
        """Return the digest of all keys so far."""
        return self._hash.hexdigest()


class StandardOutput:
    """Rows on standard output as they come, as CSV or JSONL."""

    def __init__(self, form: TextFormat, schema: pa.Schema) -> None:
        self._format = form
        self._write(lambda file: file.write(form.header(schema)))

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int, seen: Counts) -> None:  # noqa: ARG002
        """Write rows at once. Raises InfoAEError where they cannot be, SystemExit(1) if the reader has gone."""
        self._write(lambda file: self._format.write(file, [rows]))

    @staticmethod
    def _write(action: Callable[[IO[bytes]], object]) -> None:
        try:
            action(sys.stdout.buffer)
            sys.stdout.buffer.flush()
        except BrokenPipeError as error:  # the reader, `head` say, has enough: no fault, but not all was written
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            raise SystemExit(1) from error
        except OSError as error:
            raise InfoAEError(f"cannot write to standard output: {one_line(error)}") from error


class FileSink:
    """A result file in the making. Opened by `open_file`; `parts` are those that an interrupted job left."""

    def __init__(self, path: Path, form: Format, schema: pa.Schema, folder: Path, parts: list[Part]) -> None:
        self.parts = parts
        self._path, self._format, self._schema, self._folder = path, form, schema, folder
        self._pending: list[tuple[pa.RecordBatch, Sequence[str], int, Counts]] = []
        self._num_pending, self._started = 0, time.monotonic()

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int, seen: Counts) -> None:
        """Take rows, as Sink has them; store a part when it is large or old enough."""
        self._pending.append((rows, keys, num_failed, seen))  # in one piece: Ctrl-C may come between any two lines
        self._num_pending += len(keys)
        if self._num_pending >= PART_ROWS or time.monotonic() - self._started >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store the rows so far as a part. Raises OSError."""
        if not self._pending:
            return
        digest = KeyDigest()
        for _, keys, *_ in self._pending:
            digest.update(keys)
        num_rows = sum(len(keys) for _, keys, *_ in self._pending)
        num_failed = sum(failed for *_, failed, _ in self._pending)
        seen = sum((counts for *_, counts in self._pending), Counts())
        content = io.BytesIO()
        self._format.write(content, [rows for rows, *_ in self._pending])
        hashed = hashlib.sha256(content.getbuffer()).hexdigest()
        file = self._folder / f"{len(self.parts):08d}-{num_rows}-{num_failed}-{digest.hexdigest()}-{hashed}"
        if seen != Counts():  # first: a part that has its name has its counts
            write_json(_counts_of(file), seen.model_dump())
        with atomic_file(file) as temporary:
            temporary.write_bytes(content.getbuffer())
        part = Part(file, num_rows, num_failed, digest.hexdigest(), seen)
        self.parts, self._pending = [*self.parts, part], []  # nothing comes between the two
        self._num_pending, self._started = 0, time.monotonic()

    def finish(self) -> None:
        """Make the file of the parts, in place of an older one. Raises OSError."""
        self.flush()
        joined = self._folder / "joined"  # in the folder, so that a job killed here leaves nothing beside it
        with atomic_file(joined) as temporary, temporary.open("wb") as stream:
            self._format.join(stream, [part.file for part in self.parts], self._schema)
        joined.replace(self._path)


@contextmanager
def open_file(path: Path, form: Format, schema: pa.Schema, job: dict[str, Any], *, resume: bool) -> Iterator[FileSink]:
    """Yield the sink for `path`, which appears when the block ends well; otherwise the parts stay, to be resumed.

    `job` is JSON that says what makes the rows (model, columns), and whether they are "counted". Raises InfoAEError if
    `path` cannot be written, if an interrupted job is there and `resume` is false or `job` is another, and if another
    process is writing `path`.
    """
    if path.is_dir():
        raise InfoAEError(f"cannot write {path}: it is a folder")
    with open_job(path) as folder:
        parts = _stored_parts(folder.path, counted=job.get("counted", False))
        stored = counted(sum(part.num_rows for part in parts), "row") if parts else None
        folder.take(job, stored=stored, resume=resume, differences="model, names, columns, --column or format")
        sink = FileSink(path, form, schema, folder.path, parts)
        try:
            yield sink
        except BaseException:
            sink.flush()  # also for Ctrl-C and --max-errors: what has been computed is kept
            if not sink.parts:
                folder.give_up()
            raise
        sink.finish()
        folder.give_up()


def format_of(path: Path, *, raw_csv: bool = False) -> Format:
    """Return the format that the ending of `path` stands for; CSV as it is with `raw_csv`.

    Raises UsageError for another ending, and where `raw_csv` is asked for and the format is none.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {path}: end it in {', '.join(FORMATS)}")
    if raw_csv and path.suffix.lower() != ".csv":
        raise UsageError(f"--raw-csv is of CSV, and --out {path} is none")
    return Csv(raw=True) if raw_csv else FORMATS[path.suffix.lower()]


def _stored_parts(folder: Path, *, counted: bool) -> list[Part]:
    """Return the parts in order; one that is damaged and all after it are removed, their rows made again.

    One that must have been `counted`, and has no counts, is damaged.
    """
    parts: list[Part] = []
    for file in sorted(folder.iterdir()):
        match = _PART.fullmatch(file.name)
        if match is None:
            continue
        seen = _read_counts(file) if counted else Counts()
        if int(match[1]) != len(parts) or _sha256(file) != match[5] or seen is None:
            warnings.warn(
                Notice(f"{file} is damaged or the one before it missing: these rows are made again"), stacklevel=3
            )
            file.unlink()
            continue
        parts.append(Part(file, int(match[2]), int(match[3]), match[4], seen))
    return parts


def _counts_of(part: Path) -> Path:
    return part.with_name(_COUNTS + part.name)


def _read_counts(part: Path) -> Counts | None:
    try:
        return Counts.model_validate_json(_counts_of(part).read_bytes())
    except (OSError, ValueError):
        return None


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
