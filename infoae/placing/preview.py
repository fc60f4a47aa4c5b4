"""What placing would do, everything checked and nothing changed."""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from rich.filesize import decimal

from infoae.errors import InfoAEError, UsageError, counted, one_line
from infoae.inputs.blocks import key_of
from infoae.placing import names
from infoae.placing.journal import Entry, Journal
from infoae.placing.transfer import How, Stamp

SHOWN = 5
"""Names of files that a message gives."""
_DONE = {"copy": "copied", "link": "linked", "move": "moved"}
_BLOCK = 4096  # bytes that file systems give out at once


class Row(NamedTuple):
    """A picture that was labelled: its path, the name of its category, and whether that is not sure enough.

    `stamp` is what the file was when it was labelled; it is refused if it is another now.
    """

    path: str | os.PathLike[str]
    category: str
    unsure: bool = False
    stamp: Stamp | None = None


@dataclass
class Preview:
    """What `placing.place` would do.

    `entries` are the pictures to place, `numbered` those of them whose name was taken, `placed` how many the journal
    says are placed already. `needed` and `free` are bytes. `refused` are lines: if there are any, nothing is placed.
    """

    journal: Journal
    entries: list[Entry] = field(default_factory=list)
    numbered: list[Entry] = field(default_factory=list)
    placed: int = 0
    needed: int = 0
    free: int = 0
    same_file_system: bool = True
    refused: list[str] = field(default_factory=list)

    def counts(self) -> Counter[str]:
        """Return how many pictures are to be placed in each folder."""
        return Counter(entry.target.partition("/")[0] for entry in self.entries)

    def describe(self) -> list[str]:
        """Return what would be done, in lines for people."""
        counts = self.counts()
        into, how = self.journal.into, self.journal.how
        pictures, folders = counted(len(self.entries), "picture"), counted(len(counts), "folder")
        lines = [f"{pictures} would be {_DONE[how]} into {folders} of {into}"]
        lines += [f"  {folder}: {count:,}" for folder, count in counts.most_common()]
        if how == "link" and self.entries:
            kind = "hard links" if self.same_file_system else "symbolic links, for they lie on another file system"
            lines.append(f"they become {kind}")
        if self.numbered:
            first = self.numbered[0]
            lines.append(
                f"{len(self.numbered):,} have a name that is taken in their folder and get a number behind it, "
                f"as {key_of(first.target)} for {key_of(first.source)}"
            )
        if self.placed:
            lines.append(f"{self.placed:,} are placed already, by {self.journal.path}")
        lines.append(f"{decimal(self.needed)} are needed, {decimal(self.free)} are free")
        return lines + [f"refused: {line}" for line in self._refusals()]

    def check(self) -> None:
        """Raise InfoAEError if anything is refused."""
        if self.refused:
            raise InfoAEError(f"nothing was {_DONE[self.journal.how]}: {'; '.join(self._refusals())}")

    def _refusals(self) -> list[str]:
        more = len(self.refused) - SHOWN
        return self.refused[:SHOWN] + ([f"and {more:,} more"] if more > 0 else [])


def planned(rows: Iterable[Row], into: Path, how: How, journal: Path, sources: Sequence[Path]) -> Preview:
    """Return what placing `rows` in folders of `into` would do; nothing is changed.

    `sources` are the folders or files that were labelled. `journal` is where it is written down; what one that is there
    already says is done is not done again, and what it says was begun is gone on with.

    Raises UsageError if `into` lies in a source or a source in it, cannot be made, or the journal is of another folder
    or another `how`; InfoAEError if the journal cannot be read. What is wrong with single pictures is in `refused`.
    """
    real = Path(os.path.realpath(into))
    _check_folders(real, into, journal, sources)
    known = Journal.found(journal)
    if known and (known.into, known.how) != (real, how):
        raise UsageError(
            f"journal {journal} is of pictures {_DONE[known.how]} into {known.into}: take them back first (infoae sort "
            f"--undo {journal}), or give another journal"
        )
    planning = _Planning(Preview(known or Journal.new(journal, real, how)), sources)
    listed = list(rows)
    folders = names.folders(row.category for row in listed if not row.unsure)
    for row in listed:
        planning.take(row, names.UNSURE if row.unsure else folders[row.category])
    return planning.finished()


def _check_folders(real: Path, into: Path, journal: Path, sources: Sequence[Path]) -> None:
    for source in sources:
        origin = Path(os.path.realpath(source))
        if real.is_relative_to(origin) or origin.is_relative_to(real):
            raise UsageError(f"{into} and {source} lie in each other: give a folder apart from the pictures")
        if Path(os.path.realpath(journal)).is_relative_to(origin):
            raise UsageError(f"journal {journal} lies among the pictures in {source}: give another place")
    if real.is_relative_to(Path(os.path.realpath(journal))) or journal.is_dir():
        raise UsageError(f"journal {journal} is a folder: give a file")
    if real.exists() and not real.is_dir():
        raise UsageError(f"{into} is a file: give a folder")
    for folder in (real if real.exists() else real.parent, Path(os.path.realpath(journal)).parent):
        if not folder.is_dir():
            raise UsageError(f"there is no folder {folder}: make it first")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{folder} may not be written: give another folder")


