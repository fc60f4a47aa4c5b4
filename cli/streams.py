"""Standard output and error that are closed, full or read by nobody: a lost result is told, a lost message is not."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import TextIO


class _Output(io.TextIOWrapper):
    """Standard output, which an error names."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


class _Messages(io.TextIOWrapper):
    """Standard error: that nobody reads it, or that there is no space for it, ends no work."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare() -> None:
    """Make standard output and error of this process such; those that a caller has put in their place stay."""
    _reopen(0, os.O_RDONLY)
    _reopen(1, os.O_RDONLY)  # so that writing fails, and is told
    _reopen(2, os.O_WRONLY)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _wrapped(_Output, 1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _wrapped(_Messages, 2, sys.stderr)


def give_up_output() -> None:
    """Let what could not be written to standard output be forgotten, or Python would try again at its end."""
    with suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _reopen(number: int, flags: int) -> None:
    """Open a closed descriptor: the next file that is opened would get its number, and what is printed."""
    try:
        os.fstat(number)
    except OSError:
        descriptor = os.open(os.devnull, flags)
        if descriptor != number:
            os.dup2(descriptor, number)
            os.close(descriptor)


def _wrapped(kind: type[io.TextIOWrapper], number: int, stream: TextIO | None) -> io.TextIOWrapper:
    """Return the stream as one of `kind`; None is one that was closed. Not every terminal has Unicode."""
    encoding = "utf-8" if stream is None else stream.encoding
    if stream is not None:
        stream.flush()
    binary = open(number, "wb", closefd=False)  # noqa: SIM115  a descriptor, open until the end
    return kind(binary, encoding=encoding, errors="backslashreplace", line_buffering=number == 2 or binary.isatty())
