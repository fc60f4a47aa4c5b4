"""A search for neighbours on disk takes memory that does not grow with the images."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from infoae import data
from infoae.config import Augment, Data, Neighbours
from infoae.pseudolabels import knn, lists_on_disk, search_files, search_on_disk, search_tasks, search_vectors
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.pseudolabels.search_on_disk import nearest_on_disk


@contextmanager
def peak_of_memory(found: list[int]) -> Iterator[None]:
    """Append how many bytes of anonymous memory were taken at most beyond those at the beginning."""
    ended = threading.Event()

    def taken() -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])

    before, peak = taken(), [0]

    def watch() -> None:
        while not ended.wait(0.002):
            peak[0] = max(peak[0], taken() - before)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()
        found.append(peak[0])


def memory_of(count: int, folder: Path | None) -> tuple[float, int]:
    """Return what 3,000 images should take, and what a search in `count` takes: on disk in `folder`, or in memory."""
    images, rule = np.asarray(data.load(Data(limit=4000), "train").images), Neighbours(search="approximate")
    knn.FEW, lists_on_disk.PIECE_BYTES = 100, 200_000
    search_files.PART, search_files.GROUP, search_files.BLOCK = 500, 1, 500
    search_tasks.AT_ONCE, search_vectors.READ = 20, 100

    def search(chosen: NDArray[np.uint8], name: str) -> None:
        if folder is None:
            nearest_neighbours(chosen, rule, Augment())
        else:
            nearest_on_disk(folder / f"{count}-{name}", chosen, rule, Augment())

    search(images[:200], "first")  # libraries take memory when first used
    found = list[int]()
    with peak_of_memory(found):
        search(images[:count], "all")
    return search_on_disk.bytes_in_memory((3000, *images.shape[1:]), rule, Augment()), found[0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """By what 4,000 take beyond 1,000: by the estimate 35 MB, in memory about that, on disk less than half."""
    # Each in a process of its own: one that has searched before has memory to spare.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        on_disk, in_memory = (list(pool.map(memory_of, (1000, 4000), (at, at))) for at in (tmp_path, None))
    (estimate, few), (_, many) = on_disk
    assert estimate == pytest.approx(35e6, rel=0.02)
    assert many - few < estimate / 2
    (_, few), (_, many) = in_memory
    assert many - few > 0.7 * estimate
