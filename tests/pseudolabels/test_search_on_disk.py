"""Neighbours in parts on disk: the same as in memory, and a search goes on where it stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from infoae import ram
from infoae.config import Augment, Config, Neighbours, NeighbourSearch, recipes
from infoae.data import ImageSet
from infoae.data.shards import Shards
from infoae.errors import InfoAEError
from infoae.pseudolabels import knn, lists_on_disk, pairs, search_files, search_on_disk, search_tasks, search_vectors
from infoae.pseudolabels.lists_on_disk import Lists
from infoae.pseudolabels.neighbour_graph import nearest_by_features, nearest_neighbours
from infoae.pseudolabels.partners import half_whitened
from infoae.pseudolabels.search_files import Search
from infoae.pseudolabels.search_on_disk import nearest_by_features_on_disk, nearest_on_disk
from infoae.pseudolabels.search_tasks import STAGES
from infoae.runs.run import NEIGHBOUR_SEARCH, NEIGHBOURS, Run

ANGLE_ALONE = Augment(degrees=0, translate=0, scale=0, shear=0)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts, blocks and pieces of which even 300 images have several, and lists that even so few are searched by."""
    for name, size in {"PART": 60, "GROUP": 2, "BLOCK": 70}.items():
        monkeypatch.setattr(search_files, name, size)
    monkeypatch.setattr(search_tasks, "AT_ONCE", 30)
    monkeypatch.setattr(search_tasks, "PLANES_BYTES", 230 * 4 * 50 * 7)  # some blocks are halved, some are not
    monkeypatch.setattr(search_vectors, "READ", 50)
    monkeypatch.setattr(lists_on_disk, "PIECE_BYTES", 4 * 50 * 90)
    monkeypatch.setattr(knn, "FEW", 100)


@pytest.fixture
def shards(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> Shards:
    """250 images of three shards that hold 300."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for number, images in enumerate(np.split(np.asarray(mnist[0].images), [40, 220])):
        np.save(folder / f"{number}.npy", images)
    return Shards(folder).first(250)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(
    ("rule", "augment"),
    [
        ({}, Augment()),
        ({"search": "approximate"}, Augment()),
        ({"search": "approximate", "distortion": 1, "merging_count": 9}, Augment()),
        ({"search": "approximate", "blur": 0}, ANGLE_ALONE),
    ],
)
def test_all_lists_hold_the_exact_graph(
    rule: dict[str, Any],
    augment: Augment,
    shards: Shards,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(knn, "LOOKED_INTO", 10**6)
    found = nearest_on_disk(tmp_path / "search", shards, Neighbours(**rule), augment)
    expected = nearest_neighbours(shards[:], Neighbours(**rule | {"search": "exact"}), augment)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("search", ["exact", "approximate"])
@pytest.mark.parametrize("whitened", [False, True])
def test_all_lists_hold_the_exact_graph_of_features(
    search: NeighbourSearch, whitened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of features whose mean is larger than what they vary by, and that vary more in some directions."""
    monkeypatch.setattr(knn, "LOOKED_INTO", 10**6)
    random = np.random.default_rng(0)
    values = random.normal(size=(270, 20)) @ np.diag(np.geomspace(1, 30, 20)) @ random.normal(size=(20, 20)) + 100
    np.save(tmp_path / "features.npy", values.astype(np.float32))
    features = np.load(tmp_path / "features.npy", "r")[:250]
    found = nearest_by_features_on_disk(tmp_path / "a", features, Neighbours(search=search), whitened=whitened)
    compared = half_whitened(features) if whitened else features
    np.testing.assert_array_equal(found, nearest_by_features(compared, Neighbours(search="exact")))
    other = nearest_by_features_on_disk(tmp_path / "b", features, Neighbours(search=search), whitened=not whitened)
    assert (found != other).any()


def test_wide_vectors_are_cut_into_smaller_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_files, "PART_BYTES", 4000)
    for width, part in {10: 100, 500: 2, 5000: 1}.items():
        np.save(tmp_path / "features.npy", np.zeros((3, width), np.float32))
        features = search_vectors.Features(tmp_path / "features.npy", Neighbours(), whitened=False)
        assert Search.of(tmp_path, features, 3).part == part


@pytest.mark.usefixtures("small_parts")
def test_images_in_memory_are_searched_like_shards(shards: Shards, tmp_path: Path) -> None:
    rule = Neighbours(search="approximate")
    found = nearest_on_disk(tmp_path / "of-array", shards[:], rule, Augment())
    expected = nearest_on_disk(tmp_path / "of-shards", shards, rule, Augment())
    np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize(("threads", "memory", "at_once"), [(2, None, 2), (2, 0.001, 1), (3, 1.2, 2)])
