"""Results of `infoae classify` in an object store: s3://bucket/path, gs://bucket/path or file:///folder.

A folder is made where it is to lie, by all that write into it: each file is one request, so it is there whole or not at
all, and until all are there UNFINISHED lies beside them. A store has no locks, so two commands must not make the same
result. One file is made on this machine first.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from infoae.addresses import check_address, is_address, parted, within, without_options
from infoae.data import object_store
from infoae.deploy.job_folder import Job
from infoae.deploy.sinks import format_of
from infoae.errors import InfoAEError, UsageError
from infoae.files import user_cache

UNFINISHED = "_unfinished"
"""Begins with an underscore as all that readers of a folder of Parquet files pass over."""


class StoredJob(Job):
    """A folder in a store in the making, by its address. It can be sent to another process."""

    def __init__(self, address: str) -> None:
        """Raise InfoAEError if something lies there that is no job's, or as `object_store.files` does."""
        self._address = address
        self.out = self.place = without_options(address)
        self.name = parted(address)[1]
        self.log = user_cache("ray.log")
        names = self.names()
        if names and UNFINISHED not in names:
            raise InfoAEError(f"{self.out} holds {min(names)} already: delete it, or give another --out")

    def names(self) -> set[str]:
        """Return the names of the files there."""
        folder, files = object_store.below(self._address)
        if folder != self._address:
            raise InfoAEError(f"{self.out} is a file: with --ray the result is a folder")
        return {file.name for file in files}

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary file as Job has it. Raises InfoAEError as `object_store.files` does."""
        with tempfile.TemporaryDirectory(prefix="infoae-") as folder:
            yield Path(folder, name)
            object_store.write(within(self._address, name), Path(folder, name))

    @contextmanager
    def reading(self, name: str) -> Iterator[IO[bytes]]:
        """Yield the content of a file as Job has it. Raises InfoAEError as `object_store.files` does."""
        file = object_store.look(within(self._address, name))
        if file is None:
            raise FileNotFoundError(name)
        yield io.BytesIO(file.start(file.size))

    def become_result(self) -> None:
        """Say that all is there."""
        object_store.delete(within(self._address, UNFINISHED))

    def _describe(self, job: dict[str, Any]) -> None:
        object_store.write(within(self._address, UNFINISHED), b"")
        super()._describe(job)


@contextmanager
def staged(address: str) -> Iterator[Path]:
    """Yield the file of this machine that is copied to an address, in place of what is there, once the block ends well.

    What an interrupted job leaves lies beside it. Raises UsageError for the ending of no result, and InfoAEError as
    `object_store.files` does; where copying fails it names the file, which stays.
    """
    parent, name = parted(address)
    format_of(Path(name))
    object_store.below(address)  # a bucket that is not there is named by what was given
    object_store.try_writing(within(parent, f".{name}.{object_store.UNFINISHED}"))
    folder = user_cache("results") / hashlib.sha256(address.encode()).hexdigest()[:20]
    try:
        yield folder / name
        try:
            object_store.write(address, folder / name)
        except InfoAEError as error:
            raise type(error)(f"{error}; the result is {folder / name}") from None
        (folder / name).unlink()
    finally:
        with suppress(OSError):  # it is not there, or not empty: an interrupted job stays
            folder.rmdir()


def result_address(out: str, inputs: Sequence[str]) -> str:
    """Return the address of a result. Raises UsageError if it is none, or lies in one of the inputs."""
    try:
        address = check_address(out)
    except ValueError as error:
        raise UsageError(f"--out: {error}") from None
    place = without_options(address)
    for given in inputs:
        if is_address(given) and f"{place}/".startswith(f"{without_options(given).rstrip('/')}/"):
            raise UsageError(f"--out {out} lies in the input {given}, and would be read as one: give another place")
    return address
