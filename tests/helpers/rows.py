"""Shards of Parquet with a picture a row, and what classifying them comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from infoae.data import object_store
from infoae.deploy import Classifier
from tests.helpers.inputs import PIXELS, png
from tests.helpers.s3 import S3Server


def write_rows(path: Path, rows: range, others: list[bytes | None] | None = None) -> None:
    """Write a shard: a picture a row, its number beside it."""
    images = [png(row % len(PIXELS)) for row in rows] + (others or [])
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table({"row": range(len(images)), "image": images}), path, row_group_size=7)


def put_shards(server: S3Server, folder: Path, count: int, rows: int) -> tuple[str, list[str]]:
    """Put so many shards into the store; return their address and the key of each row."""
    for shard in range(count):
        write_rows(folder / f"{shard:03}.parquet", range(shard, shard + rows))
    keys = [f"s3://bucket/rows/{shard:03}.parquet#{row}" for shard in range(count) for row in range(rows)]
    return server.put(folder, "rows"), keys


def rows_of(place: Path) -> list[dict[str, Any]]:
    files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def fetched(address: str, folder: Path) -> Path:
    """Return a folder with copies of what lies in a store."""
    folder.mkdir()
    place, files = object_store.below(address)
    for file in files:
        (folder / file.name).write_bytes(object_store.content(place, file))
    return folder


def labels(model: Path, shards: int, rows: int) -> list[int]:
    """Return the label of each row that `put_shards` puts there, by a classifier alone."""
    known = Classifier(model, "cpu").classify(PIXELS[:, None]).probabilities.argmax(axis=1).tolist()
    return [known[(shard + row) % len(PIXELS)] for shard in range(shards) for row in range(rows)]
