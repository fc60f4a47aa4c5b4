"""Errors meant for people: one line that names what was given and what to do about it."""

from __future__ import annotations

import errno
import os
import re
import reprlib
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

LINE_LENGTH = 500
"""What another library says is cut at so many characters: some put whole graphs or traces into a message."""
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 3


class InfoAEError(Exception):
    """Something outside the code is wrong: a missing run, damaged data, a full disk. The CLI exits with 1."""

    exit_code = 1


class UnavailableError(InfoAEError):
    """Machines or their storage are gone or cannot be reached: the same may succeed later."""


class MachineError(InfoAEError):
    """The machine refuses something whatever is asked for: no space is left, a folder may not be written."""


class UsageError(InfoAEError):
    """The command or the configuration asks for something that does not exist. The CLI exits with 2."""

    exit_code = 2


class Notice(UserWarning):
    """Something that people should know and that stops nothing. The CLI prints it as one line on stderr."""


def counted(number: int, what: str) -> str:
    """Return "1 node", "2,000 nodes"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def one_line(error: BaseException, *, first: bool = False) -> str:
    """Return what any exception says as one line of at most LINE_LENGTH characters, to stand in a message of ours.

    An error of the operating system is its reason alone ("No space left on device"): the message names the file. Other
    texts are joined over their lines, or cut after the `first`, where ids or traces follow; one without text is the
    name of its type. Addresses of objects are left out, so that the same fault reads the same on every run.
    """
    text = (getattr(error, "strerror", None) or str(error)).strip()
    if first:
        text = text.partition("\n")[0]
    text = re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(text.split())) or type(error).__name__
    return text if len(text) <= LINE_LENGTH else text[: LINE_LENGTH - 1] + "…"


def shown(value: object) -> str:
    """Return a value as Python writes it, on one line and short, to stand in a message as what was given."""
    return _SHORT.repr(value)


def printable(text: str) -> str:
    r"""Return a text as one line that a terminal only shows: what would move its cursor, or hide text, as \x1b.

    Names of files may hold anything but a slash; others send them.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or unicodedata.category(letter) == "Zs" else _escaped(letter) for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


@contextmanager
def machine_errors() -> Iterator[None]:
    """Make one line of an error of the machine, whatever library says it, and how.

    Raises MachineError with the path for what the operating system refuses, UnavailableError where the same may succeed
    later, InfoAEError for too little memory. A pipe whose reader has gone is none of them.
    """
    try:
        yield
    except (InfoAEError, BrokenPipeError):
        raise
    except Exception as error:
        told = _of_machine(error)
        if told is None:
            raise
        raise told from error


_NUMBERED = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""How Rust (safetensors) and texts of others spell what the operating system said."""
_PASSING = (errno.ESTALE, errno.EIO, errno.EAGAIN, errno.ENOTCONN, errno.EHOSTUNREACH, errno.ENETUNREACH)


def _of_machine(error: BaseException) -> InfoAEError | None:
    """Return an error of the machine, or that an exception was raised from, as one of ours; None if it is none."""
    if isinstance(error, OSError):
        passing = isinstance(error, ConnectionError | TimeoutError) or error.errno in _PASSING
        kind = UnavailableError if passing else MachineError
        return kind(f"{one_line(error)}: {error.filename or 'reading or writing'}")
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "t allocate memory" in str(error)
    ):
        reason = one_line(error, first=True)
        return InfoAEError(f"not enough memory ({reason}): take smaller batches, models or images")
    if match := _NUMBERED.search(str(error)):
        return MachineError(f"{os.strerror(int(match[1] or match[2]))}: {one_line(error, first=True)}")
    return None if error.__cause__ is None else _of_machine(error.__cause__)
