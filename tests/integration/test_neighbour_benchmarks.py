"""The benchmarks of neighbours: of each search, of the search on disk, and the model of many nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

from benchmarks import (
    neighbour_model,
    neighbour_scale,
    neighbour_search,
    neighbours,
)
from benchmarks.pages import neighbours as pages
from infoae.config import Neighbours
from infoae.data import ImageSet
from infoae.pseudolabels import knn, search_files
from infoae.pseudolabels.lists_on_disk import Lists
from infoae.pseudolabels.search_tasks import STAGES


def test_neighbours_measures_what_faiss_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "FEW", 100)
    options = ["--limit", "600", "--times", "1", "2", "--sample", "50", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["neighbours.py", *options])
    neighbours.main()
    sizes = json.loads((tmp_path / "out").read_text())["sizes"]
    assert [size["images"] for size in sizes] == [600, 1200]
    assert all(0.9 < size["recall_of_100"] <= 1 for size in sizes)


def test_neighbour_search_measures_all_three_searches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "FEW", 100)
    options = ["--limit", "500", "--sizes", "400", "800", "--widths", "9", "--sample", "50"]
    monkeypatch.setattr(sys, "argv", ["neighbour_search.py", *options, "--out", str(tmp_path / "out")])
    neighbour_search.main()
    found = json.loads((tmp_path / "out").read_text())
    assert [(row["kind"], row["vectors"]) for row in found["rows"]] == [("MNIST", 500), ("made", 400), ("made", 800)]
    assert all(0.9 < part <= 1 for row in found["rows"] for part in row["found_of_5"].values())
    assert set(found["powers"]["9"]) == {"exact", "lists", "graph"}


def test_a_measured_search_on_disk_that_was_stopped_counts_what_it_had_taken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    mnist: tuple[ImageSet, ImageSet],
) -> None:
    for name, size in {"PART": 100, "BLOCK": 50}.items():
        monkeypatch.setattr(search_files, name, size)
    monkeypatch.setattr(knn, "FEW", 100)
    monkeypatch.setattr(neighbour_scale, "SAY_SECONDS", 0.0)
    (tmp_path / "shards").mkdir()
    np.save(tmp_path / "shards" / "0.npy", mnist[0].images)
    arguments = (tmp_path / "shards", 300, Neighbours(search="approximate"), tmp_path / "search", 1)
    with monkeypatch.context() as patched:
        patched.setattr(Lists, "closest", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            neighbour_scale.search(*arguments)
    kept = json.loads((tmp_path / "search.json").read_text())
    figures = neighbour_scale.search(*arguments)
    assert list(figures["stages"]) == [stage.result for stage in STAGES]
    for stage in STAGES[:-1]:
        assert figures["stages"][stage.result] == kept["stages"][stage.result]
    assert figures["stages"]["found"]["tasks"] == 6
    assert figures["seconds"] > kept["seconds"]
    # Each image is read once as one that neighbours are sought for, and all as candidates of others.
    assert figures["gathered_bytes"] > 2 * 300 * 4 * 50
    assert figures["bytes"]["sorted"] == pytest.approx(300 * 4 * (50 + 50 * 7 + 2), rel=0.01)
    assert [path.name for path in tmp_path.iterdir()] == ["shards"]
    assert "300 images: found 6 of 6" in capsys.readouterr().out


def test_the_model_of_a_search_on_many_nodes_is_that_of_its_terms() -> None:
    """From made rows whose stages take what their terms say, and against sums by hand of a billion images."""
    rows = []
    for images in (60_000, 1_000_000, 10_000_000):
        lists, parts = 4 * images**0.5, images / 32_768
        seconds = {
            "sums": 2e-5 * images,
            "frame": 0.3 + 0.01 * parts,
            "sample": 3e-5 * min(images, 64 * lists),
            "centres": 1e-9 * min(images, 64 * lists) * lists,
            "sorted": 1e-4 * images + 2e-9 * images * lists,
            "places": 1e-9 * images + 1e-8 * parts * lists,
            "grouped": 3e-6 * images + 1e-4 * parts * parts / 4,
            "found": 3e-4 * images + 1e-7 * images**1.5,
        }
        stages = {name: {"tasks": 1, "cpu_seconds": each} for name, each in seconds.items()}
        kept = {"sorted": 1600 * images, "grouped": 1600 * images, "found": 24 * images}
        row = {"images": images, "searched": "lists", "stages": stages, "bytes": kept}
        rows.append(row | {"gathered_bytes": 5000 * images + 2 * images**1.5})
    assert neighbour_model.modelled(rows[:1]) is None
    assert neighbour_model.modelled([rows[0], rows[0] | {"images": 50_000}]) is None
    model = neighbour_model.modelled(rows)
    assert model is not None
    assert max(model["largest_errors"].values()) < 1e-6
    billion = model["sizes"][-1]
    assert billion["images"] == 10**9
    lists = 4 * 10**4.5
    found = 3e-4 * 1e9 + 1e-7 * 10**13.5
    assert billion["stages"]["found"]["cpu_hours"] == pytest.approx(found / 3600)
    assert billion["stages"]["found"]["moved_tb"] == pytest.approx(
        (5000e9 + 2 * 10**13.5 + 24e9 + 1e9 / 8192 * lists * (200 + 24)) / 1e12
    )
    moving, computing = billion["stages"]["found"]["moved_tb"] * 1e12 / 20e9, found / 1024
    assert billion["stages"]["found"]["hours"] == pytest.approx(max(moving, computing) / 3600)
    assert billion["stages"]["found"]["bound_by"] == "moving"
    learnt_from = lists * (512 * 1024**2 / (200 * lists))  # no longer 64 vectors a list
    assert billion["stages"]["centres"]["hours"] == pytest.approx(1e-9 * learnt_from * lists / 8 / 3600)
    assert billion["hours"] == pytest.approx(sum(stage["hours"] for stage in billion["stages"].values()))
    shown = "\n".join(pages.modelled(model))
    assert "64 nodes of 16 CPUs" in shown
    assert f"| 1,000,000,000 | {billion['cpu_hours']:,.0f} h |" in shown
