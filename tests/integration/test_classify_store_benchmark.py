"""The benchmark of classifying an object store finds what is lost, doubled or labelled otherwise, and tells it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from pyarrow import parquet

from benchmarks import classify_store, store_rows
from benchmarks.classify_store import Look, check, quarters, rate
from benchmarks.pages.results import Results
from benchmarks.pages.tables import TABLES
from tests.helpers.bundles import make_bundle

LABELS = np.array([3, 1, 4])


def numbers(address: str) -> NDArray[np.int64]:
    """Two shards of three rows each."""
    return np.arange(3) + 3 * int(address.removeprefix("s3://bucket/rows/"))


def write(folder: Path, *parts: Sequence[tuple[str, int | None]]) -> Path:
    """Write the parts of a result: the keys of its rows, and the label of each, None where it has an error."""
    for number, part in enumerate(parts):
        paths, labels = [f"s3://bucket/rows/{key}" for key, _ in part], [label for _, label in part]
        errors = ["damaged" if label is None else None for label in labels]
        columns = {"path": paths, "label": pa.array(labels, pa.int32()), "error": pa.array(errors, pa.string())}
        parquet.write_table(pa.table(columns), folder / f"part-{number:06}.parquet")
    return folder


def test_rows_that_are_lost_doubled_or_labelled_otherwise_are_counted(tmp_path: Path) -> None:
    whole = [("0#0", 3), ("0#1", 1), ("0#2", 4)], [("1#0", 3), ("1#1", 1), ("1#2", 4)]
    (tmp_path / "whole").mkdir()
    found = check(write(tmp_path / "whole", *whole), 6, numbers, LABELS)
    assert found == {"missing": 0, "once": 6, "more_than_once": 0, "unreadable": 0, "other_label": 0}
    wrong = [("0#0", 3), ("0#0", 3), ("0#2", 9)], [("1#0", 3), ("1#1", None)]
    found = check(write(tmp_path, *wrong), 6, numbers, LABELS)
    assert found == {"missing": 2, "once": 3, "more_than_once": 1, "unreadable": 1, "other_label": 2}


def test_rate_and_memory_are_those_of_the_last_attempt() -> None:
    first = [Look(1, second, 100 * second, 900_000_000, 900_000_000) for second in range(5)]
    last = [Look(2, float(second), 400 + 50 * max(0, second - 4), second, 10**6 * second) for second in range(13)]
    looks = [*first, *last, Look(2, 20.0, 800, 0, 0)]  # ended, but still there
    assert rate(looks) == (800 - 450) / (12 - 5)
    assert quarters(looks)["actor"] == {"first_quarter": 6.0, "last_quarter": 12.0}


def test_pictures_are_digits_and_then_the_same_moved() -> None:
    found = store_rows.pictures(10_010)
    assert found.pixels.shape == (10_010, 1, 28, 28)
    moved = np.abs(found.pixels[10_000:].astype(float) - found.pixels[:10]).mean(axis=(1, 2, 3))
    others = np.abs(found.pixels[10_000:].astype(float) - found.pixels[10:20]).mean(axis=(1, 2, 3))
    assert (moved > 1).all()
    assert moved.mean() < 0.75 * others.mean()


def figures() -> dict[str, object]:
    return {
        "rows": 10_000_000,
        "shard_rows": 100_000,
        "gb_in_store": 3.123,
        "cpus": 2,
        "kills": [{"killed": "command", "after_rows": 1_200_000}, {"killed": "actor", "after_rows": 7_000_000}],
        "seconds": 3600.0,
        "rows_in_result": {"missing": 1, "once": 9_999_997, "more_than_once": 2, "unreadable": 0, "other_label": 3},
        "rows_per_second_a_core": {"job": 1500.4, "classifier": 6000.0, "decoding and classifier": 2000.0},
        "ratios": {"job/classifier": 0.25, "job/decoding and classifier": 0.75},
        "memory_mb": {
            "command": {"first_quarter": 150.2, "last_quarter": 151.0},
            "actor": {"first_quarter": 170.0, "last_quarter": 171.0},
            "server": {"peak": 90.0},
        },
    }


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    source = {"command": "python x.py", "hardware": "two cores", "commit": "abc", "files": ["classify-store.json"]}
    (tmp_path / "sources.json").write_text(json.dumps({"classify-store": source}))
    (tmp_path / "classify-store.json").write_text(json.dumps(figures()))
    text = "\n".join(TABLES["classify-store"](Results(tmp_path)))
    assert "`python x.py` on two cores; commit abc; [classify-store.json](results/classify-store.json)." in text
    assert "| 10,000,000 in 100, 3.12 GB |" in text
    assert "| command after 1,200,000 rows; actor after 7,000,000 rows |" in text
    assert "| 9,999,997, 1, 2 |" in text
    assert "| 60 min on 2 CPUs |" in text
    assert "| the job against `Classifier` | 0.25 |" in text
    assert "| 150 MB and 151 MB |" in text


@pytest.mark.long
@pytest.mark.xdist_group("ray")
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, out = make_bundle(tmp_path / "bundle"), tmp_path / "out.json"
    monkeypatch.setattr(store_rows, "ALONE_SECONDS", 1.0)
    for name in ("PYTHONPATH", "INFOAE_CACHE"):
        monkeypatch.setenv(name, "")  # is set there
    given = ["--rows", "12000", "--shard-rows", "300", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["classify_store.py", str(bundle), str(tmp_path / "work"), *given])
    classify_store.main()
    found = json.loads(out.read_text())
    assert [kill["killed"] for kill in found["kills"]] == ["command", "actor"]
    assert found["rows_in_result"]["once"] == 12_000
    assert found["labels"] > 3
    assert figures().keys() <= found.keys()
