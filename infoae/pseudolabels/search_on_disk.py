"""Neighbours of more images than fit in memory: the tasks of `search_tasks`, here or on many machines.

A task whose result is there is not done again, so that a search that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from infoae import ram
from infoae.config import Augment, Neighbours
from infoae.data.shards import Shards
from infoae.files import atomic_file
from infoae.pseudolabels import knn
from infoae.pseudolabels.neighbour_graph import COMPONENTS, varied_entries
from infoae.pseudolabels.search_files import Search
from infoae.pseudolabels.search_tasks import STAGES, Stage
from infoae.pseudolabels.search_vectors import Features, Pixels, split

SHARE = 2  # a search takes no more than one part in so many of all memory, if nothing else is wanted
TASK_BYTES = 550_000_000  # that a task takes: two took 1.07 GB of ten million images
RESULT = "neighbours"
WRITTEN = 10_000  # rows of features at once

Executor: TypeAlias = Callable[[Search, Stage, Sequence[int]], Generator[object]]
"""Does the tasks of these numbers of a stage, and yields something as each is done."""


def bytes_in_memory(shape: tuple[int, ...], rule: Neighbours, augment: Augment) -> int:
    """Return about what `nearest_neighbours` takes at most, of images of `shape` (N, C, H, W).

    These themselves, blurred as float32 in parts and together, tangent planes three times for a while, and cosines of
    some with all or faiss's copy of the vectors.
    """
    num_images, pixels = shape[0], int(np.prod(shape[1:]))
    varied = int(varied_entries(augment).sum())
    planes = 3 * (varied + 1) * 4 * COMPONENTS if varied else 0
    distorted = 4 * pixels if rule.distortion else 0
    compared = knn.ROWS if knn.resolved(rule.search, num_images) == "exact" else COMPONENTS
    return num_images * (pixels + 8 * pixels + distorted + 4 * COMPONENTS + planes + 4 * compared)


def bytes_of_features(shape: tuple[int, ...], rule: Neighbours) -> int:
    """Return about what `nearest_by_features` takes at most, of features of `shape` (N, D).

    These as float32, without their mean, and of length one, and cosines of some with all or faiss's copy.
    """
    num_images, width = shape
    compared = knn.ROWS if knn.resolved(rule.search, num_images) == "exact" else width
    return num_images * (3 * 4 * width + 4 * compared)


def is_needed(num_images: int, needed: int, rule: Neighbours) -> bool:
    """Return whether a search in memory, which needs so many bytes, may not take them: see `neighbours.memory`."""
    return needed > _allowed(rule) and (rule.memory is not None or num_images > knn.MANY)


def here(search: Search, stage: Stage, numbers: Sequence[int]) -> Generator[int]:
    """Do tasks in this process, one on each thread at once, or as many as memory is allowed for; in order."""
    threads = torch.get_num_threads()
    at_once = min(threads, max(1, int(_allowed(search.vectors.rule) // TASK_BYTES)))
    if stage.count(search) == 1:  # its operations share the threads, as far as they can
        at_once = 1

    def done(number: int) -> int:
        stage.task(search, number)
        return number

    if at_once == 1:
        yield from map(done, numbers)
        return
    try:
        with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads // at_once,)) as pool:
            yield from pool.map(done, numbers)
    finally:
        torch.set_num_threads(threads)  # which those of the pool have set for all


def _allowed(rule: Neighbours) -> float:
    """Return the bytes that a search may take."""
    return ram.total() / SHARE if rule.memory is None else rule.memory * 1e9


def nearest_on_disk(
    folder: Path,
    images: NDArray[np.uint8] | Shards,
    rule: Neighbours,
    augment: Augment,
    advance: Callable[[int], object] = lambda _: None,
    executor: Executor = here,
) -> NDArray[np.int32]:
    """Return the nearest other images of each image, (N, C, H, W) -> indices (N, P), nearest first, mapped from disk.

    As `nearest_neighbours`, but with everything in `folder`, which must be of these images and settings alone. If it
    holds results of an earlier call, it goes on with what is left. `advance` is told of so many more images that are
    done, each task being as many as any other. What is found does not depend on who does the tasks, an `executor` of
    processes that all see `folder`. Raises OSError where the disk does not play along.
    """
    folder.mkdir(parents=True, exist_ok=True)
    search = Search.of(folder, Pixels(_shards(folder / "images", images), rule, augment), len(images))
    return _found(search, advance, executor)


def nearest_by_features_on_disk(
    folder: Path,
    features: NDArray[np.float32],
    rule: Neighbours,
    advance: Callable[[int], object] = lambda _: None,
    executor: Executor = here,
    *,
    whitened: bool = False,
) -> NDArray[np.int32]:
    """Return the nearest other images of each image by their features: (N, D) -> indices (N, P), mapped from disk.

    As `nearest_by_features`, of features as they are or `whitened` (see `partners.half_whitened`); everything else as
    in `nearest_on_disk`. Features may be mapped from a file; they are copied into `folder`.
    """
    file = folder / "features.npy"
    if not file.exists():
        with atomic_file(file) as temporary:
            copy = np.lib.format.open_memmap(temporary, "w+", np.dtype(np.float32), features.shape)
            for rows in split(np.arange(len(features)), WRITTEN):
                copy[rows] = features[rows]
            copy.flush()
    search = Search.of(folder, Features(file, rule, whitened), len(features))
    return _found(search, advance, executor)


def _found(search: Search, advance: Callable[[int], object], executor: Executor) -> NDArray[np.int32]:
    """Do the tasks that are left, stage by stage, and return what all together have found."""
    total, done = sum(stage.count(search) for stage in STAGES), 0

    def told(count: int) -> None:
        nonlocal done
        images = search.num_images
        advance(images * (done + count) // total - images * done // total)
        done += count

    for stage in STAGES:
        numbers = range(stage.count(search))
        left = [number for number in numbers if not search.path(stage.result, number).exists()]
        if len(left) < len(numbers):
            told(len(numbers) - len(left))
        with closing(executor(search, stage, left)) as ended:
            for _ in ended:
                told(1)
    return _together(search)


def _shards(folder: Path, images: NDArray[np.uint8] | Shards) -> Path | str:
    """Return where shards of the images lie; those that are none are written into `folder`."""
    if isinstance(images, Shards):
        return images.folder
    folder.mkdir(exist_ok=True)
    if not (folder / "0.npy").exists():
        with atomic_file(folder / "0.npy") as file, file.open("wb") as stream:
            np.save(stream, images)
    return folder


def _together(search: Search) -> NDArray[np.int32]:
    """Put the results of all blocks into one file, in the order of the images."""
    path, shape = search.folder / RESULT, (search.num_images, search.vectors.rule.num_kept())
    whole: Any = np.lib.format.open_memmap(path, "w+", np.dtype(np.int32), shape)
    last = STAGES[-1]
    for block in range(last.count(search)):
        found = search.load(last.result, block)
        whole[found[:, 0]] = found[:, 1:]
    whole.flush()
    neighbours: NDArray[np.int32] = whole
    return neighbours
