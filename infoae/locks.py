"""One command at a time: a lock ends with the process that holds it, however that dies."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from infoae.errors import Notice, UnavailableError, one_line


def try_lock(descriptor: int) -> bool | None:
    """Lock an open file or folder until it is closed; False if another holds it, None where there are no locks."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def held(lock: Path, what: Path) -> Iterator[None]:
    """Hold the file `lock`, so that no other command writes `what` meanwhile.

    A Notice says so where there are no locks, or the file cannot be made. Raises UnavailableError if another process
    holds it.
    """
    try:
        file = lock.open("ab")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        _warn(what, one_line(error))
        yield
        return
    with file:
        locked = try_lock(file.fileno())
        if locked is False:
            raise in_use(what)
        if locked is None:
            _warn(what, "the file system has no locks")
        yield


def is_held(lock: Path) -> bool | None:
    """Return whether a process holds the file `lock`; None where that cannot be known. Nothing is made or kept."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        with lock.open("rb") as file:
            fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who asks too is not taken for a holder
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError:
        return None
    return False


@contextmanager
def waited_for(lock: Path) -> Iterator[None]:
    """Hold the file `lock` once no other process does; where there are no locks, at once."""
    while True:
        with lock.open("ab") as file:
            if sys.platform != "win32":
                import fcntl

                with suppress(OSError):
                    fcntl.flock(file.fileno(), fcntl.LOCK_EX)
                if not _is_at(file.fileno(), lock):  # who held it has removed it
                    continue
            yield
            return


def share(folder: Path) -> bool:
    """Hold a folder, with others, until this process ends: False if it is being removed, True where no locks are."""
    return _shared(folder)[0]


@contextmanager
def shared(folder: Path) -> Iterator[bool]:
    """Hold a folder, with others, within the block; yields what `share` returns."""
    is_there, descriptor = _shared(folder)
    try:
        yield is_there
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _shared(folder: Path) -> tuple[bool, int | None]:
    """Return whether a folder is held now, or there are no locks, and by which descriptor."""
    if sys.platform == "win32":
        return folder.exists(), None
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return False, None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False, None
    except OSError:
        os.close(descriptor)
        return True, None
    if _is_at(descriptor, folder):  # it may have been renamed before it was held
        return True, descriptor
    os.close(descriptor)
    return False, None


def _is_at(descriptor: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    return False


def in_use(what: Path) -> UnavailableError:
    """Return the error of a command that found another at work on `what`."""
    return UnavailableError(f"another command is writing {what} now: wait until it has ended, or stop it")


def _warn(what: Path, why: str) -> None:
    warnings.warn(Notice(f"{what} cannot be locked ({why}): let only one command at a time write it"), stacklevel=4)
