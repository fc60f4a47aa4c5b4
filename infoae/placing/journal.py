"""What placing is about to do and has done, a line of JSON each, on the disk before anything is changed.

The first line says what the file is. After it, `place` is what will be done to one picture, `placed` that it was and
how, `folder` a folder that will be made, `undone` that a picture is where it was. A crash leaves at most one line
unfinished: what it says was not begun yet, so it is cut off.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from infoae import locks
from infoae.errors import InfoAEError, UnavailableError, UsageError, one_line, shown
from infoae.files import sync
from infoae.placing.transfer import How, Kind, Stamp

VERSION = 1
_WHAT = "infoae sort"
_BEGINNING = b'{"journal": "infoae sort"'


@dataclass
class Entry:
    """One picture: `source` as an absolute path, and `target`, folder and name below the folder sorted into.

    `stamp` is that of the source when it was planned; `kind` what was done, None until it is known to be done.
    """

    number: int
    source: str
    target: str
    stamp: Stamp
    kind: Kind | None = None


@dataclass
class Journal:
    """What a journal says: `into`, an absolute path, what is done with pictures, and the pictures, by number.

    `token` names temporary files of this journal. `folders` are those that were made, `into` itself is "".
    """

    path: Path
    into: Path
    how: How
    token: str
    entries: dict[int, Entry] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)
    complete_bytes: int = 0

    @classmethod
    def new(cls, path: Path, into: Path, how: How) -> Journal:
        """Return that of a placing which has not begun; nothing is written."""
        return cls(path, into, how, secrets.token_hex(4))

    @classmethod
    def read(cls, path: Path) -> Journal:
        """Read a journal. Raises UsageError if there is none, InfoAEError if it is damaged or of another version."""
        if path.is_dir():
            raise UsageError(f"{path} is a folder: give the journal beside it, {path.resolve().name}.journal.jsonl")
        journal = cls.found(path)
        if journal is None:
            raise UsageError(f"no journal {path}: give the file that infoae sort named")
        return journal

    @classmethod
    def found(cls, path: Path) -> Journal | None:
        """Read a journal as `read`; None if there is none, or not yet its first line."""
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if _BEGINNING.startswith(content[: len(_BEGINNING)]) and b"\n" not in content:
            return None
        complete = content.rfind(b"\n") + 1
        lines = content[:complete].splitlines() or [content]
        journal = cls._begun(path, lines[0])
        for number, line in enumerate(lines[1:], 2):
            try:
                journal._take(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                reason = f"line {number} of journal {path} is damaged ({one_line(error)})"
                raise InfoAEError(f"{reason}: nothing was changed; mend that line, or remove it") from None
        journal.complete_bytes = complete
        return journal

    @classmethod
    def _begun(cls, path: Path, line: bytes) -> Journal:
        try:
            first = json.loads(line)
            if first["journal"] != _WHAT:
                raise ValueError(shown(first["journal"]))
            version = first["version"]
            if version == VERSION:
                if first["how"] not in get_args(How):
                    raise ValueError(shown(first["how"]))
                return cls(path, Path(str(first["into"])), first["how"], str(first["token"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InfoAEError(f"{path} is no journal of infoae sort, or is damaged ({one_line(error)})") from None
        raise InfoAEError(
            f"journal {path} is of version {shown(version)}, this infoae reads {VERSION}: use the infoae that wrote it"
        )

    def _take(self, line: dict[str, Any]) -> None:
        if "place" in line:
            number, target = int(line["place"]), str(line["target"])
            parts = target.split("/")
            if len(parts) != 2 or not os.path.isabs(line["source"]) or {"", ".", ".."} & set(parts):  # noqa: PTH117
                raise ValueError(f"no place: {shown(target)}")
            stamp = Stamp(int(line["size"]), int(line["mtime_ns"]))
            self.entries[number] = Entry(number, line["source"], target, stamp)
        elif "placed" in line:
            if line["kind"] not in get_args(Kind):
                raise ValueError(f"no kind: {shown(line['kind'])}")
            self.entries[int(line["placed"])].kind = line["kind"]
        elif "folder" in line:
            name = str(line["folder"])
            if "/" in name or name in (".", ".."):
                raise ValueError(f"no folder: {shown(name)}")
            self.folders.append(name)
        else:
            self.undone.add(self.entries[int(line["undone"])].number)

    def open_entries(self) -> list[Entry]:
        """Return the pictures that are placed, or may be: all that are not undone."""
        return [entry for entry in self.entries.values() if entry.number not in self.undone]

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """Yield what adds to the journal, which nobody else does meanwhile; a new one is made.

        Raises UnavailableError if another process does, or did since it was read.
        """
        with locks.held(self.path, self.path):
            there = Journal.found(self.path)
            if self.complete_bytes != (there.complete_bytes if there else 0):
                raise UnavailableError(f"journal {self.path} was written meanwhile: repeat the command")
            os.truncate(self.path, self.complete_bytes)
            with self.path.open("ab") as file:
                writer = Writer(file.fileno())
                if there is None:
                    begun = {"journal": _WHAT, "version": VERSION, "into": str(self.into), "how": self.how}
                    writer.add([begun | {"token": self.token}])
                    sync(self.path.parent)
                yield writer


class Writer:
    """Adds lines to a journal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        """Write lines, and return once the disk has them."""
        content = _lines(lines)
        while content:
            content = content[os.write(self._descriptor, content) :]
        os.fsync(self._descriptor)


def line_of(entry: Entry) -> dict[str, Any]:
    """Return the line that says what will be done to a picture."""
    place = {"place": entry.number, "source": entry.source, "target": entry.target}
    return place | {"size": entry.stamp.size, "mtime_ns": entry.stamp.mtime_ns}


def beside(into: Path) -> Path:
    """Return where the journal of a folder lies if nothing else is said: beside it."""
    return into.with_name(f"{into.name}.journal.jsonl")


def _lines(lines: Iterable[dict[str, Any]]) -> bytes:
    # Escaped, so that names which are no UTF-8 come back as they were.
    return "".join(json.dumps(line) + "\n" for line in lines).encode("ascii")
