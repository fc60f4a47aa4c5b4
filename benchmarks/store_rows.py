"""Rows of pictures in an S3 server, and what `Classifier` alone makes of them."""

from __future__ import annotations

import io
import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from benchmarks.object_store import BUCKET, Store
from infoae import data
from infoae.config import Data
from infoae.deploy import Classifier
from infoae.deploy.bundle import Bundle
from infoae.deploy.classifier import BATCH_SIZE
from infoae.inputs.blocks import Block
from infoae.inputs.decoding import decode

ADDRESS = f"s3://{BUCKET}/rows"
MAPS = 25
"""Each digit is there as it is, and moved in so many ways less one; then all come again."""
GROUP_ROWS = 10_000
ALONE_ROWS, ALONE_SECONDS = 20_000, 20.0


@dataclass(frozen=True)
class Pictures:
    """Pictures as uint8 (N, 1, 28, 28), and each as PNG."""

    pixels: NDArray[np.uint8]
    encoded: list[bytes]


def pictures(most: int) -> Pictures:
    """Return the test digits, and then all of them moved, once for each map but the first; at most so many."""
    digits = np.asarray(data.load(Data(), "test").images)[:, 0]
    random = np.random.default_rng(0)
    made: list[NDArray[np.uint8]] = []
    encoded: list[bytes] = []
    for number in range(min(most, MAPS * len(digits))):
        picture = Image.fromarray(digits[number % len(digits)])
        if number >= len(digits):
            turned = np.eye(2) + random.uniform(-0.15, 0.15, (2, 2))
            shift = 14 - turned @ [14, 14] + random.uniform(-2, 2, 2)
            rows = np.column_stack([turned, shift]).ravel().tolist()
            picture = picture.transform(picture.size, Image.Transform.AFFINE, rows, Image.Resampling.BILINEAR)
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        made.append(np.asarray(picture))
        encoded.append(buffer.getvalue())
    return Pictures(np.stack(made)[:, None], encoded)


def write(store: Store, encoded: list[bytes], total: int, shard_rows: int) -> int:
    """Write so many rows into the store, each with its number; row n is picture n modulo their number."""
    num_bytes = 0
    for shard, start in enumerate(range(0, total, shard_rows)):
        numbers = range(start, min(start + shard_rows, total))
        table = pa.table({"row": numbers, "image": [encoded[number % len(encoded)] for number in numbers]})
        path = f"{ADDRESS.removeprefix('s3://')}/{shard:05}.parquet"
        parquet.write_table(table, path, filesystem=store.system, row_group_size=GROUP_ROWS)
        num_bytes += store.system.get_file_info(path).size
    return num_bytes


def numbers(store: Store, address: str) -> NDArray[np.int64]:
    """Return the numbers of the rows of a shard."""
    table = parquet.read_table(address.removeprefix("s3://"), columns=["row"], filesystem=store.system)
    return np.asarray(table["row"].to_numpy())


def alone(bundle: Path, given: Pictures, cpus: int) -> dict[str, float]:
    """Return the rows a second of a core, all cores at work: of a classifier, and of decoding before it."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(cpus)
    with context.Pool(cpus, _meet, (together,)) as pool:
        jobs = [(bundle, given.encoded[:ALONE_ROWS], ALONE_SECONDS)] * cpus
        found = pool.starmap(_alone, jobs, chunksize=1)
    return {name: sum(each[name] for each in found) / cpus for name in found[0]}


_together: Any = None


def _meet(together: Any) -> None:
    global _together
    _together = together


def _alone(bundle: Path, encoded: list[bytes], seconds: float) -> dict[str, float]:
    classifier = Classifier(bundle, "cpu", num_threads=1)
    image = Bundle.load(bundle).manifest.image
    blocks = [Block([""] * len(part), list(part)) for part in _batches(encoded)]
    decoded = [decode(block, image).images for block in blocks]
    rates = {}
    for name in ("classifier", "decoding and classifier"):
        _together.wait()
        start, rows, number = time.perf_counter(), 0, 0
        while time.perf_counter() - start < seconds:
            images = decoded[number] if name == "classifier" else decode(blocks[number], image).images
            classifier.classify(images)
            rows += len(images)
            number = (number + 1) % len(blocks)
        rates[name] = rows / (time.perf_counter() - start)
    return rates


def _batches(encoded: list[bytes]) -> list[list[bytes]]:
    return [encoded[start : start + BATCH_SIZE] for start in range(0, len(encoded), BATCH_SIZE)]
