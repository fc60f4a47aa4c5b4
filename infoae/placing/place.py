"""Pictures into folders by category, and back: nothing is overwritten, and a crash at any moment loses no file.

What will be done is in the journal, on the disk, before it is done. Each step leaves a file whole in one place at
least, so what a crash interrupted is told from what lies there. `place` and `undo` go on where they were interrupted.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infoae.errors import InfoAEError, MachineError, one_line
from infoae.files import sync
from infoae.inputs.blocks import key_of
from infoae.placing import names, transfer
from infoae.placing.journal import Entry, Journal, Writer, beside, line_of
from infoae.placing.preview import Preview, Row, planned
from infoae.placing.transfer import ChangedError, Kind, Stamp
from infoae.signals import stop_on_signal

__all__ = ["Outcome", "Preview", "Row", "StoppedError", "beside", "place", "planned", "undo"]

TOGETHER = 64
"""Pictures that are written down at once: to wait for the disk for each would take longer than most copies."""

Advance = Callable[[int], object]
"""Is told how many more pictures are done."""


class StoppedError(InfoAEError):
    """A person stopped it between two files."""

    exit_code = 130


@dataclass
class Outcome:
    """How many pictures were done, by kind, and a line for each that was left as it was, and why."""

    done: Counter[Kind] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)


def place(preview: Preview, advance: Advance = lambda _: None) -> Outcome:
    """Do what `planned` said. A picture that changed or went since is left, and named in the outcome.

    Raises InfoAEError before anything is done if something is refused; StoppedError after Ctrl-C or SIGTERM, between
    two files; MachineError if the machine refuses. All but the first say how to go on.
    """
    preview.check()
    if not preview.entries:
        return Outcome()
    journal = preview.journal
    hint = f"the same command goes on, infoae sort --undo {journal.path} takes back"
    with journal.writing() as writer, _stoppable(len(preview.entries), advance, hint) as between:
        work = _Placing(journal, writer)
        for part in _parts(preview.entries):
            work.begin(part)
            try:
                for entry in part:
                    between()
                    work.place(entry)
            finally:
                work.end()
        between()
    return work.outcome


def undo(path: Path, advance: Advance = lambda _: None) -> Outcome:
    """Take back what the journal at `path` says was placed, and remove the folders made for it that are empty then.

    A copy or link is removed only while what it was made from is there and the same. What was changed, and what would
    overwrite anything, is left and named in the outcome. If nothing is left, the journal is removed, too.

    Raises UsageError if there is no journal, InfoAEError if it is damaged; StoppedError and MachineError as `place`.
    """
    journal = Journal.read(path)
    entries = journal.open_entries()[::-1]
    hint = f"infoae sort --undo {path} goes on"
    with journal.writing() as writer, _stoppable(len(entries), advance, hint) as between:
        outcome = Outcome()
        for part in _parts(entries):
            undone: list[dict[str, Any]] = []
            touched: set[Path] = set()
            try:
                for entry in part:
                    between()
                    reason = _undone(journal, entry, touched)
                    if reason is None:
                        undone.append({"undone": entry.number})
                        outcome.done[entry.kind or _kind(journal)] += 1
                    else:
                        outcome.left.append(f"{key_of(str(journal.into / entry.target))} {reason}")
            finally:
                _sync(touched)
                writer.add(undone)
        between()
        for name in reversed(journal.folders):
            _remove_if_empty(journal.into / name)
        if not outcome.left:
            path.unlink()
            sync(path.parent)
    return outcome


class _Placing:
    """A placing at work: the folders it made, and what it did since the journal last said so."""

    def __init__(self, journal: Journal, writer: Writer) -> None:
        self.outcome = Outcome()
        self._journal = journal
        self._writer = writer
        self._resumed = set(journal.entries)
        self._placed: list[dict[str, Any]] = []
        self._touched: set[Path] = set()

    def begin(self, entries: Sequence[Entry]) -> None:
        """Write down what will be done, and make the folders for it."""
        into = self._journal.into
        folders = ["", *dict.fromkeys(entry.target.partition("/")[0] for entry in entries)]
        missing = [name for name in folders if not os.path.lexists(into / name)]
        fresh = [line_of(entry) for entry in entries if entry.number not in self._resumed]
        self._writer.add([{"folder": name} for name in missing if name not in self._journal.folders] + fresh)
        self._journal.folders += missing
        for name in missing:
            (into / name).mkdir(exist_ok=True)
        _sync({into.parent, into} if missing else set())

    def place(self, entry: Entry) -> None:
        """Place one picture, or say why not."""
        source, target = Path(entry.source), self._journal.into / entry.target
        kind = None
        if not _is_real_folder(target.parent):
            raise InfoAEError(f"{target.parent} is a link or no folder now: remove it, and repeat the command")
        if entry.number in self._resumed:
            _temporary(self._journal, entry, target).unlink(missing_ok=True)
            kind = _found(self._journal, entry, finish=True)
        while kind is None:
            reason = _why_changed(source, entry.stamp)
            if reason:
                self.outcome.left.append(f"{key_of(entry.source)} {reason}")
                self._placed.append({"undone": entry.number})
                return
            try:
                kind = _transferred(self._journal, entry)
            except FileExistsError:  # since it was planned
                entry.target = self._elsewhere(entry)
                self._writer.add([line_of(entry)])
            except ChangedError:
                continue
        self._placed.append({"placed": entry.number, "kind": kind})
        self._touched |= {(self._journal.into / entry.target).parent} | ({source.parent} if kind == "move" else set())
        self.outcome.done[kind] += 1

    def end(self) -> None:
        """Write down what was done."""
        _sync(self._touched)
        self._writer.add(self._placed)
        self._touched.clear()
        self._placed.clear()

    def _elsewhere(self, entry: Entry) -> str:
        folder = entry.target.partition("/")[0]
        promised = (entry.target.partition("/") for entry in self._journal.entries.values())
        mine = [given for other, _, given in promised if other == folder]
        there = os.listdir(self._journal.into / folder)  # noqa: PTH208
        return f"{folder}/{names.Places(mine + there).take(Path(entry.source).name)}"


def _transferred(journal: Journal, entry: Entry) -> Kind:
    source, target = Path(entry.source), journal.into / entry.target
    if journal.how == "link":
        return transfer.link(source, target)
    done = transfer.copy if journal.how == "copy" else transfer.move
    return done(source, target, _temporary(journal, entry, target))


def _found(journal: Journal, entry: Entry, *, finish: bool) -> Kind | None:
    """Return as what a picture lies in its place already, after a crash; None if it does not.

    With `finish` a move of which both ends are there is ended.
    """
    source, target = Path(entry.source), journal.into / entry.target
    if not os.path.lexists(target):
        return None
    if journal.how == "copy":
        return "copy" if transfer.same_content(source, target) else None
    if journal.how == "link":
        if target.is_symlink():
            return "symbolic link" if os.path.realpath(source) == str(target.readlink()) else None
        return "hard link" if source.exists() and source.samefile(target) else None
    if not os.path.lexists(source):
        return "move" if _why_changed(target, entry.stamp) is None else None
    return "move" if finish and transfer.finish_move(source, target) else None


def _undone(journal: Journal, entry: Entry, touched: set[Path]) -> str | None:
    """Take back one picture; returns why it was left, None if it was not."""
    source, target = Path(entry.source), journal.into / entry.target
    if target.parent.exists() and not _is_real_folder(target.parent):
        return "lies behind a link now"
    _temporary(journal, entry, target).unlink(missing_ok=True)
    touched.add(target.parent)
    if journal.how == "move":
        return _moved_back(journal, entry, touched)
    if not os.path.lexists(target):
        return None
    if _found(journal, entry, finish=False) is not None:
        target.unlink()
        return None
    if entry.kind is None:  # not ours: another came first
        return None
    return "differs from what it was made from" if source.exists() else f"is left alone: {key_of(str(source))} is gone"


def _moved_back(journal: Journal, entry: Entry, touched: set[Path]) -> str | None:
    source, target = Path(entry.source), journal.into / entry.target
    _temporary(journal, entry, source).unlink(missing_ok=True)
    if not os.path.lexists(target):
        return None if os.path.lexists(source) or entry.kind is None else "went"
    if os.path.lexists(source):
        if transfer.finish_move(target, source) or entry.kind is None:
            return None
        return f"stays: there is another {key_of(str(source))}"
    if _why_changed(target, entry.stamp) is not None:
        return "changed since it was placed"
    source.parent.mkdir(parents=True, exist_ok=True)
    touched.add(source.parent)
    try:
        transfer.move(target, source, _temporary(journal, entry, source))
    except FileExistsError:
        return f"stays: there is another {key_of(str(source))}"
    except ChangedError:
        return "changes just now"
    return None


def _why_changed(path: Path, stamp: Stamp) -> str | None:
    try:
        now = Stamp.of(path)
    except OSError as error:
        return f"cannot be read now ({one_line(error)})"
    return None if now == stamp else "changed since it was planned"


def _temporary(journal: Journal, entry: Entry, beside: Path) -> Path:
    """Return what a copy is called until it is whole: a crash leaves one that the journal knows."""
    return beside.with_name(f".{journal.token}-{entry.number}.part")


def _kind(journal: Journal) -> Kind:
    return "hard link" if journal.how == "link" else journal.how


def _is_real_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove_if_empty(folder: Path) -> None:
    if _is_real_folder(folder) and not os.listdir(folder):  # noqa: PTH208
        folder.rmdir()


def _sync(folders: set[Path]) -> None:
    for folder in folders:
        if folder.exists():
            sync(folder)


def _parts(entries: list[Entry]) -> Iterator[list[Entry]]:
    return (entries[first : first + TOGETHER] for first in range(0, len(entries), TOGETHER))


@contextmanager
def _stoppable(total: int, advance: Advance, hint: str) -> Iterator[Callable[[], None]]:
    """Yield what is to be called before each of `total` pictures and after the last.

    It raises StoppedError once that is wished for. An error of the machine, too, then says how to go on.
    """
    begun = -1

    def between() -> None:
        nonlocal begun
        begun += 1
        if begun:
            advance(1)
        if begun < total and wanted():
            raise StoppedError(f"stopped after {begun:,} of {total:,} pictures: {hint}")

    main = threading.current_thread() is threading.main_thread()
    with stop_on_signal(lambda _: None) if main else _never() as wanted:
        try:
            yield between
        except OSError as error:
            what = f"{one_line(error)}: {error.filename or 'reading or writing'}"
            raise MachineError(f"{what}; after {max(begun, 0):,} of {total:,} pictures: {hint}") from error


@contextmanager
def _never() -> Iterator[Callable[[], bool]]:
    yield lambda: False
