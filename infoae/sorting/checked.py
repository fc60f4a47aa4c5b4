"""`infoae sort --quality`: what is wrong with the pictures that are labelled, as quality.csv. No torch."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv, parquet

from infoae.cpus import available_cpus
from infoae.files import atomic_file
from infoae.reporting.bars import Bar
from infoae.sorting import quality
from infoae.sorting.state import LABELS, QUALITY


def check(out: Path) -> str:
    """Write quality.csv beside labels.parquet in `out`, of pictures that are files of their own; return what it says.

    Raises InfoAEError where the machine is at its end.
    """
    table = parquet.read_table(out / LABELS, columns=["path", "file", "latent"])
    files = table.column("file").to_pylist()
    pictures = Counter(files)
    rows = [row for row, file in enumerate(files) if pictures[file] == 1]
    table = table.take(rows)
    paths = table.column("path").to_pylist()
    with Bar("looking for faults", "pictures", len(rows)) as bar:
        measures = quality.measured([Path(os.fsdecode(files[row])) for row in rows], available_cpus(), bar.advance)
    found = quality.columns(paths, measures, _latents(table.column("latent").combine_chunks()))
    with atomic_file(out / QUALITY) as temporary:
        csv.write_csv(pa.table({"path": paths} | found), temporary)
    counts = {name: sum(value not in (None, False) for value in values) for name, values in found.items()}
    told = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items())
    return f"of {len(rows):,} pictures {told}: {out / QUALITY}"


def _latents(column: pa.ListArray) -> NDArray[np.float32]:
    """Return latents (N, Z), NaN where there is none; not by way of Python's numbers, which take ten times as much."""
    known = column.is_valid().to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy()
    z = np.full((len(column), max(1, len(values) // max(1, int(known.sum())))), np.nan, np.float32)
    z[known] = values.reshape(int(known.sum()), -1) if known.any() else z[known]
    return z
