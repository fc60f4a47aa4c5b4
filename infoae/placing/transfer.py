"""One file to a new name: copied, linked or moved, whole or not at all, and never over another.

A copy is written beside its place under a name of its own and takes its place once it is whole. Linux renames without
overwriting where the file system can (renameat2); elsewhere a hard link to a name that is taken is refused.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from infoae.errors import InfoAEError, MachineError
from infoae.files import sync

How = Literal["copy", "link", "move"]
Kind = Literal["copy", "hard link", "symbolic link", "move"]
"""What became of a file; a link is symbolic where the file system has no hard ones, or is another."""

_PIECE = 1024**2
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


class Stamp(NamedTuple):
    """What tells whether a file is as it was: its size in bytes, and when it was written, in ns since 1970."""

    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Stamp:
        """Return that of the file at `path`, or that a link there leads to. Raises OSError."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns)


class ChangedError(InfoAEError):
    """A file changed while it was read."""


def copy(source: Path, target: Path, temporary: Path) -> Kind:
    """Copy a file with its time, permissions and, where they can be, attributes. `temporary` lies beside `target`.

    Raises FileExistsError if there is a `target`, ChangedError if the source changed meanwhile.
    """
    _copy(source, temporary, verify=False)
    try:
        _rename(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return "copy"


def link(source: Path, target: Path) -> Kind:
    """Make a hard link to a file, or a symbolic one where that cannot be. Raises FileExistsError if it is there."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError as error:
        if error.errno not in {errno.EXDEV, errno.EMLINK, errno.EACCES} | _CANNOT:
            raise
        target.symlink_to(real)
        return "symbolic link"
    return "hard link"


def move(source: Path, target: Path, temporary: Path) -> Kind:
    """Move a file: renamed, or to another file system copied, flushed, read again and only then removed.

    Raises FileExistsError if there is a `target`, ChangedError if the source changed meanwhile.
    """
    try:
        _rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        before = Stamp.of(source)
        _copy(source, temporary, verify=True)
        try:
            _rename(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        sync(target.parent)
        if Stamp.of(source) != before:
            target.unlink()
            raise ChangedError(f"{source} changed while it was moved") from None
        source.unlink()
    return "move"


def finish_move(source: Path, target: Path) -> bool:
    """Remove the source of a move that was interrupted after its target was whole; False if the target is another."""
    if not same_content(source, target):
        return False
    sync(target.parent)
    source.unlink()
    return True


def same_content(one: Path, other: Path) -> bool:
    """Whether both are regular files, no links, of the same bytes."""
    try:
        regular = stat.S_ISREG(one.lstat().st_mode) and stat.S_ISREG(other.lstat().st_mode)
        same_size = regular and one.stat().st_size == other.stat().st_size
        return same_size and (one.samefile(other) or _digest(one) == _digest(other))
    except FileNotFoundError:
        return False


def _copy(source: Path, temporary: Path, *, verify: bool) -> None:
    with suppress(FileNotFoundError):
        temporary.unlink()  # of the same job, killed at this file
    with source.open("rb") as file:
        before = os.fstat(file.fileno())
        try:
            with temporary.open("xb") as written:
                digest = _pour(file, written)
                with suppress(PermissionError):  # some file systems have no permissions to set
                    shutil.copystat(source, temporary)
                os.fsync(written.fileno())
            after = os.fstat(file.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise ChangedError(f"{source} changed while it was copied")
            if verify and _digest(temporary, from_disk=True) != digest:
                raise MachineError(f"{temporary.parent} did not keep {source} as it was written: check that disk")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _pour(file: BinaryIO, written: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
        written.write(piece)
    written.flush()
    return digest.digest()


def _digest(path: Path, *, from_disk: bool = False) -> bytes:
    with path.open("rb") as file:
        if from_disk and hasattr(os, "posix_fadvise"):  # else memory is compared with itself
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return hashlib.file_digest(file, "sha256").digest()


def _rename(source: Path, target: Path) -> None:
    """Rename without overwriting. Raises FileExistsError, and OSError of EXDEV to another file system."""
    if os.name == "nt":
        source.rename(target)
    elif not _renamed_by_linux(source, target):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            reason = f"the file system of {target.parent} can neither link files nor rename them without overwriting"
            raise MachineError(f"{reason}: give another folder") from error
        source.unlink()


def _renamed_by_linux(source: Path, target: Path) -> bool:
    """Rename by renameat2; False where the system, or the file system, does not have it."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS):
        return False
    raise OSError(code, os.strerror(code), str(source), None, str(target))
