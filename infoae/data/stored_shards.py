"""Shards that lie in an object store: copied to this machine when they are read, one copy for all its processes.

They are kept as prepared pictures are (`infoae.kept`): later epochs and later runs find them there, and the longest
unused go first. A copy is made once, of the version that was there when the command began.
"""

from __future__ import annotations

import io
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from infoae import kept
from infoae.addresses import within
from infoae.data import npy
from infoae.data.object_store import AT_ONCE, StoredFile, files, look, retried
from infoae.errors import InfoAEError, UnavailableError

COPY = "copy.npy"
HEADER_BYTES = 4096
_PROGRAM = f"import sys; from {__name__} import main; sys.exit(main(*sys.argv[1:]))"
THREADS = 4
"""That copy what will be read next."""


@dataclass(frozen=True)
class StoredShard:
    """A shard in a store, and its header as it was read there."""

    file: StoredFile
    header: npy.Header

    @property
    def name(self) -> str:
        """Its address."""
        return self.file.address

    def open(self) -> NDArray[Any]:
        """Return the array, mapped from the copy on this machine, which is made if it is not there.

        Raises InfoAEError for another version, UnavailableError where the store cannot be reached.
        """
        if _forked:
            _copy_apart(self.file)
        return retried(self.name, lambda: opened(self.file))


def opened(file: StoredFile) -> NDArray[Any]:
    """Return the array of a file, mapped from its copy. Raises as `StoredFile.copy`."""
    with kept.reading(_key(file), _folder(file), partial(_copy, file)) as folder:
        return npy.mapped(folder / COPY)


def stored_shards(folder: str) -> list[StoredShard]:
    """Return the `.npy` files of a folder in a store, by name. Raises InfoAEError, naming the first that is none."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(_shard, files(folder, ".npy")))


def beside(place: Path | str, name: str) -> Path | None:
    """Return where a file of a folder or store lies on this machine, None if it is not there. Raises InfoAEError."""
    if isinstance(place, Path):
        path = place.expanduser() / name
        return path if path.exists() else None
    found = look(within(place, name))
    if found is None:
        return None
    return retried(found.address, lambda: kept.folder_of(_key(found), place, partial(_copy, found))) / COPY


def copy_ahead(shards: Iterable[StoredShard]) -> None:
    """Let threads make the copies that are not there yet; returns at once. What fails is told to who reads it."""
    if _forked:
        return
    for shard in shards:
        if not kept.has(_key(shard.file)):
            _wanted.put(shard)
            if len(_threads) < THREADS:
                _threads.append(threading.Thread(target=_copy_wanted, daemon=True))
                _threads[-1].start()


_wanted: queue.SimpleQueue[StoredShard] = queue.SimpleQueue()
_threads: list[threading.Thread] = []
_idle = threading.Condition()
_copying = 0
_forked = False


def _copy_wanted() -> None:
    global _copying
    while True:
        shard = _wanted.get()
        with _idle:
            _copying += 1
        with suppress(Exception):
            opened(shard.file)
        with _idle:
            _copying -= 1
            _idle.notify_all()


def _wait_until_idle() -> None:
    """Before a fork: or the new process would hold, as long as it lives, the locks of what is being copied."""
    _idle.acquire()
    _idle.wait_for(lambda: not _copying)


def _mark_forked() -> None:
    global _forked
    _forked = True
    _idle.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_wait_until_idle, after_in_parent=_idle.release, after_in_child=_mark_forked)


def _copy_apart(file: StoredFile) -> None:
    """Make the copy in a new process: what talks to a store has threads, and no fork of a process has them."""
    if kept.has(_key(file)):
        return
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", _PROGRAM, file.address, str(file.size), file.version],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if told.returncode:
        kind, _, text = told.stdout.strip().partition(" ")
        raise (UnavailableError if kind == UnavailableError.__name__ else InfoAEError)(
            text or f"{file.address} could not be copied"
        )


def _shard(file: StoredFile) -> StoredShard:
    start = io.BytesIO(file.start(HEADER_BYTES))
    return StoredShard(file, npy.header(start, file.address, file.size))


def _copy(file: StoredFile, folder: Path) -> None:
    file.copy(folder / COPY)


def _key(file: StoredFile) -> str:
    return f"stored {file.address} {file.size} {file.version}"


def _folder(file: StoredFile) -> str:
    """Return the address of the data set that a shard belongs to."""
    address, mark, query = file.address.partition("?")
    return address.rsplit("/", 2)[0] + mark + query


def main(address: str, size: str, version: str) -> int:
    """Make one copy, as a process of its own; prints the error, if there is one, and its kind."""
    file = StoredFile(address, int(size), version)
    try:
        retried(address, lambda: opened(file))
    except InfoAEError as error:
        sys.stdout.write(f"{type(error).__name__} {error}\n")
        return 1
    return 0
