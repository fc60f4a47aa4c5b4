"""What can be made again and is kept on this machine: prepared pictures, features, shards of an object store.

A folder each below the user's cache, named by a hash of its key. Who reads one holds it, and what nobody holds goes
once all take more than INFOAE_MAX_CACHE_BYTES, the longest unused first. One process makes a folder, others wait.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from infoae.errors import Notice
from infoae.files import atomic_folder, remove, remove_leftovers, user_cache, write_json
from infoae.limits import MAX_CACHE_BYTES
from infoae.locks import share, shared, try_lock, waited_for

DESCRIPTION = "source.json"

Make = Callable[[Path], Notice | None]
"""Fills a folder, and returns what is to be told once it is there."""


@dataclass(frozen=True)
class Entry:
    """What is kept: the folder, what it was made from, bytes, and when it was last used (seconds)."""

    folder: Path
    source: str
    num_bytes: int
    used: float


def cache_folder() -> Path:
    """Return where it is kept."""
    return user_cache("pictures")


def entries() -> list[Entry]:
    """Return what is kept, the longest unused first."""
    found = []
    for folder in cache_folder().glob("[0-9a-f]*"):
        with suppress(OSError):
            if folder.is_dir():
                num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                found.append(Entry(folder, _source(folder), num_bytes, folder.stat().st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def by_source(found: Iterable[Entry]) -> list[tuple[str, list[Entry]]]:
    """Put together what was made from the same, in the order in which it was used last."""
    groups: dict[str, list[Entry]] = {}
    for entry in found:
        groups.setdefault(entry.source, []).append(entry)
    return sorted(groups.items(), key=lambda group: group[1][-1].used)


def clear() -> Iterator[tuple[Entry, bool]]:
    """Remove all that is kept, and yield for each whether it is gone: what a process reads stays."""
    for entry in entries():
        yield entry, _remove_unless_held(entry.folder)


def folder_of(key: str, source: str, make: Make) -> Path:
    """Return the folder that is kept for `key`, held until this process ends; `make` fills it if it is not there.

    `source` says in `infoae cache` what it was made from.
    """
    while True:
        folder, _ = _made(key, source, make)
        if share(folder):
            break
    os.utime(folder)
    _make_room(folder)
    return folder


@contextmanager
def reading(key: str, source: str, make: Make) -> Iterator[Path]:
    """Yield the same folder, held within the block alone.

    A file that is mapped there stays readable when the folder goes.
    """
    while True:
        folder, is_new = _made(key, source, make)
        with shared(folder) as is_there:
            if is_there:
                os.utime(folder)
                if is_new:
                    _make_room(folder)
                yield folder
                return


def has(key: str) -> bool:
    """Return whether a folder is kept for `key` now."""
    return _folder(key).exists()


def drop(key: str) -> None:
    """Remove the folder that is kept for `key`, unless a process reads it."""
    folder = _folder(key)
    if folder.exists():
        _remove_unless_held(folder)


def _folder(key: str) -> Path:
    return cache_folder() / hashlib.blake2b(key.encode(), digest_size=10).hexdigest()


def _made(key: str, source: str, make: Make) -> tuple[Path, bool]:
    """Return the folder of `key`, and whether it was made now; another process may remove it at once."""
    folder = _folder(key)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with waited_for(folder.with_suffix(".lock")):
        if folder.exists():
            return folder, False
        remove_leftovers(folder.parent)  # also of what has changed since, which has another name now
        with atomic_folder(folder) as made:
            write_json(made / DESCRIPTION, {"source": source})
            told = make(made)
        if told is not None:
            warnings.warn(told, stacklevel=4)
    return folder, True


def _source(folder: Path) -> str:
    try:
        return str(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return "-"


def _make_room(kept: Path) -> None:
    found = entries()
    too_much = sum(entry.num_bytes for entry in found) - MAX_CACHE_BYTES
    for entry in found:
        if too_much > 0 and entry.folder != kept and _remove_unless_held(entry.folder):
            too_much -= entry.num_bytes


def _remove_unless_held(folder: Path) -> bool:
    lock = folder.with_suffix(".lock")
    with suppress(OSError), lock.open("ab") as making:
        if try_lock(making.fileno()) is False:  # of who is about to read it
            return False
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if try_lock(descriptor) is False:
                return False
            remove(folder)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return not folder.exists()
