"""The search for neighbours as tasks that keep their results in files of a folder, which all machines may see.

It finds what `neighbour_graph` does in memory, in memory that does not grow with the images. A task is a function of a
`Search` and a number. What it needs and what it makes are files, which no other task writes: one done again makes the
same, and those of a stage do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from infoae.data.shards import Shards
from infoae.files import atomic_file
from infoae.pseudolabels import knn
from infoae.pseudolabels import neighbour_graph as graph
from infoae.pseudolabels.lists_on_disk import Lists
from infoae.pseudolabels.search_files import Array, Grouped, Ints, Search
from infoae.pseudolabels.search_vectors import Pixels, directions, split

AT_ONCE = 100  # images whose candidates are compared at once: 14 MB of tangent planes, which a processor's cache holds
PLANES_BYTES = 128 * 1024 * 1024  # of planes that a task reads at once, at most
SAMPLE_BYTES = 512 * 1024 * 1024  # of the vectors that lists are learnt from, at most


def sum_up(search: Search, part: int) -> None:
    """Sum a part's points, and their squares where the frame needs them: (1, D) or (1 + D, D)."""
    sums = squares = torch.zeros(())
    for x in search.vectors.read(search.rows(part)):
        points = search.vectors.points(x)
        sums = sums + points.sum(0, dtype=torch.float64)
        if search.vectors.sums_squares:
            squares = squares + (points.T @ points).double()
    rows = [sums[None], squares] if search.vectors.sums_squares else [sums[None]]
    search.save("sums", part, torch.cat(rows).to(points.dtype).numpy())


def find_frame(search: Search, _: int) -> None:
    """Find what makes vectors of points: the frame (D, 1 + W)."""
    summed = torch.zeros(())
    for part in range(search.num_parts):
        summed = summed + torch.from_numpy(search.load("sums", part)).double()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # eigenvectors are other ones with more, in their last digits
    try:
        search.save("frame", 0, search.vectors.frame(summed[0], summed[1:], search.num_images).numpy())
    finally:
        torch.set_num_threads(threads)


