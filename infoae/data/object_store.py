"""Files in an object store, or in another folder that is named as one: s3://…, gs://…, file:///….

A file is known by its address, size and version: its ETag where the store has one, else the time of its last change.
Another version is another file, and is refused. What the network loses is tried again for a while. No torch; and
pyarrow is imported where it is used, since what runs a bundle needs none of this.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from infoae.addresses import ANYBODY, bucket_of, parted, within, without_options
from infoae.errors import InfoAEError, UnavailableError, UsageError, one_line

if TYPE_CHECKING:
    from pyarrow import fs

T = TypeVar("T")

RETRY_SECONDS = 30.0
"""From the first failure on; a request that is not answered takes ANSWER_SECONDS more."""
ANSWER_SECONDS = 8.0
AT_ONCE = 16
"""Files that are looked at at once."""
UNFINISHED = "unfinished"
"""Lies in the folder whose files are still being copied."""
PART_BYTES = 8 * 1024 * 1024  # of a request for content
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_REFUSED = re.compile(
    r"ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|HTTP status 40[013]|kPermission"
)
"""400 is what S3 says of a token that has expired."""
_MISSING = re.compile(r"NO_SUCH_BUCKET|HTTP status 404|kNotFound")
_REQUEST = re.compile(r" \(Request ID: [^)]*\)")


class StoreError(Exception):
    """The store could not be reached, or failed: the same may succeed in a moment."""


@dataclass(frozen=True)
class StoredFile:
    """One version of a file: its address, bytes, and the store's name of the version."""

    address: str
    size: int
    version: str

    @property
    def name(self) -> str:
        """The part of its address after the last slash."""
        return urlsplit(self.address).path.rpartition("/")[2]

    def start(self, count: int) -> bytes:
        """Return up to `count` bytes from its beginning. Raises InfoAEError as `files` does, or for another version."""
        return retried(self.address, lambda: next(self._parts(count), b""))

    def copy(self, to: Path) -> None:
        """Write it to the file `to`, once: `retried` is the caller's.

        Raises InfoAEError if it is another version by now, StoreError where the store fails, OSError of this machine.
        """
        with to.open("wb") as file:
            for part in self._parts(PART_BYTES):
                file.write(part)
            if file.tell() != self.size:
                raise StoreError(f"{file.tell()} bytes came of {self.size}")

    def _parts(self, num_bytes: int) -> Iterator[bytes]:
        """Yield the content, so many bytes at a time."""
        with _store(self.address):
            system, path = _opened(self.address)
            source = system.open_input_file(path)
        with source:
            with _store(self.address):
                self._refuse_other(_identified(source, system, path, self.address))
            for start in range(0, self.size, num_bytes):
                with _store(self.address):
                    part: bytes = source.read_at(num_bytes, start)
                yield part
        self._refuse_other(_look(self.address))  # or parts of two versions would have been put together

    def _refuse_other(self, found: StoredFile | None) -> None:
        if found != self:
            raise _other(self.address, "is gone" if found is None else "has changed")


@dataclass(frozen=True)
class Listed:
    """A file as a list of a folder has it: its name below the folder, bytes, and when it changed last, in seconds."""

    name: str
    size: int
    changed: int


def below(address: str) -> tuple[str, list[Listed]]:
    """Return a folder and what of it an address names: all files below it, by name, or the one file that it is.

    There are none if nothing is there. Raises InfoAEError as `files` does.
    """
    from pyarrow import fs

    def found() -> tuple[str, list[Listed]]:
        with _store(address):
            system, path = _opened(address)
            if (info := system.get_file_info(path)).type == fs.FileType.File:
                folder, name = parted(address)
                return folder, [_listed(name, info)]
            try:
                infos = system.get_file_info(fs.FileSelector(path, recursive=True))
            except FileNotFoundError:
                return address, []
        start = len(path.rstrip("/")) + 1
        listed = [_listed(info.path[start:], info) for info in infos if info.type == fs.FileType.File]
        return address, sorted(listed, key=lambda file: file.name)

    return retried(address, found)


def content(folder: str, file: Listed) -> bytes:
    """Return all bytes of a file. Raises InfoAEError as `files` does, or where it is not as it was listed."""
    name = f"{without_options(folder)}/{file.name}"

    def found() -> bytes:
        with _store(name):
            system, path = _opened(folder)
            path = f"{path.rstrip('/')}/{file.name}"  # as it is: in an address, some characters mean something
            try:
                with system.open_input_stream(path) as stream:
                    read: bytes = stream.read()
                now = _listed(file.name, system.get_file_info(path))
            except FileNotFoundError:
                raise _other(name, "is gone") from None
        if now != file:
            raise _other(name, "has changed")
        return read

    return retried(name, found)


