"""Neighbours in pixels of more images than fit in memory: the tasks of `search_tasks`, one after the other, here.

A task whose result is there is not done again, so that a search that was interrupted goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae import ram
from infoae.config import Augment, Neighbours
from infoae.data.shards import Shards
from infoae.files import atomic_file
from infoae.pseudolabels import knn, search_tasks
from infoae.pseudolabels.neighbour_graph import COMPONENTS, varied_entries
from infoae.pseudolabels.search_tasks import Search

SHARE = 2  # a search takes no more than one part in so many of all memory, if nothing else is wanted
RESULT = "neighbours"


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


def is_needed(shape: tuple[int, ...], rule: Neighbours, augment: Augment) -> bool:
    """Return whether images of `shape` (N, C, H, W) would take more memory than they may: see `neighbours.memory`."""
    needed = bytes_in_memory(shape, rule, augment)
    if rule.memory is None:
        return shape[0] > knn.MANY and needed > ram.total() / SHARE
    return needed > rule.memory * 1e9


def nearest_on_disk(
    folder: Path,
    images: NDArray[np.uint8] | Shards,
    rule: Neighbours,
    augment: Augment,
    advance: Callable[[int], object] = lambda _: None,
) -> NDArray[np.int32]:
    """Return the nearest other images of each image, (N, C, H, W) -> indices (N, P), nearest first, mapped from disk.

    As `nearest_neighbours`, but with everything in `folder`, which must be of these images and settings alone. If it
    holds results of an earlier call, it goes on with what is left. `advance` is told of so many more images that are
    done, each task being as many as any other. Raises OSError where the disk does not play along.
    """
    folder.mkdir(parents=True, exist_ok=True)
    search = Search(folder, _shards(folder / "images", images), len(images), rule, augment)
    tasks = [(stage, number) for stage in search_tasks.STAGES for number in range(stage.count(search))]
    for done, (stage, number) in enumerate(tasks):
        if not search.path(stage.result, number).exists():
            stage.task(search, number)
        advance(len(images) * (done + 1) // len(tasks) - len(images) * done // len(tasks))
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
    path, shape = search.folder / RESULT, (search.num_images, search.rule.num_kept())
    whole: Any = np.lib.format.open_memmap(path, "w+", np.dtype(np.int32), shape)
    last = search_tasks.STAGES[-1]
    for block in range(last.count(search)):
        found = search.load(last.result, block)
        whole[found[:, 0]] = found[:, 1:]
    whole.flush()
    neighbours: NDArray[np.int32] = whole
    return neighbours
