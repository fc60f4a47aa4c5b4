"""What a file of any kind must become: what it holds, or one line of ours that says why it is not read."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import infoae
from infoae.errors import InfoAEError, machine_errors, one_line

PACKAGE = str(Path(infoae.__file__).parent)
MOST_CHARACTERS = 5000
"""Of a message, which the command line prints as one line whatever it holds; names of files may be long."""


@dataclass(frozen=True)
class Kind:
    """A kind of file. All paths are relative to the folder that this process is in (see `mutating.prepare`)."""

    group: str
    """What it is for people."""
    path: str
    """Where `read` expects the file."""
    seeds: Callable[[], Sequence[bytes]]
    """Returns small valid files, not finished."""
    read: Callable[[Path], object]
    """Does with the file at `path` what a command does."""
    finish: Callable[[bytes], bytes] | None = None
    """Makes a file of what was mutated: compresses it, or mends the checksums that would refuse it at the door."""


def wrong(kind: Kind, content: bytes) -> str | None:
    """Return what is wrong with how a file of such content is read; None if nothing is."""
    path = Path(kind.path)
    before = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes(content)
        with warnings.catch_warnings(), machine_errors():
            warnings.simplefilter("ignore")
            kind.read(path)
    except InfoAEError as error:
        text = str(error)
        if len(text) > MOST_CHARACTERS:
            return f"{len(text)} characters: {text}"
        return f"a size was believed: {text}" if "memory" in text else None
    except Exception as error:
        return f"{type(error).__name__} at {_place(error)}: {one_line(error)}"
    finally:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
    return None


def _place(error: BaseException) -> str:
    """Where in infoae, or else where at all, an exception came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename.startswith(PACKAGE)]
    last = (ours or frames)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"
