"""How a search for neighbours on disk is cut into tasks, and the files that these keep their results in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.data import npy
from infoae.errors import InfoAEError
from infoae.files import atomic_file
from infoae.pseudolabels import knn
from infoae.pseudolabels.search_vectors import Features, Pixels

PART = 32_768  # images at most of a task that reads them in their order
PART_BYTES = 64 * 1024 * 1024  # of their vectors, at most
GROUP = 4  # parts: as many images has a file of those in the order of lists
BLOCK = 8192  # images of a task that searches, in the order of lists

Ints = NDArray[np.int64]
Array = NDArray[Any]


@dataclass(frozen=True)
class Search:
    """All that a task is told beside its number, so that it does the same on any machine."""

    folder: Path
    """Where results lie."""
    vectors: Pixels | Features
    num_images: int
    looked_into: int | None
    """Lists near each image that are searched; None for all vectors."""
    width: int
    """W, of vectors."""
    part: int
    """Images of a task that reads them in their order."""
    group: int
    """Images of a file in the order of lists."""
    block: int
    """Images of a task that searches."""

    @staticmethod
    def of(folder: Path, vectors: Pixels | Features, num_images: int) -> Search:
        """Return the search for the neighbours of the first so many images."""
        exact = knn.resolved(vectors.rule.search, num_images) == "exact"
        width = vectors.width()
        part = max(1, min(PART, PART_BYTES // (4 * width)))
        looked_into = None if exact else knn.LOOKED_INTO
        return Search(folder, vectors, num_images, looked_into, width, part, GROUP * part, BLOCK)

    @property
    def num_lists(self) -> int:
        """How many lists vectors are kept in."""
        return min(knn.num_lists(self.num_images), self.num_images)

    @property
    def num_parts(self) -> int:
        """How many parts the images have in their order."""
        return -(-self.num_images // self.part)

    def rows(self, part: int) -> Ints:
        """Return the images of a part."""
        return np.arange(part * self.part, min((part + 1) * self.part, self.num_images))

    def path(self, result: str, number: int = 0) -> Path:
        """Return where a task's result lies."""
        return self.folder / f"{result}-{number:06}.npy"

    def load(self, result: str, number: int = 0) -> Array:
        """Return a task's result. Raises InfoAEError if its file is damaged."""
        return np.array(self.mapped(result, number))

    def mapped(self, result: str, number: int = 0) -> Array:
        """Return a task's result mapped from its file. Raises InfoAEError if that is damaged."""
        try:
            return npy.mapped(self.path(result, number))
        except InfoAEError as error:
            raise InfoAEError(f"{error}: remove {self.folder}, it is made again") from None

    def save(self, result: str, number: int, value: Array) -> None:
        """Keep a task's result: it is there whole or not at all."""
        with atomic_file(self.path(result, number)) as file, file.open("wb") as stream:
            np.save(stream, value)


class Grouped:
    """What belongs to each image, in the order of lists, indexed as one array that lies in the files of all groups."""

    def __init__(self, search: Search, result: str) -> None:
        self._group, self._opened = search.group, lru_cache(None)(partial(search.mapped, result))
        self.shape: tuple[int, ...] = (search.num_images, *self._opened(0).shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: slice | Ints) -> Array:
        """Read rows into memory. Raises InfoAEError if a file is damaged."""
        if isinstance(places, slice):
            places = np.arange(*places.indices(len(self)))
        groups = places // self._group
        found = np.empty((len(places), *self.shape[1:]), self._opened(0).dtype)
        for group in np.unique(groups).tolist():
            here = groups == group
            found[here] = self._opened(group)[places[here] - group * self._group]
        return found
