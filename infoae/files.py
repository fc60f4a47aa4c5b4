"""Writing and removing so that, whenever a process dies, a file or folder is there whole or not at all.

What is not finished is called `.NAME.tmp-XXXXXXXX`, and its writer holds a lock on it: one that nobody holds was left
by a process that was killed, and the next command that comes by removes it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infoae.errors import Notice, one_line
from infoae.locks import in_use, try_lock

CACHE = "INFOAE_CACHE"
"""The variable that says where."""

_UNFINISHED = re.compile(r"\.(?P<of>.+)\.tmp-[0-9a-f]{8}(\.[^.]*)?")


def user_cache(kind: str) -> Path:
    """Return the folder that keeps what can be made again: INFOAE_CACHE, or the user's own, and in it `kind`."""
    if given := os.environ.get(CACHE):
        return Path(given).expanduser() / kind
    import platformdirs  # milliseconds, and few commands need it

    return platformdirs.user_cache_path("infoae") / kind


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on any exception it is removed.

    An OSError names `path`.
    """
    with _temporary(path, folder=False) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`, which must not exist yet; on success it is renamed to `path`.

    An OSError without a path names `path`. Raises UnavailableError if another process is making `path`.
    """
    with _temporary(path, folder=True) as temporary:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        temporary.rename(path)
        sync(path.parent)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, for what is of no use once the block has ended."""
    with _temporary(path, folder=True) as temporary:
        yield temporary


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. Raises ValueError for NaN and infinities, which JSON lacks."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def link(path: Path, target: str) -> None:
    """Make `path` a symbolic link to `target`, in place of an earlier one. Raises OSError."""
    temporary = unfinished(path)
    temporary.symlink_to(target, target_is_directory=True)
    try:
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder: under its name it is there whole, or no longer. Raises OSError."""
    shutil.rmtree(folder if _UNFINISHED.fullmatch(folder.name) else folder.rename(unfinished(folder)))


def remove_leftovers(folder: Path, of: str | None = None) -> bool:
    """Remove what killed processes left unfinished in `folder`, of the file or folder called `of` if given.

    What a process still holds stays, and all where there are no locks. Returns whether another process holds any.
    """
    held = False
    with suppress(OSError):  # what cannot be read or removed is in nobody's way
        for name in os.listdir(folder):  # noqa: PTH208  a path for each of many files is slow
            match = _UNFINISHED.fullmatch(name)
            if match and of in (None, match["of"]):
                held |= not _remove_unless_held(folder / name)
    return held


def unfinished(path: Path) -> Path:
    """Return a new name beside `path` that says it is not finished."""
    return path.with_name(f".{path.name}.tmp-{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an OSError name `path` if it names no file, or one that only we know."""
    try:
        yield
    except OSError as error:
        named = str(error.filename or "")
        if named and not _UNFINISHED.fullmatch(Path(named).name):
            raise
        raise OSError(error.errno or errno.EIO, one_line(error), str(path)) from error


@contextmanager
def _temporary(path: Path, *, folder: bool) -> Iterator[Path]:
    """Yield a new file or folder beside `path`, held by this process, and remove it in the end if it is still there."""
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if remove_leftovers(path.parent, path.name) and folder:
            raise in_use(path)
        temporary, descriptor = _new(path, folder)
        try:
            yield temporary
        finally:
            if folder:
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
            if descriptor is not None:
                os.close(descriptor)


def _new(path: Path, folder: bool) -> tuple[Path, int | None]:
    """Make a file or folder and hold it; no descriptor where one that is open could not be renamed."""
    while True:
        made = unfinished(path)
        if folder:
            made.mkdir()
        else:
            made.touch(exist_ok=False)
        if os.name == "nt":
            return made, None
        descriptor = -1
        with suppress(FileNotFoundError):
            descriptor = _open(made)
            # Another command may have taken it for a leftover before it was held.
            if try_lock(descriptor) is not False and made.exists():
                return made, descriptor
        if descriptor >= 0:
            os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # NFS locks files that may be written alone


def _remove_unless_held(path: Path) -> bool:
    """Remove what a killed process left; returns whether no process holds it."""
    if path.is_symlink():
        path.unlink()
        return True
    try:
        descriptor = _open(path)
    except OSError:
        return True  # just removed or finished, or of another user
    try:
        locked = try_lock(descriptor)
        if locked and path.exists():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return locked is not False
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Flush a file or folder to its disk; a Notice says where that cannot be. Raises OSError if the disk fails."""
    if path.is_dir() and os.name == "nt":  # Windows cannot open a folder to flush it
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        what = "folders" if path.is_dir() else "files"
        reason = f"the file system cannot flush {what} ({one_line(error)}): what is written just before a power cut"
        warnings.warn(Notice(f"{reason} may be lost"), stacklevel=2)
