"""Results of a classification, written and read again."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from pyarrow import parquet

from infoae.deploy.bundle import Bundle, Manifest
from infoae.deploy.classifier import Answers
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import format_of, open_file
from infoae.errors import InfoAEError
from tests.helpers.bundles import LATENT, make_bundle

JOB = {"model": "abc"}
PROBABILITIES = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]], np.float32)
LATENTS = np.arange(2 * LATENT, dtype=np.float32).reshape(2, LATENT)


def manifest_in(folder: Path) -> Manifest:
    """Make a bundle and return its manifest, as of three categories."""
    manifest = Bundle.load(make_bundle(folder / "bundle")).manifest
    return manifest.model_copy(update={"num_categories": 3, "category_names": ("zero", "one, two", 'th"ree')})


def read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a result."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def write(path: Path, rows: RowFormat, blocks: list[list[str]], *, resume: bool = False, stop: bool = False) -> int:
    """Write a row for each key; a key that starts with "bad" has an error. Returns how many rows were there before."""
    with open_file(path, format_of(path), rows.schema, JOB, resume=resume) as sink:
        before = sum(part.num_rows for part in sink.parts)
        for keys in blocks:
            errors = ["broken" if key.startswith("bad") else None for key in keys]
            chosen = np.arange(sum(error is None for error in errors)) % 2
            answers = Answers(PROBABILITIES[chosen], LATENTS[chosen])
            sink.write(rows.batch(keys, answers, errors), keys, len(keys) - len(chosen), Counts())
        if stop:
            raise InfoAEError("stopped")
    return before
