"""The search for neighbours in pixels, as tasks on parts of the images that keep their results in files of a folder.

It finds what `neighbour_graph.nearest_neighbours` does, in memory that does not grow with the images. A task is a
function of a `Search` and a number. What it needs and what it makes are files: one done again makes the same, and those
of a stage do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoae.config import Augment, Neighbours
from infoae.data.shards import Shards
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_file
from infoae.pseudolabels import knn
from infoae.pseudolabels import neighbour_graph as graph
from infoae.pseudolabels.lists_on_disk import Lists

PART = 32_768  # images of a task that reads them in their order
BLOCK = 8192  # images of a task that searches, in the order of lists
AT_ONCE = 100  # images whose candidates are compared at once: 14 MB of tangent planes, which a processor's cache holds
READ = graph.BLURRED  # images that are read at once

Ints = NDArray[np.int64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Search:
    """All that a task is told beside its number."""

    folder: Path
    """Where results lie."""
    images: Path | str
    """A folder of shards."""
    num_images: int
    """The first so many are searched."""
    rule: Neighbours
    augment: Augment

    def path(self, result: str, number: int = 0) -> Path:
        """Return where a task's result lies."""
        return self.folder / f"{result}-{number:06}.npy"

    def load(self, result: str, number: int = 0) -> Array:
        """Return a task's result. Raises InfoAEError if its file is damaged."""
        return self.reading(self.path(result, number), lambda path: np.load(path, allow_pickle=False))

    def reading(self, path: Path, read: Callable[[Path], Array]) -> Array:
        """Return what `read` makes of a file. Raises InfoAEError if that is nothing."""
        try:
            return read(path)
        except Exception as error:  # whatever NumPy makes of the file
            advice = f"remove {self.folder}, it is made again"
            raise InfoAEError(f"{path} is missing or damaged ({one_line(error)}): {advice}") from None

    def save(self, result: str, number: int, value: Array) -> None:
        """Keep a task's result: it is there whole or not at all."""
        with atomic_file(self.path(result, number)) as file, file.open("wb") as stream:
            np.save(stream, value)

    def rows(self, part: int) -> Ints:
        """Return the images of a part."""
        return np.arange(part * PART, min((part + 1) * PART, self.num_images))

    def block(self, number: int) -> Ints:
        """Return the places of a block in the order of lists."""
        return np.arange(number * BLOCK, min((number + 1) * BLOCK, self.num_images))

    def pixels(self) -> Shards:
        """Return the images, which are read where they are indexed."""
        return Shards(self.images).first(self.num_images)


def sum_squares(search: Search, part: int) -> None:
    """Sum the squares (D, D) of a part's blurred images."""
    squares = torch.zeros(())
    for x in _read(search, search.rows(part)):
        points = torch.cat([each.flatten(1) for each in graph.blurred_parts(x, search.rule.blur)])
        squares = squares + (points.T @ points).double()
    search.save("squares", part, squares.float().numpy())


def find_axes(search: Search, _: int) -> None:
    """Find the axes (D, 50) of the components that keep most of all squares."""
    squares = sum(search.load("squares", part).astype(np.float64) for part in range(_num_parts(search)))
    axes = torch.linalg.eigh(torch.tensor(squares))[1][:, -graph.COMPONENTS :]
    search.save("axes", 0, axes.float().numpy())


def project(search: Search, part: int) -> None:
    """Make the unit vectors (n, 50) of a part's images."""
    axes = torch.from_numpy(search.load("axes"))
    directions = [
        F.normalize(each.flatten(1) @ axes)
        for x in _read(search, search.rows(part))
        for each in graph.blurred_parts(x, search.rule.blur)
    ]
    search.save("directions", part, torch.cat(directions).numpy())


