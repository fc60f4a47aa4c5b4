"""Errors meant for people: one line that names what was given and what to do about it."""

from __future__ import annotations


class InfoAEError(Exception):
    """Something outside the code is wrong: a missing run, damaged data, a full disk. The CLI exits with 1."""

    exit_code = 1


class UnavailableError(InfoAEError):
    """Machines or their storage are gone or cannot be reached: the same may succeed later."""


class UsageError(InfoAEError):
    """The command or the configuration asks for something that does not exist. The CLI exits with 2."""

    exit_code = 2


class Notice(UserWarning):
    """Something that people should know and that stops nothing. The CLI prints it as one line on stderr."""
