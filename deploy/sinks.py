"""Where rows go: one CSV, JSONL or Parquet file that appears whole, or standard output.

A file grows as parts in a hidden folder beside it. Each part is written atomically and its name says all that a resumed
job must know: how many rows it holds, how many of them failed, and a digest of their keys. So a job may be killed at
any moment: what has a name is whole, and what has none never happened. At the end the parts become the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from infoae.deploy.formats import FORMATS, Format, TextFormat
from infoae.errors import InfoAEError, UsageError
from infoae.files import atomic_file, write_json

PART_ROWS = 65536
PART_SECONDS = 30.0
"""A part ends at so many rows or so many seconds, whichever is first: this much work an interruption may cost."""
_PART = re.compile(r"(\d{8})-(\d+)-(\d+)-([0-9a-f]{64})")


class Sink(Protocol):
    """Takes the rows of a result in order."""

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int) -> None:
        """Add rows; `keys` are those of their inputs."""


@dataclass(frozen=True)
class Part:
    """Rows that are safely stored: their number, how many have an error, and the digest of their keys."""

    file: Path
    num_rows: int
    num_failed: int
    digest: str


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

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int) -> None:  # noqa: ARG002
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
            raise InfoAEError(f"cannot write to standard output: {error.strerror or error}") from error


class FileSink:
    """A result file in the making. Opened by `open_file`; `parts` are those that an interrupted job left."""

    def __init__(self, path: Path, form: Format, schema: pa.Schema, folder: Path, parts: list[Part]) -> None:
        self.parts = parts
        self._path, self._format, self._schema, self._folder = path, form, schema, folder
        self._pending: list[tuple[pa.RecordBatch, Sequence[str], int]] = []
        self._num_pending, self._started = 0, time.monotonic()

    def write(self, rows: pa.RecordBatch, keys: Sequence[str], num_failed: int) -> None:
        """Take rows, the keys they answer and how many of these failed; store a part when it is large or old enough."""
        self._pending.append((rows, keys, num_failed))  # in one piece: Ctrl-C may come between any two lines
        self._num_pending += len(keys)
        if self._num_pending >= PART_ROWS or time.monotonic() - self._started >= PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Store the rows so far as a part."""
        if not self._pending:
            return
        digest = KeyDigest()
        for _, keys, _ in self._pending:
            digest.update(keys)
        num_rows = sum(len(keys) for _, keys, _ in self._pending)
        num_failed = sum(failed for _, _, failed in self._pending)
        file = self._folder / f"{len(self.parts):08d}-{num_rows}-{num_failed}-{digest.hexdigest()}"
        with atomic_file(file) as temporary, temporary.open("wb") as stream:
            self._format.write(stream, [rows for rows, _, _ in self._pending])
        part = Part(file, num_rows, num_failed, digest.hexdigest())
        self.parts, self._pending = [*self.parts, part], []  # nothing comes between the two
        self._num_pending, self._started = 0, time.monotonic()

    def finish(self) -> None:
        """Make the file of the parts, and give them up."""
        self.flush()
        joined = self._folder / "joined"  # in the folder, so that a job killed here leaves nothing beside it
        with atomic_file(joined) as temporary, temporary.open("wb") as stream:
            self._format.join(stream, [part.file for part in self.parts], self._schema)
        joined.replace(self._path)
        self.discard()

    def discard(self) -> None:
        """Give up the folder, at once: one that is half deleted would look like an interrupted job."""
        self._folder.rename(_finished_folder(self._path))


@contextmanager
def open_file(path: Path, form: Format, schema: pa.Schema, job: dict[str, Any], *, resume: bool) -> Iterator[FileSink]:
    """Yield the sink for `path`, which appears when the block ends well; otherwise the parts stay, to be resumed.

    `job` is JSON that says what makes the rows (model, columns). Raises InfoAEError if `path` cannot be written, if an
    interrupted job is there and `resume` is false or `job` is another, and if another process is writing `path`.
    """
    if path.is_dir():
        raise InfoAEError(f"cannot write {path}: it is a folder")
    folder, finished = path.parent / f".{path.name}.partial", _finished_folder(path)
    try:
        if finished.exists():  # that job was killed while it tidied up
            shutil.rmtree(finished)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("ab") as lock:
            lock_for(lock, path)
            sink = FileSink(path, form, schema, folder, _unfinished(path, folder, job, resume))
            try:
                yield sink
            except BaseException:
                sink.flush()  # also for Ctrl-C and --max-errors: what has been computed is kept
                if not sink.parts:
                    sink.discard()
                raise
            sink.finish()
    except OSError as error:
        raise InfoAEError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(finished, ignore_errors=True)  # now that the lock is closed: NFS keeps a file that is open


def format_of(path: Path) -> Format:
    """Return the format that the ending of `path` stands for. Raises UsageError for another ending."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--out {path}: end it in {', '.join(FORMATS)}")
    return FORMATS[path.suffix.lower()]


def _finished_folder(path: Path) -> Path:
    return path.parent / f".{path.name}.finished"


def _unfinished(path: Path, folder: Path, job: dict[str, Any], resume: bool) -> list[Part]:
    """The parts of the interrupted job in `folder`, or, if there is none, `job` set down as the one that starts."""
    description = folder / "job.json"
    parts = [
        Part(file, int(match[2]), int(match[3]), match[4])
        for file in sorted(folder.iterdir())
        if (match := _PART.fullmatch(file.name))
    ]
    if not parts:
        write_json(description, job)
        return []
    done = sum(part.num_rows for part in parts)
    if not resume:
        raise InfoAEError(
            f"an interrupted job for {path} has {done} rows: continue it with --resume, or delete {folder} to start "
            "again"
        )
    if json.loads(description.read_text(encoding="utf-8")) != job:
        raise InfoAEError(
            f"the interrupted job for {path} used another model, names, columns, --column or format: repeat its "
            f"command, or delete {folder} to start again"
        )
    assert [int(part.file.name[:8]) for part in parts] == list(range(len(parts))), folder
    return parts


def lock_for(file: IO[bytes], path: Path) -> None:
    """Hold `file` for the job that writes `path`, until it is closed or the process dies, however it dies."""
    if sys.platform == "win32":
        return  # there an open file cannot be replaced, which protects the parts well enough
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InfoAEError(f"another job is writing {path} now") from error