def draw_sample(search: Search, part: int) -> None:
    """Make the vectors (S, W) of some of a part's images, from which lists are learnt."""
    rows, frame = search.rows(part), torch.from_numpy(search.load("frame"))
    wanted = -(-len(rows) * _sample(search) // search.num_images)
    some = np.sort(np.random.default_rng([0, part]).permutation(rows)[:wanted])
    found = [directions(search.vectors.points(x), frame) for x in search.vectors.read(some)]
    search.save("sample", part, torch.cat(found).numpy())


def learn_lists(search: Search, _: int) -> None:
    """Learn the centres (L, W) of lists from the samples of all parts, those near each other in a row."""
    sample = [search.mapped("sample", part) for part in range(search.num_parts)]
    search.save("centres", 0, Lists.learn(np.concatenate(sample), search.num_lists))


def sort(search: Search, part: int) -> None:
    """Find the list of each image of a part; (2, n) lists and images in the order of lists, vectors and planes."""
    rows, frame, lists = search.rows(part), torch.from_numpy(search.load("frame")), Lists(search.load("centres"))
    vectors, planes = list[Tensor](), list[Tensor]()
    for x in search.vectors.read(rows):
        vectors.append(directions(search.vectors.points(x), frame))
        if isinstance(search.vectors, Pixels) and search.vectors.varied.any():
            planes.append(search.vectors.planes(x, frame, vectors[-1]))
    found = torch.cat(vectors).numpy()
    of = lists.nearest(found, 1)[:, 0]
    order = of.argsort(kind="stable")
    if planes:
        search.save("sorted-planes", part, torch.cat(planes).numpy()[order])
    search.save("sorted-vectors", part, found[order])
    search.save("sorted", part, np.stack([of, rows])[:, order].astype(np.int32))


def find_places(search: Search, _: int) -> None:
    """Find where in the order of lists those of each part begin, (parts + 1, L), the last being their ends."""
    shape = (search.num_parts + 1, search.num_lists)
    with atomic_file(search.path("places")) as file:
        places = np.lib.format.open_memmap(file, "w+", np.dtype(np.int64), shape)
        for part in range(search.num_parts):
            places[part + 1] = places[part] + np.bincount(search.mapped("sorted", part)[0], minlength=shape[1])
        places += places[-1].cumsum() - places[-1]
        places.flush()


def group(search: Search, number: int) -> None:
    """Gather the images of a group from all parts: in the order of lists their numbers (n,), vectors and planes."""
    places = search.mapped("places")
    start, end = number * search.group, min((number + 1) * search.group, search.num_images)
    first, last = np.searchsorted(places[-1], start, "right"), np.searchsorted(places[0], end)
    images, others = np.empty(end - start, np.int32), dict[str, Array]()
    for part in range(search.num_parts):
        lists, rows = search.mapped("sorted", part)
        here = slice(*np.searchsorted(lists, [first, last]))
        in_order = lists[here]
        to = places[part][in_order] + np.arange(here.start, here.stop) - np.searchsorted(lists, in_order) - start
        wanted = (to >= 0) & (to < end - start)
        images[to[wanted]] = rows[here][wanted]
        for name in _beside(search):
            mine = search.mapped(f"sorted-{name}", part)
            others.setdefault(name, np.empty((end - start, *mine.shape[1:]), np.float32))
            others[name][to[wanted]] = mine[here][wanted]
    for name, values in others.items():
        search.save(f"grouped-{name}", number, values)
    search.save("grouped", number, images)


def find_nearest(search: Search, number: int) -> None:
    """Find the neighbours of the images of a block: (n, 1 + P) their numbers and those of their neighbours."""
    places, images = search.mapped("places"), Grouped(search, "grouped")
    vectors = Grouped(search, "grouped-vectors")
    lists = Lists(search.load("centres"), vectors, np.append(places[0], places[-1, -1]))
    candidates, wanted = search.vectors.num_candidates(search.num_images - 1)
    mine = np.arange(number * search.block, min((number + 1) * search.block, search.num_images))
    found = lists.closest(vectors[mine], candidates + 1, search.looked_into)
    nearest = knn.without_itself(torch.from_numpy(found), torch.from_numpy(mine)).numpy()
    if "planes" in _beside(search):
        planes = Grouped(search, "grouped-planes")
        nearest = _by_tangent_distance(vectors, planes, mine, nearest, wanted)
    mine, nearest = images[mine], images[nearest.ravel()].reshape(nearest.shape)
    if isinstance(search.vectors, Pixels) and search.vectors.rule.distortion:
        shards = search.vectors.images()
        parts = zip(split(mine, AT_ONCE), split(nearest, AT_ONCE), strict=True)
        nearest = np.concatenate([_by_distortion(search.vectors, shards, *each) for each in parts])
    search.save("found", number, np.concatenate([mine[:, None], nearest], 1).astype(np.int32))


class Stage(NamedTuple):
    """Tasks that do not depend on each other, and need those of the stages before."""

    result: str
    """Of which a task that is done has a file."""
    task: Callable[[Search, int], None]
    count: Callable[[Search], int]


def _one(_: Search) -> int:
    return 1


def _num_parts(search: Search) -> int:
    return search.num_parts


STAGES = (
    Stage("sums", sum_up, _num_parts),
    Stage("frame", find_frame, _one),
    Stage("sample", draw_sample, _num_parts),
    Stage("centres", learn_lists, _one),
    Stage("sorted", sort, _num_parts),
    Stage("places", find_places, _one),
    Stage("grouped", group, lambda search: -(-search.num_images // search.group)),
    Stage("found", find_nearest, lambda search: -(-search.num_images // search.block)),
)


def _beside(search: Search) -> tuple[str, ...]:
    """Return what there is of each image beside its number."""
    return ("vectors", "planes") if search.vectors.varied.any() else ("vectors",)


def _sample(search: Search) -> int:
    """Return how many vectors lists are learnt from."""
    fit = SAMPLE_BYTES // (4 * search.width * search.num_lists)
    return search.num_lists * max(1, min(knn.LEARNT_FROM, fit))


def _by_tangent_distance(
    vectors: Grouped | Array, planes: Grouped | Array, mine: Ints, nearest: Ints, wanted: int
) -> Ints:
    """Read what images share once, as far as memory is for it, and compare few of them at a time."""
    read, own, others = _local(mine, nearest)
    few = len(mine) <= AT_ONCE
    if not few and len(read) * np.prod(planes.shape[1:]) * 4 > PLANES_BYTES:
        halves = zip(np.array_split(mine, 2), np.array_split(nearest, 2), strict=True)
        return np.concatenate([_by_tangent_distance(vectors, planes, *half, wanted) for half in halves])
    read_vectors, read_planes = vectors[read], planes[read]
    if few:
        tensors = torch.from_numpy(read_vectors), torch.from_numpy(read_planes)
        best = graph.by_tangent_distance(*tensors, torch.from_numpy(own), torch.from_numpy(others), wanted).numpy()
    else:
        parts = zip(split(own, AT_ONCE), split(others, AT_ONCE), strict=True)
        best = np.concatenate([_by_tangent_distance(read_vectors, read_planes, *each, wanted) for each in parts])
    return np.asarray(read[best])


def _by_distortion(pixels: Pixels, shards: Shards, mine: Ints, nearest: Ints) -> Ints:
    read, own, others = _local(mine, nearest)
    sharper = torch.cat(list(graph.blurred_parts(torch.from_numpy(shards[read]), graph.DISTORTION_BLUR)))
    tensors = torch.from_numpy(own), torch.from_numpy(others)
    best = graph.by_distortion(sharper, *tensors, pixels.rule, pixels.augment).numpy()
    return np.asarray(read[best])


def _local(mine: Ints, nearest: Ints) -> tuple[Ints, Ints, Ints]:
    """Return which to read for images (R,) and their nearest (R, S), and where among these they are."""
    read, places = np.unique(np.concatenate([mine, nearest.ravel()]), return_inverse=True)
    own, others = np.split(places.ravel(), [len(mine)])
    return read, own, others.reshape(nearest.shape)