class _Planning:
    """Gives each picture its place, one after another."""

    def __init__(self, preview: Preview, sources: Sequence[Path]) -> None:
        self._preview = preview
        self._journal = preview.journal
        self._origins = [Path(os.path.realpath(source)) for source in sources]
        there = self._journal.into if self._journal.into.exists() else self._journal.into.parent
        self._device = there.stat().st_dev
        preview.free = shutil.disk_usage(there).free
        self._by_source = {entry.source: entry for entry in self._journal.open_entries()}
        self._seen: set[str] = set()
        self._number = max(self._journal.entries, default=0)
        self._places: dict[str, names.Places] = {}
        self._parents: dict[str, str | None] = {}

    def take(self, row: Row, folder: str) -> None:
        source = os.path.abspath(row.path)  # noqa: PTH100  a path for each of many pictures is slow
        if source in self._seen:
            self._refuse(source, "is given twice")
            return
        self._seen.add(source)
        earlier = self._by_source.get(source)
        if earlier and earlier.target.partition("/")[0] != folder:
            where = f"lies in {key_of(earlier.target)} and is of another category now"
            self._refuse(source, f"{where}: first infoae sort --undo {self._journal.path}")
        elif earlier and earlier.kind is None:
            self._preview.entries.append(earlier)
        elif earlier and self._as_it_was(earlier):
            self._preview.placed += 1
        elif (found := self._found(source, row.stamp)) is not None:
            self._add(source, folder, *found)

    def finished(self) -> Preview:
        """Return the preview, the space checked."""
        if self._preview.needed > self._preview.free:
            short = f"{decimal(self._preview.needed)} are needed and {decimal(self._preview.free)} are free"
            self._preview.refused.append(f"{self._journal.into} has too little space: {short}")
        return self._preview

    def _as_it_was(self, placed: Entry) -> bool:
        """Whether what was placed is what there is: a picture of the same path may be a new one."""
        try:
            return Stamp.of(Path(placed.source)) == placed.stamp and self._journal.how != "move"
        except FileNotFoundError:
            return True

    def _found(self, source: str, labelled: Stamp | None) -> tuple[Stamp, int] | None:
        """Return the stamp of a picture and its file system; None if it is refused."""
        try:
            status = os.stat(source)  # noqa: PTH116
        except OSError as error:
            self._refuse(source, f"was labelled and cannot be read now ({one_line(error)})")
            return None
        stamp = Stamp(status.st_size, status.st_mtime_ns)
        reason = None
        if not stat.S_ISREG(status.st_mode):
            reason = "is no file"
        elif labelled not in (None, stamp):
            reason = "changed since it was labelled: label it again"
        elif self._journal.how == "move":
            reason = self._why_not_moved(source)
        if reason:
            self._refuse(source, reason)
            return None
        return stamp, status.st_dev

    def _why_not_moved(self, source: str) -> str | None:
        """Only what lies in the sources is moved; what a link leads to is elsewhere."""
        if os.path.islink(source):  # noqa: PTH114
            return "is a link: take --copy or --link"
        parent = os.path.dirname(source)  # noqa: PTH120
        if parent not in self._parents:
            self._parents[parent] = self._why_not_from(Path(os.path.realpath(parent)))
        return self._parents[parent]

    def _why_not_from(self, folder: Path) -> str | None:
        given = [origin if origin.is_dir() else origin.parent for origin in self._origins]
        if not any(folder.is_relative_to(origin) for origin in given):
            return f"lies in {folder}, outside of what was given: take --copy or --link"
        if not os.access(folder, os.W_OK | os.X_OK):
            return "may not be removed from its folder: take --copy or --link"
        return None

    def _add(self, source: str, folder: str, stamp: Stamp, device: int) -> None:
        if folder not in self._places:
            self._places[folder] = names.Places(self._taken(folder))
        name = os.path.basename(source)  # noqa: PTH119
        self._number += 1
        entry = Entry(self._number, source, f"{folder}/{self._places[folder].take(name)}", stamp)
        self._preview.entries.append(entry)
        if not entry.target.endswith(f"/{name}"):
            self._preview.numbered.append(entry)
        elsewhere = device != self._device
        self._preview.same_file_system &= not elsewhere
        if self._journal.how == "copy" or (self._journal.how == "move" and elsewhere):
            self._preview.needed += -(-stamp.size // _BLOCK) * _BLOCK

    def _taken(self, folder: str) -> list[str]:
        there = self._journal.into / folder
        promised = [entry.target for entry in self._journal.open_entries()]
        mine = [target.partition("/")[2] for target in promised if target.partition("/")[0] == folder]
        if there.is_symlink() or (there.exists() and not there.is_dir()):
            self._preview.refused.append(f"{there} is a link or a file: remove it, or give another folder")
            return mine
        return mine + (os.listdir(there) if there.exists() else [])  # noqa: PTH208

    def _refuse(self, source: str, reason: str) -> None:
        self._preview.refused.append(f"{key_of(source)} {reason}")