def _listed(name: str, info: fs.FileInfo) -> Listed:
    return Listed(name, info.size, info.mtime_ns // 10**9)  # some stores tell a finer time in lists than of a file


def _other(name: str, what: str) -> InfoAEError:
    return InfoAEError(f"{name} {what} since this command began: put back what it was, or begin anew")


def files(folder: str, ending: str) -> list[StoredFile]:
    """Return the files of that ending which lie in a folder itself, by name; none if the folder is not there.

    Raises InfoAEError for a bucket that is not there or refuses, UnavailableError for one out of reach.
    """
    from pyarrow import fs

    def found() -> list[str]:
        with _store(folder):
            system, path = _opened(folder)
            try:
                infos = system.get_file_info(fs.FileSelector(path))  # which tells a bucket that is not there
            except FileNotFoundError:
                return []
        names = (info.base_name for info in infos if info.type == fs.FileType.File)
        return sorted(name for name in names if name.endswith(ending) and not name.startswith("."))

    addresses = [within(folder, name) for name in retried(folder, found)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        looked = list(pool.map(look, addresses))
    return [file for file in looked if file is not None]


def refuse_unfinished(address: str) -> None:
    """Raise InfoAEError if what lies there has not been copied whole."""
    if look(within(address, UNFINISHED)) is not None:
        raise InfoAEError(f"{address} is not whole: infoae convert did not end there; give the same command again")


def try_writing(address: str) -> None:
    """Write an empty file, and delete it. Raises InfoAEError as `files` does."""
    write(address, b"")
    delete(address)


def look(address: str) -> StoredFile | None:
    """Return a file as it is now, None if it is not there. Raises InfoAEError as `files` does."""
    return retried(address, lambda: _look(address))


def retried(address: str, work: Callable[[], T]) -> T:
    """Return what `work` does, done again where it raises StoreError: the store may come back.

    Raises UnavailableError once RETRY_SECONDS have passed.
    """
    first, wait = None, 0.5
    while True:
        try:
            return work()
        except StoreError as error:
            now = time.monotonic()
            first = now if first is None else first
            if now + wait > first + RETRY_SECONDS:
                raise UnavailableError(f"{address} cannot be reached: {error}") from None
        time.sleep(wait)
        wait = min(2 * wait, 5.0)


def write(address: str, content: Path | bytes) -> None:
    """Write a file, in place of an earlier one; it is there whole or not at all. Raises InfoAEError as `files` does."""
    import pyarrow as pa

    def send() -> None:
        with _store(address):
            system, path = _opened(address)
            if address.startswith("file:"):  # object stores have no folders
                system.create_dir(path.rpartition("/")[0])
            with system.open_output_stream(path) as stream:
                # In one call: what ends between two, Ctrl-C say, would leave the first half under the file's name.
                stream.write(pa.memory_map(str(content)).read_buffer() if isinstance(content, Path) else content)

    retried(address, send)


def delete(address: str) -> None:
    """Delete a file. Raises InfoAEError as `files` does."""

    def send() -> None:
        with _store(address):
            system, path = _opened(address)
            system.delete_file(path)

    retried(address, send)


@contextmanager
def _store(address: str) -> Iterator[None]:
    """Say what a store raises in our words. Raises InfoAEError for what would come again, StoreError for all else."""
    try:
        yield
    except OSError as error:
        told = _REQUEST.sub("", one_line(error))
        if isinstance(error, FileNotFoundError) or _MISSING.search(told):
            raise UsageError(f"{address}: no such bucket or path ({told})") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) or _REFUSED.search(told):
            raise InfoAEError(f"{address} refuses these credentials ({told})") from None
        raise StoreError(told) from None


def _look(address: str) -> StoredFile | None:
    with _store(address):
        system, path = _opened(address)
        try:
            with system.open_input_file(path) as file:
                return _identified(file, system, path, address)
        except FileNotFoundError:
            return None


def _identified(file: Any, system: fs.FileSystem, path: str, address: str) -> StoredFile:
    stated: dict[str, Any] = file.metadata() or {}
    version = stated.get("ETag", b"").decode() or str(system.get_file_info(path).mtime_ns)
    return StoredFile(address, file.size(), version)


def _opened(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of an address, and the path in it. Raises OSError."""
    parts = urlsplit(address)
    endpoint = next(filter(None, map(os.environ.get, _ENDPOINTS)), "")
    system = _file_system(f"{parts.scheme}://{parts.netloc}?{parts.query}", endpoint)
    return system, f"{bucket_of(address)}{parts.path}"


@lru_cache(8)
def _file_system(address: str, endpoint: str) -> fs.FileSystem:
    from pyarrow import fs

    parts = urlsplit(address)
    if parts.scheme == "file":
        return fs.LocalFileSystem()
    anonymous = parts.netloc.startswith(ANYBODY)
    if parts.scheme == "gs":
        return fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=timedelta(seconds=ANSWER_SECONDS))
    # As pyarrow reads an address, but that itself would wait for 100 s for a server that is silent.
    given = {"endpoint_override": endpoint} | dict(parse_qsl(parts.query))
    if not (given["endpoint_override"] or given.get("region") or os.environ.get("AWS_REGION")):
        given["region"] = fs.resolve_s3_region(bucket_of(address))
    return fs.S3FileSystem(
        anonymous=anonymous,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
        connect_timeout=ANSWER_SECONDS,
        request_timeout=ANSWER_SECONDS,
        **given,
    )
