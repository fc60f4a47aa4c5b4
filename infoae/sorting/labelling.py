"""A row for every picture: what is new or has changed is classified by the bundle, the other rows stay. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import compute, parquet

from infoae.deploy.bundle import Bundle
from infoae.deploy.formats import Csv
from infoae.deploy.job import classify_files
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_file
from infoae.inputs.blocks import Source
from infoae.sorting.inventory import Inventory, State
from infoae.sorting.state import CSV, LABELS, WORK

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("category", pa.int32()),
        ("name", pa.string()),
        ("probability", pa.float32()),
        ("unsure", pa.bool_()),
        ("error", pa.string()),
        ("file", pa.binary()),
        ("size", pa.int64()),
        ("modified", pa.timestamp("ns", "UTC")),
        ("added", pa.bool_()),
        ("latent", pa.list_(pa.float32())),
    ]
)
"""Of labels.parquet. `path` is text: a byte of a name that is not UTF-8 is written as backslash, x and two digits.
`file` has the bytes themselves; of a picture in an archive it is the archive. `modified` is the file's time:
as whole nanoseconds it would be too large a number for viewers that are web pages. `added` is whether the picture was
labelled after the training, `latent` its representation. What cannot be read has an error and no category."""
_MODEL = b"infoae.classifier"
"""Metadata of labels.parquet: the SHA-256 of the graph that gave the answers."""
_ANSWERS = "path,label,confidence,error"


@dataclass(frozen=True)
class Labelled:
    """What labelling did: files that are new, have changed or are gone; and all rows that there are now, by SCHEMA."""

    table: pa.Table
    new: int
    changed: int
    gone: int

    @property
    def num_unreadable(self) -> int:
        """How many pictures could not be read."""
        return len(self.table) - int(self.table.column("error").null_count)

    @property
    def num_unsure(self) -> int:
        """How many have an answer that is unsure."""
        return int(compute.sum(self.table.column("unsure")).as_py() or 0)

    def answers(self, *, added: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return categories and probabilities of the readable pictures that were, or were not, `added`; each (N,)."""
        table = self.table.filter(compute.field("error").is_null() & (compute.field("added") == added))
        category, probability = table.column("category").to_numpy(), table.column("probability").to_numpy()
        return category.astype(np.int64), probability.astype(np.float64)


@dataclass(frozen=True, slots=True)
class _Known:
    """The rows of one file, and what it looked like when they were made."""

    rows: range
    state: State
    again: bool
    """Whether it is one picture that could not be read, which is tried each time."""


@dataclass
class Work:
    """What is to be done: numbers of files that are new or have changed, and of the others the rows of `old`.

    `rows` int64 (F, 2) are the first row of each file and their number.
    """

    old: pa.Table
    rows: NDArray[np.int64]
    numbers: list[int] = field(default_factory=list)
    new: int = 0
    changed: int = 0
    gone: int = 0


def compared(out: Path, bundle: Bundle, found: Inventory, *, first: bool) -> Work:
    """Return what is to be done about the files `found`, as `label` would. Raises InfoAEError."""
    old = None if first else _read(out / LABELS, bundle.checksums[bundle.graph("classifier").file])
    work = Work(SCHEMA.empty_table() if old is None else old, np.zeros((len(found), 2), np.int64))
    known = _by_file(work.old)
    for number, (path, state) in enumerate(zip(found.paths, found.states, strict=True)):
        before = known.pop(os.fsencode(path), None)
        if before is not None and before.state == state and not before.again:
            work.rows[number] = before.rows.start, len(before.rows)
            continue
        work.numbers.append(number)
        work.new += before is None
        work.changed += before is not None and before.state != state
    work.gone = len(known)
    return work


def label(out: Path, bundle: Bundle, found: Inventory, unsure: float, *, first: bool) -> Labelled:
    """Write labels.csv and labels.parquet of the files `found` into the folder `out`, each whole or not at all.

    Rows of files that are as they were stay, if this bundle made them; `first` says that all are those of the training.
    What was interrupted goes on. Raises InfoAEError.
    """
    work = compared(out, bundle, found, first=first)
    model = bundle.checksums[bundle.graph("classifier").file]
    parts, rows, start = [work.old], work.rows, len(work.old)
    for numbers, answers in _answered(out / WORK, bundle, model, found, work.numbers):
        # A file is one picture; what holds many is alone.
        counts = [len(answers)] if numbers[0] in found.containers else [1] * len(numbers)
        parts.append(_complete(answers, found, np.repeat(numbers, counts), added=not first))
        rows[numbers, 0] = start + np.cumsum([0, *counts[:-1]])
        rows[numbers, 1] = counts
        start += len(answers)
    first, count = rows.T
    order = np.arange(count.sum()) + np.repeat(first - (np.cumsum(count) - count), count)
    table = _named(pa.concat_tables(parts).take(order), bundle, unsure).replace_schema_metadata({_MODEL: model})
    _write(out, table)
    return Labelled(table, work.new, work.changed, work.gone)


