"""`infoae sort --into`: labelled pictures into folders by category, by what labels.parquet says of them. No torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from infoae.deploy.bundle import Bundle
from infoae.errors import UsageError, counted
from infoae.placing import place as placing
from infoae.placing.journal import Journal
from infoae.placing.preview import Row, planned
from infoae.placing.transfer import How, Stamp
from infoae.reporting.bars import Bar
from infoae.sorting import inventory, labelling
from infoae.sorting.state import BUNDLE, LABELS, read

Say = Callable[[str], object]


def is_all_moved(photos: Path, out: Path, into: Path, how: How) -> bool:
    """Whether pictures were moved to `into`, and no other has come to `photos` since: so there is nothing to label.

    To label would lose the rows of those that were moved.
    """
    if how != "move" or Journal.found(placing.beside(into)) is None:
        return False
    progress = read(out)
    if progress is None or not progress.exported:
        return False
    found = inventory.take(photos, progress.image)
    work = labelling.compared(out, Bundle.load(out / BUNDLE), found, first=progress.likeness is None)
    return not (work.new or work.changed)


def place(photos: Path, out: Path, into: Path, how: How, unsure: float, *, look: bool, say: Say) -> placing.Outcome:
    """Place the pictures that are labelled in `out` in folders of `into`; only say what would be done with `look`.

    Answers of less probability than `unsure` go into a folder of that name. `into` is an absolute path. Raises
    UsageError if nothing is labelled yet, and what `placing` raises.
    """
    if not (out / LABELS).exists():
        raise UsageError(f"--into {into}: nothing in {photos} is labelled yet, so it is not known what goes where")
    rows, inside = _rows(out / LABELS, unsure)
    preview = planned(rows, into, how, placing.beside(into), [photos, out])
    if not look:
        preview.check()
    for line in preview.describe():
        say(line)
    if inside:
        say(f"left in archives and tables: {counted(inside, 'picture')}")
    if look:
        return placing.Outcome()
    with Bar("placing", "pictures", len(preview.entries)) as bar:
        done = placing.place(preview, bar.advance)
    say(f"{counted(done.done.total(), 'picture')} placed in {into}; back: infoae sort --undo {placing.beside(into)}")
    _tell_of_left(done, say)
    return done


def undo(journal: Path, say: Say) -> placing.Outcome:
    """Take back what a journal says was placed. Raises what `placing.undo` raises."""
    with Bar("taking back", "pictures", len(Journal.read(journal).open_entries())) as bar:
        done = placing.undo(journal, bar.advance)
    say(f"back where they were: {counted(done.done.total(), 'picture')}")
    _tell_of_left(done, say)
    return done


def _tell_of_left(done: placing.Outcome, say: Say) -> None:
    for line in done.left:
        say(f"left: {line}")


def _rows(labels: Path, unsure: float) -> tuple[list[Row], int]:
    """Return the readable pictures that are files of their own, and how many lie in files that hold many."""
    table = parquet.read_table(labels, columns=["file", "name", "probability", "error", "size", "modified"])
    times = table.column("modified").cast(pa.int64())  # nanoseconds
    doubtful = labelling.is_unsure(table, unsure)
    table = table.drop_columns(["modified", "probability"])
    columns = table.append_column("modified", times).append_column("unsure", doubtful).to_pydict()
    pictures = Counter(columns["file"])
    rows = [
        Row(os.fsdecode(file), name, doubt, Stamp(size, modified))
        for file, name, error, size, modified, doubt in zip(*columns.values(), strict=True)
        if error is None and pictures[file] == 1
    ]
    return rows, sum(count for count in pictures.values() if count > 1)
