"""faiss's lists of vectors that lie on disk list by list, of which a search reads those that it looks into.

They are those of `knn`: around centres that k-means finds. Lists are read in pieces, and what is found in these is
merged, so that a list of any length needs no more memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from infoae.pseudolabels import knn

PIECE_BYTES = 32 * 1024 * 1024
"""Of vectors that are searched at once; faiss copies them."""
NEAR = 32  # lists, whose centres lie near each other, have numbers in a row

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


class Vectors(Protocol):
    """Unit vectors float32 (N, D) that may lie on disk, of which rows are read."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice | Ints) -> Any: ...


class Lists:
    """Lists around `centres` (L, D) of `vectors` (N, D), unit vectors that may lie on disk.

    Those of list l are from `starts[l]` to `starts[l + 1]`. Vectors and starts are needed for `closest` alone.
    """

    def __init__(self, centres: Floats, vectors: Vectors | None = None, starts: Ints | None = None) -> None:
        faiss.omp_set_num_threads(torch.get_num_threads())
        self._centres = faiss.IndexFlatIP(centres.shape[1])
        self._centres.add(centres)
        self._count, self._width = len(centres), int(centres.shape[1])
        self._vectors: Vectors = np.empty((0, self._width), np.float32) if vectors is None else vectors
        self._starts = np.zeros(self._count + 1, np.int64) if starts is None else starts

    @staticmethod
    def learn(sample: Floats, count: int) -> Floats:
        """Return so many centres (L, D) of a sample (S, D), S at least L, those near each other in a row."""
        faiss.omp_set_num_threads(torch.get_num_threads())
        width = sample.shape[1]
        centres = faiss.IndexFlatIP(width)
        index = faiss.IndexIVFFlat(centres, width, count, faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = knn.LEARNT_FROM, 1
        index.train(np.ascontiguousarray(sample))
        found: Floats = centres.reconstruct_n(0, count)
        near = faiss.Kmeans(width, max(1, count // NEAR), spherical=True, min_points_per_centroid=1)
        near.train(found)
        return found[near.index.search(found, 1)[1][:, 0].argsort(kind="stable")]

    def nearest(self, vectors: Floats, count: int) -> Ints:
        """Return the lists (Q, count) whose centres are nearest to vectors (Q, D), nearest first."""
        lists: Ints = self._centres.search(np.ascontiguousarray(vectors), count)[1]
        return lists

    def closest(self, queries: Floats, count: int, looked_into: int | None) -> Ints:
        """Return the places (Q, count) of the vectors of greatest cosine with `queries` (Q, D), nearest first.

        Of those in so many lists near each query, and in more where these hold fewer; of all if `looked_into` is None.
        """
        if looked_into is None:
            return self._merged(self._among_all(queries, count), (len(queries), count))
        looked_into = min(looked_into, self._count)
        lists = self.nearest(queries, looked_into)
        found = self._merged(self._among(queries, lists, count), (len(queries), count))
        held = np.diff(self._starts)[lists].sum(1)
        lacking = held < min(count, len(self._vectors))
        if lacking.any():
            found[lacking] = self.closest(queries[lacking], count, 2 * looked_into)
        return found

    def _among_all(self, queries: Floats, count: int) -> Iterator[tuple[Floats, Ints]]:
        for start in range(0, len(self._vectors), self._piece):
            piece = np.array(self._vectors[start : start + self._piece])
            cosines, found = faiss.knn(queries, piece, count, faiss.METRIC_INNER_PRODUCT)
            yield cosines, np.where(found < 0, found, found + start)

    def _among(self, queries: Floats, lists: Ints, count: int) -> Iterator[tuple[Floats, Ints]]:
        for places, of in self._pieces(np.unique(lists)):
            piece = np.array(self._vectors[places])
            # A new one each time: `reset` would keep the memory of all lists so far. faiss's types are those of C++.
            index: Any = faiss.IndexIVFFlat(self._centres, self._width, self._count, faiss.METRIC_INNER_PRODUCT)
            index.nprobe = lists.shape[1]
            index.add_core(len(places), *(faiss.swig_ptr(each) for each in (piece, places, of)))
            here = np.isin(lists, of)
            cosines, found = index.search_preassigned(queries, count, np.where(here, lists, -1), None)
            yield cosines, found

    def _pieces(self, lists: Ints) -> Iterator[tuple[Ints, Ints]]:
        """Yield the places of vectors of some lists, and the list of each, in pieces."""
        sizes = np.diff(self._starts)[lists]
        ends = sizes.cumsum()
        for start in range(0, int(ends[-1]), self._piece):
            numbers = np.arange(start, min(start + self._piece, ends[-1]))
            which = np.searchsorted(ends, numbers, side="right")
            yield self._starts[lists[which]] + numbers - (ends - sizes)[which], lists[which]

    @property
    def _piece(self) -> int:
        return max(1, PIECE_BYTES // (4 * self._width))

    @staticmethod
    def _merged(parts: Iterator[tuple[Floats, Ints]], shape: tuple[int, int]) -> Ints:
        best: tuple[Any, Any] = (np.full(shape, -np.inf, np.float32), np.full(shape, -1, np.int64))
        for cosines, found in parts:
            pair = np.stack([best[0], cosines]), np.stack([best[1], found])
            best = faiss.merge_knn_results(*pair, keep_max=True)
        places: Ints = best[1]
        return places
