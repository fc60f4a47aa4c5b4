"""The boundary around what others wrote: whatever a parser raises on one input is a reason why that input has no image.

Parsers raise anything on damaged input, from struct.error to RecursionError, and which of it changes from version to
version. So nothing is listed here but what is not the input's fault: errors of ours, what can only be a mistake in our
own code, and a machine that has run out of something.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from infoae.errors import InfoAEError, one_line

_EXHAUSTED = {errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}
_RESERVE_BYTES = 256 * 1024 * 1024


class UnreadableImageError(InfoAEError):
    """An image that cannot be used. The message is the reason alone: the caller knows which image it was."""


@contextmanager
def unreadable(what: str = "") -> Iterator[None]:
    """Raise anything that the block raises as an UnreadableImageError: `what`, and the reason as one line.

    Errors of ours pass, and so do mistakes of ours. Raises InfoAEError where the machine has no memory, space or file
    handles left: that ends the job, for the next input would fare no better.
    """
    try:
        yield
    except InfoAEError:
        raise
    except Exception as error:
        if _is_mistake_of_ours(error):
            raise
        if _out_of_memory(error):
            raise InfoAEError("no memory is left to read images in: use fewer --workers, or a smaller batch") from error
        if isinstance(error, OSError) and error.errno in _EXHAUSTED:
            raise InfoAEError(f"reading images: {one_line(error)}") from error
        reason = "more memory needed than there is" if isinstance(error, MemoryError) else one_line(error)
        raise UnreadableImageError(what + reason) from error


def check_file(path: str | os.PathLike[str]) -> int:
    """Return a file's size in bytes. Raises UnreadableImageError unless it is a regular one: a pipe would block."""
    with unreadable():
        status = os.stat(path)  # noqa: PTH116 (a Path for each of many small images costs a tenth of their decoding)
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableImageError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
    return status.st_size


def _is_mistake_of_ours(error: Exception) -> bool:
    """Whether our own code broke what it asserts, or names what there is not: no input can make it do so."""
    if not isinstance(error, AssertionError | NameError):
        return False
    frame = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    return str(frame.f_globals.get("__name__")).startswith("infoae.")


def _out_of_memory(error: Exception) -> bool:
    """Whether the machine is at its end, and not merely a size believed that a damaged input states."""
    if not isinstance(error, MemoryError):
        return False
    try:
        mmap.mmap(-1, _RESERVE_BYTES).close()  # asked for and never touched
    except (OSError, OverflowError):
        return True
    return False