def test_tasks_are_done_at_once_where_memory_does(
    threads: int, memory: float | None, at_once: int, shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And find what one after the other finds; a task waits for another, if there is to be one."""
    expected = nearest_on_disk(tmp_path / "one", shards, Neighbours(search="approximate"), Augment())
    save, most, together = Search.save, list[int](), threading.Barrier(at_once)
    running, counting = set[int](), threading.Lock()

    def counted(search: Search, result: str, number: int, value: NDArray[Any]) -> None:
        with counting:
            running.add(threading.get_ident())
            most.append(len(running))
        if result == "found":  # of four tasks
            together.wait(60)
            assert torch.get_num_threads() == threads // at_once
        with counting:
            running.discard(threading.get_ident())
        save(search, result, number, value)

    monkeypatch.setattr(Search, "save", counted)
    torch.set_num_threads(threads)
    rule = Neighbours(search="approximate", memory=memory)
    found = nearest_on_disk(tmp_path / "at-once", shards, rule, Augment())
    np.testing.assert_array_equal(found, expected)
    assert max(most) == at_once
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("small_parts")
def test_a_task_that_fails_beside_another_ends_the_search(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, save = Neighbours(search="approximate"), Search.save
    expected = nearest_on_disk(tmp_path / "unbroken", shards, rule, Augment())

    def failing(search: Search, result: str, number: int, value: NDArray[Any]) -> None:
        if (result, number) == ("sums", 1):
            raise InfoAEError("no more")
        save(search, result, number, value)

    torch.set_num_threads(2)
    with monkeypatch.context() as patched:
        patched.setattr(Search, "save", failing)
        with pytest.raises(InfoAEError, match="no more"):
            nearest_on_disk(tmp_path / "broken", shards, rule, Augment())
    assert torch.get_num_threads() == 2
    np.testing.assert_array_equal(nearest_on_disk(tmp_path / "broken", shards, rule, Augment()), expected)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("looked_into", [1, 3])
def test_lists_near_a_vector_are_looked_into_and_more_where_they_hold_too_few(looked_into: int) -> None:
    """Against cosines with all vectors of so many lists nearest to each, one query after the other."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(400, 50)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    centres = Lists.learn(vectors, 20)
    of = (vectors @ centres.T).argmax(1)
    np.testing.assert_array_equal(Lists(centres).nearest(vectors, 1)[:, 0], of)
    order = of.argsort(kind="stable")
    vectors, of = vectors[order], of[order]
    lists = Lists(centres, vectors, np.searchsorted(of, np.arange(21)))
    count, widened = 25, 0
    for query, found in zip(vectors[:50], lists.closest(vectors[:50], count, looked_into), strict=True):
        near = (-(centres @ query)).argsort(kind="stable")
        into = looked_into
        while np.isin(of, near[:into]).sum() < count:
            into *= 2
            widened += 1
        cosines = np.where(np.isin(of, near[:into]), vectors @ query, -2)
        assert found.tolist() == (-cosines).argsort(kind="stable")[:count].tolist()
    assert widened > 0 or looked_into == 3


@pytest.mark.usefixtures("small_parts")
def test_a_search_that_was_stopped_goes_on_with_the_tasks_that_are_left(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped again and again, as each task is about to keep what it has made: so each begins twice."""
    rule = Neighbours(search="approximate")
    expected = nearest_on_disk(tmp_path / "unbroken", shards, rule, Augment())
    begun, save, stopped_at = list[tuple[str, int]](), Search.save, set[tuple[str, int]]()

    def stopping(search: Search, result: str, number: int, value: NDArray[Any]) -> None:
        begun.append((result, number))
        if (result, number) not in stopped_at:
            stopped_at.add((result, number))
            raise KeyboardInterrupt
        save(search, result, number, value)

    monkeypatch.setattr(Search, "save", stopping)
    counts: list[int] = []
    while True:
        counts.clear()
        try:
            found = nearest_on_disk(tmp_path / "stopped", shards, rule, Augment(), counts.append)
            break
        except KeyboardInterrupt:
            continue
    np.testing.assert_array_equal(found, expected)
    assert sum(counts) == 250  # with tasks that were done before
    files = {
        "sums": (5, ["sums"]),
        "frame": (1, ["frame"]),
        "sample": (5, ["sample"]),
        "centres": (1, ["centres"]),
        "sorted": (5, ["sorted-planes", "sorted-vectors", "sorted"]),
        "grouped": (3, ["grouped-vectors", "grouped-planes", "grouped"]),
        "found": (4, ["found"]),
    }
    attempts = [
        (result, number)
        for count, results in files.values()
        for number in range(count)
        for stop in range(len(results) + 1)  # the last time it keeps all
        for result in results[: stop + 1]
    ]
    assert begun == attempts
    assert [stage.result for stage in STAGES if stage.result not in files] == ["places"]  # written as it is made


@pytest.mark.parametrize("name", ["centres-000000.npy", "grouped-vectors-000000.npy"])
@pytest.mark.usefixtures("small_parts")
def test_a_damaged_part_is_one_clear_line(
    name: str, shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Lists, "closest", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        nearest_on_disk(tmp_path / "search", shards, Neighbours(), Augment())
    (tmp_path / "search" / name).write_bytes(b"nothing")
    with pytest.raises(InfoAEError, match=rf"{name} cannot be read as \.npy: .*: remove .*search, it is made again"):
        nearest_on_disk(tmp_path / "search", shards, Neighbours(), Augment())


@pytest.mark.usefixtures("small_parts")
def test_a_run_keeps_neighbours_found_on_disk_as_others(shards: Shards, tmp_path: Path) -> None:
    said, counts = list[str](), list[int]()
    kept = {}
    for name, memory in {"memory": None, "disk": 0.001}.items():
        run = Run.create(tmp_path / "runs", name, "test", Config())
        pairs.find(run, shards, Neighbours(memory=memory), Augment(), counts.append, said.append)
        kept[name] = np.load(run.path / NEIGHBOURS)
        assert not (run.path / NEIGHBOUR_SEARCH).exists()
    np.testing.assert_array_equal(kept["disk"]["neighbours"], kept["memory"]["neighbours"])
    assert kept["disk"]["source"] != kept["memory"]["source"]
    assert sum(counts) == 2 * 250
    assert set(counts[1:]) == {10}  # for each of twenty-five tasks
    assert [each.partition(", in parts on disk")[1:] for each in said] == [
        ("", ""),
        (", in parts on disk", "; in memory they would take 0.0039 GB (neighbours.memory)"),
    ]


@pytest.mark.usefixtures("small_parts")
def test_a_run_keeps_neighbours_in_features_found_on_disk(shards: Shards, tmp_path: Path) -> None:
    features, kept = np.random.default_rng(0).normal(size=(250, 30)).astype(np.float32), []
    for name, memory in {"memory": None, "disk": 0.0001}.items():
        run = Run.create(tmp_path / "runs", name, "test", Config())
        said: list[str] = []
        pairs.find(run, shards, Neighbours(memory=memory), Augment(), say=said.append, features=features)
        assert ["in parts on disk" in each for each in said] == [memory is not None]
        kept.append(np.load(run.path / NEIGHBOURS)["neighbours"])
    np.testing.assert_array_equal(kept[0], kept[1])


@pytest.mark.parametrize(
    ("number", "memory", "machine", "needed"),
    [
        (100_000, None, 10**6, False),  # as ever, whatever the machine has
        (100_001, None, 2.2e9, True),
        (100_001, None, 2.4e9, False),  # of which half is enough
        (1000, 0.015, 10**12, True),
        (1000, 0.016, 10**6, False),
    ],
)
def test_the_disk_is_used_where_memory_does_not_do(
    number: int, memory: float | None, machine: float, needed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ram, "total", lambda: machine)
    rule = Neighbours(memory=memory)
    in_memory = search_on_disk.bytes_in_memory((number, 1, 28, 28), rule, Augment())
    assert search_on_disk.is_needed(number, in_memory, rule) == needed


@pytest.mark.parametrize("version", ["v2", "v1"])
def test_a_container_has_the_memory_of_its_narrowest_group(version: str, tmp_path: Path) -> None:
    controllers, name = ("", "memory.max") if version == "v2" else ("memory", "memory.limit_in_bytes")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"4:cpu:/elsewhere\n3:{controllers}:/outer/inner\n")
    inner = tmp_path / "sys/fs/cgroup" / controllers / "outer/inner"
    inner.mkdir(parents=True)
    unlimited = ram.total(tmp_path)
    assert unlimited > 2**27
    (inner / name).write_text("max\n" if version == "v2" else "9223372036854771712\n")
    assert ram.total(tmp_path) == unlimited
    (inner.parent / name).write_text("1000000\n")
    assert ram.total(tmp_path) == 1_000_000


def test_neighbours_are_mapped_and_damage_is_seen(make_trainer: Callable[..., Any], tiny_config: Config) -> None:
    config = recipes.replaced(tiny_config, {"objective.pairs": "neighbours"}, "test")
    trainer = make_trainer(config)
    nearest = trainer.partners.pairs.nearest
    assert isinstance(nearest.base, np.memmap)
    path = trainer.run.path / NEIGHBOURS
    np.testing.assert_array_equal(nearest, np.load(path)["neighbours"])
    content = bytearray(path.read_bytes())
    place = content.find(nearest.tobytes())
    content[place] ^= 1  # still the number of an image
    path.write_bytes(content)
    with pytest.raises(InfoAEError, match=r"damaged \(neighbours\.npy is not what was written\)"):
        make_trainer(config)
