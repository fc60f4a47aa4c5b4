"""A search for neighbours on the nodes of a simulated Ray cluster: the same as in one process, whatever is lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infoae import data
from infoae.cluster import connect, driver, searching
from infoae.cluster.connect import Request
from infoae.config import Augment, Data, Neighbours
from infoae.data.shards import Shards
from infoae.errors import InfoAEError
from infoae.pseudolabels import knn, search_files
from infoae.pseudolabels.search_files import Search
from infoae.pseudolabels.search_on_disk import nearest_by_features_on_disk, nearest_on_disk
from infoae.pseudolabels.search_tasks import Stage
from infoae.runs.run import NEIGHBOUR_SEARCH, NEIGHBOURS
from infoae.runs.storage import Storage
from tests.helpers.ray_runs import RAY_ONLY, plan, workers

pytestmark = RAY_ONLY
RULE = Neighbours(search="approximate", distortion=1)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks enough for two nodes, of lists, for few images. A search is told of them, so the nodes have them, too."""
    for name, size in {"PART": 150, "GROUP": 2, "BLOCK": 60}.items():
        monkeypatch.setattr(search_files, name, size)
    monkeypatch.setattr(knn, "FEW", 100)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    """Three shards of 600 images."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, part in enumerate(np.split(np.asarray(data.load(Data(limit=600), "train").images), [100, 400])):
        np.save(folder / f"{number}.npy", part)
    return Shards(folder)


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_a_node_killed_in_the_middle_of_a_search_changes_nothing(
    ray_cluster: Any, shards: Shards, tmp_path: Path
) -> None:
    """It is killed while a task of the last stage runs on it, when none of that stage is done yet."""
    expected = nearest_on_disk(tmp_path / "here", shards, RULE, Augment())
    doomed, done_then = next(iter(ray_cluster.worker_nodes)), list[int]()
    folder = tmp_path / "on-nodes"

    def kill() -> None:
        while not workers(doomed, "infoae search: found"):
            time.sleep(0.01)
        time.sleep(0.5)  # it compiles for seconds
        done_then.append(len(list(folder.glob("found-*.npy"))))
        ray_cluster.remove_node(doomed, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    counts = list[int]()
    with connect.connected(Request(2, 2, 1, ray_cluster.address), tmp_path / "ray.log"):
        on_nodes = searching.on_nodes(tmp_path / "ray.log")
        found = nearest_on_disk(folder, shards, RULE, Augment(), counts.append, on_nodes)
    ray_cluster.add_node(num_cpus=1)
    assert not killer.is_alive()
    assert done_then == [0]
    np.testing.assert_array_equal(found, expected)
    assert sum(counts) == 600
    names = {path.name for path in (tmp_path / "here").glob("*.npy")}
    assert {path.name for path in folder.glob("*.npy")} == names
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "here" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_features_are_searched_by_the_nodes_and_a_damaged_file_is_named_with_its_node(
    ray_cluster: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    features = np.random.default_rng(0).normal(size=(400, 30)).astype(np.float32)
    rule = Neighbours(search="approximate")
    expected = nearest_by_features_on_disk(tmp_path / "here", features, rule, whitened=True)
    folder = tmp_path / "on-nodes"
    nodes = searching.on_nodes(tmp_path / "ray.log")

    def damaging(search: Search, stage: Stage, numbers: Sequence[int]) -> Generator[object]:
        if stage.result == "sorted":
            search.path("centres").write_bytes(b"nothing")
        return nodes(search, stage, numbers)

    with connect.connected(Request(2, 2, 1, ray_cluster.address), tmp_path / "ray.log"):
        with pytest.raises(InfoAEError, match=r"^node [\d.]+: .*centres-000000\.npy cannot be read as \.npy") as caught:
            nearest_by_features_on_disk(folder, features, rule, executor=damaging, whitened=True)
        sys.stdout.write("shown again\n")  # what Ray prints went to the log meanwhile
        (folder / "centres-000000.npy").unlink()
        found = nearest_by_features_on_disk(folder, features, rule, executor=nodes, whitened=True)
    assert "\n" not in str(caught.value)
    np.testing.assert_array_equal(found, expected)
    shown = capfd.readouterr()
    assert shown.out == "shown again\n"
    assert "search" not in shown.err


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    "stored", [pytest.param(False, marks=pytest.mark.slow), pytest.param(True, marks=pytest.mark.long)]
)
def test_a_training_on_nodes_has_them_search(stored: bool, ray_cluster: Any, tmp_path: Path) -> None:
    """With --storage, whose runs the nodes need not see, the command searches itself, and finds the same."""
    settings = ["objective.pairs=neighbours", "neighbours.memory=0.001", "data.limit=null", "train.epochs=1"]
    given, storage = plan(tmp_path / "runs", "run", *settings), Storage(str(tmp_path / "store")) if stored else None
    ended, seen = threading.Event(), set[Any]()

    def watch() -> None:
        while not ended.wait(0.01):
            seen.update(node for node in ray_cluster.worker_nodes if workers(node, "infoae search"))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        result = driver.run(given, "disabled", Request(2, 2, 1, ray_cluster.address), storage, 0)
    finally:
        ended.set()
        watching.join()
    assert result.finished
    assert len(seen) == (0 if stored else 2)
    run = tmp_path / "runs" / "run"
    assert not (run / NEIGHBOUR_SEARCH).exists()
    expected = nearest_on_disk(tmp_path / "here", given.train.images, given.config.neighbours, given.config.augment)
    np.testing.assert_array_equal(np.load(run / NEIGHBOURS)["neighbours"], expected)