def learn_lists(search: Search, _: int) -> None:
    """Learn the centres (L, 50) of lists from a sample of all vectors, those near each other in a row."""
    num_lists = knn.num_lists(search.num_images)
    random = np.random.default_rng(0)
    sample = []
    for part in range(_num_parts(search)):
        directions = search.load("directions", part)
        wanted = -(-len(directions) * num_lists * knn.LEARNT_FROM // search.num_images)
        sample.append(directions[np.sort(random.permutation(len(directions))[:wanted])])
    search.save("centres", 0, Lists.learn(np.concatenate(sample), num_lists))


def assign(search: Search, part: int) -> None:
    """Find the list (n,) that each image of a part belongs to."""
    nearest = Lists(search.load("centres")).nearest(search.load("directions", part), 1)
    search.save("assigned", part, nearest[:, 0].astype(np.int32))


def find_places(search: Search, _: int) -> None:
    """Find where in the order of lists those of each part begin, (parts + 1, L), the last being their ends.

    And make room for what `group` puts there.
    """
    num_parts, num_lists = _num_parts(search), len(search.load("centres"))
    counts = np.stack([np.bincount(search.load("assigned", part), minlength=num_lists) for part in range(num_parts)])
    before = np.concatenate([np.zeros((1, num_lists), np.int64), counts.cumsum(0)])
    sizes = before[-1]
    for result, (shape, dtype) in _grouped(search).items():
        np.lib.format.open_memmap(search.folder / result, "w+", np.dtype(dtype), shape)
    search.save("places", 0, before + np.cumsum(sizes) - sizes)


def group(search: Search, part: int) -> None:
    """Put a part's vectors, their numbers and tangent planes to the others of their lists."""
    lists, rows, places = search.load("assigned", part), search.rows(part), search.load("places")[part]
    order = lists.argsort(kind="stable")
    in_order = lists[order]
    positions = np.empty(len(lists), np.int64)
    positions[order] = places[in_order] + np.arange(len(lists)) - np.searchsorted(in_order, in_order)
    directions, grouped = search.load("directions", part), _open_grouped(search, "r+")
    grouped["rows"][positions], grouped["directions"][positions] = rows, directions
    if "planes" in grouped:
        axes, varied = torch.from_numpy(search.load("axes")), graph.varied_entries(search.augment)
        for x, of, mine in zip(_read(search, rows), _split(positions, READ), _split(directions, READ), strict=True):
            planes = graph.tangent_planes(x, search.rule.blur, axes, torch.from_numpy(mine), varied)
            grouped["planes"][of] = planes.numpy()
    for each in grouped.values():
        each.flush()
    search.save("grouped", part, np.empty(0))


def find_nearest(search: Search, block: int) -> None:
    """Find the neighbours of the images of a block: (n, 1 + P) their numbers and those of their neighbours."""
    grouped = _open_grouped(search, "r")
    places = search.load("places")
    lists = Lists(search.load("centres"), grouped["directions"], np.append(places[0], places[-1, -1]))
    candidates, wanted = graph.num_candidates(search.rule, search.augment, search.num_images - 1)
    mine = search.block(block)
    exact = knn.resolved(search.rule.search, search.num_images) == "exact"
    found = lists.closest(grouped["directions"][mine], candidates + 1, None if exact else knn.LOOKED_INTO)
    nearest = knn.without_itself(torch.from_numpy(found), torch.from_numpy(mine)).numpy()
    if "planes" in grouped:
        nearest = np.concatenate(
            [
                _by_tangent_distance(grouped, *each, wanted)
                for each in zip(_split(mine, AT_ONCE), _split(nearest, AT_ONCE), strict=True)
            ]
        )
    nearest = grouped["rows"][nearest]
    mine = grouped["rows"][mine]
    if search.rule.distortion:
        pixels = search.pixels()
        parts = zip(_split(mine, AT_ONCE), _split(nearest, AT_ONCE), strict=True)
        nearest = np.concatenate([_by_distortion(search, pixels, *each) for each in parts])
    search.save("found", block, np.concatenate([mine[:, None], nearest], 1).astype(np.int32))


class Stage(NamedTuple):
    """Tasks that do not depend on each other, and need those of the stages before."""

    result: str
    task: Callable[[Search, int], None]
    count: Callable[[Search], int]


def _num_parts(search: Search) -> int:
    return -(-search.num_images // PART)


def _num_blocks(search: Search) -> int:
    return -(-search.num_images // BLOCK)


def _one(_: Search) -> int:
    return 1


STAGES = (
    Stage("squares", sum_squares, _num_parts),
    Stage("axes", find_axes, _one),
    Stage("directions", project, _num_parts),
    Stage("centres", learn_lists, _one),
    Stage("assigned", assign, _num_parts),
    Stage("places", find_places, _one),
    Stage("grouped", group, _num_parts),
    Stage("found", find_nearest, _num_blocks),
)


def _by_tangent_distance(grouped: dict[str, Array], mine: Ints, nearest: Ints, wanted: int) -> Ints:
    read, own, others = _local(mine, nearest)
    directions, planes = (torch.from_numpy(grouped[name][read]) for name in ("directions", "planes"))
    best = graph.by_tangent_distance(directions, planes, own, others, wanted).numpy()
    return np.asarray(read[best])


def _by_distortion(search: Search, pixels: Shards, mine: Ints, nearest: Ints) -> Ints:
    read, own, others = _local(mine, nearest)
    sharper = torch.cat(list(graph.blurred_parts(torch.from_numpy(pixels[read]), graph.DISTORTION_BLUR)))
    best = graph.by_distortion(sharper, own, others, search.rule, search.augment).numpy()
    return np.asarray(read[best])


def _local(mine: Ints, nearest: Ints) -> tuple[Ints, Tensor, Tensor]:
    """Return which to read for images (R,) and their nearest (R, S), and where among these they are."""
    read, places = np.unique(np.concatenate([mine, nearest.ravel()]), return_inverse=True)
    own, others = np.split(torch.from_numpy(places.ravel()).numpy(), [len(mine)])
    return read, torch.from_numpy(own), torch.from_numpy(others.reshape(nearest.shape))


def _read(search: Search, rows: Ints) -> Iterator[Tensor]:
    """Yield images (R, C, H, W)."""
    pixels = search.pixels()
    return (torch.from_numpy(pixels[part]) for part in _split(rows, READ))


def _split(values: Array, size: int) -> list[Array]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _grouped(search: Search) -> dict[str, tuple[tuple[int, ...], type]]:
    """Return shape and type of what is kept in the order of lists."""
    shape = (search.num_images, len(search.load("axes")[0]))
    found: dict[str, tuple[tuple[int, ...], type]] = {"rows": (shape[:1], np.int32), "directions": (shape, np.float32)}
    varied = graph.varied_entries(search.augment)
    if varied.any():
        found["planes"] = ((*shape, int(varied.sum()) + 1), np.float32)
    return found


def _open_grouped(search: Search, mode: Any) -> dict[str, Any]:
    mapped = partial(np.lib.format.open_memmap, mode=mode)
    return {name: search.reading(search.folder / name, mapped) for name in _grouped(search)}