def _answered(
    work_folder: Path, bundle: Bundle, model: str, found: Inventory, work: list[int]
) -> Iterator[tuple[list[int], pa.Table]]:
    """Yield numbers of files of `work`, with the answers for them: single pictures at once, each container alone."""
    plain = [number for number in work if number not in found.containers]
    jobs: list[tuple[list[int], Source]] = [(plain, found.source(plain))] if plain else []
    jobs += [([number], found.container(number)) for number in work if number in found.containers]
    for numbers, source in jobs:
        name = hashlib.blake2b(f"{model} {found.digest(numbers)}".encode(), digest_size=10).hexdigest()
        answers = work_folder / f"{name}.parquet"  # of these files as they are: what is left of others does not count
        if not answers.exists():
            classify_files([], bundle.path, answers, columns=_ANSWERS, resume=True, latent=True, sources=[source])
        yield numbers, parquet.read_table(answers)


def _complete(answers: pa.Table, found: Inventory, numbers: NDArray[np.int64], *, added: bool) -> pa.Table:
    """Return N answers as rows, `numbers` (N,) being those of their files."""
    states = [found.states[number] for number in numbers]  # of the inventory itself: no copies
    modified = np.fromiter((state.modified_ns for state in states), np.int64, len(states))
    columns: dict[str, Any] = {
        "path": answers.column("path"),
        "category": answers.column("label"),
        "name": pa.nulls(len(answers), pa.string()),
        "probability": answers.column("confidence"),
        "unsure": pa.nulls(len(answers), pa.bool_()),
        "error": answers.column("error"),
        "file": [os.fsencode(found.paths[number]) for number in numbers],
        "size": np.fromiter((state.size for state in states), np.int64, len(states)),
        "modified": pa.array(modified).cast(SCHEMA.field("modified").type),
        "added": pa.repeat(pa.scalar(added), len(answers)),
        "latent": answers.column("latent").cast(SCHEMA.field("latent").type),
    }
    return pa.table(columns, SCHEMA)


def is_unsure(table: pa.Table, unsure: float) -> pa.ChunkedArray:
    """Return for each row whether its probability is below `unsure`; null where there is none."""
    return compute.less(table.column("probability"), pa.scalar(unsure, pa.float32()))


def _named(table: pa.Table, bundle: Bundle, unsure: float) -> pa.Table:
    """Return rows with the names that categories have now, and with what counts as unsure now."""
    names = pa.array(bundle.manifest.category_names, pa.string())
    category = table.column("category").combine_chunks()
    doubtful = is_unsure(table, unsure)
    table = table.set_column(SCHEMA.get_field_index("name"), SCHEMA.field("name"), names.take(category))
    return table.set_column(SCHEMA.get_field_index("unsure"), SCHEMA.field("unsure"), doubtful).combine_chunks()


def _read(path: Path, model: str) -> pa.Table | None:
    """Return the rows there are, None if there are none or another model made them. Raises InfoAEError if damaged."""
    try:
        table = parquet.read_table(path)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException) as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): remove it, and all is labelled again") from None
    if "modified_ns" in table.column_names:  # as an earlier version wrote it
        number, kind = SCHEMA.get_field_index("modified"), SCHEMA.field("modified").type
        table = table.set_column(number, SCHEMA.field("modified"), table.column("modified_ns").cast(kind))
    if not table.schema.equals(SCHEMA) or (table.schema.metadata or {}).get(_MODEL) != model.encode():
        return None
    return table


def _by_file(table: pa.Table) -> dict[bytes, _Known]:
    """Return the rows of each file; those of one follow each other."""
    if not len(table):
        return {}
    names = table.column("file").to_pylist()
    sizes, times = (table.column(name).cast(pa.int64()).to_pylist() for name in ("size", "modified"))
    failed = table.column("error").is_valid().to_pylist()
    starts = [0, *(row for row in range(1, len(names)) if names[row] != names[row - 1])]
    return {
        names[start]: _Known(range(start, stop), State(sizes[start], times[start]), failed[start] and stop - start == 1)
        for start, stop in zip(starts, [*starts[1:], len(names)], strict=True)
    }


def _write(out: Path, table: pa.Table) -> None:
    """Write both files, unless they say the same already; labels.parquet last, from which the next time goes on."""
    old = parquet.read_table(out / LABELS) if (out / LABELS).exists() and (out / CSV).exists() else None
    if old is not None and old.equals(table, check_metadata=True):
        return
    shown = table.select(["path", "category", "name", "probability", "unsure", "error"])
    form = Csv()
    with atomic_file(out / CSV) as temporary, temporary.open("wb") as file:
        file.write(form.header(shown.schema))
        form.write(file, shown.to_batches())
    with atomic_file(out / LABELS) as temporary:
        parquet.write_table(table, temporary)
