"""Where a picture lies: its neighbours among the latents, its place on the map, from which level of zoom it shows.

The map is t-SNE (van der Maaten and Hinton 2008) of a sample; all others go between the nearest of the sample. So its
time is bounded, whatever the number of pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.config import Neighbours
from infoae.pseudolabels.neighbour_graph import nearest_by_features

NEIGHBOURS = 8
LANDMARKS = 2500  # of t-SNE: some ten seconds
BETWEEN = 5  # landmarks that another picture is placed between
COMPONENTS = 50  # principal ones of wider latents, as the authors of t-SNE propose
CELLS = 8  # of a side of the map at level 0; each level has twice as many
LEVELS = 13
GRID = 2**16
"""Places on each side of the map: enough for the cells of all levels."""
_PART = 10_000

Floats = NDArray[np.float32]


def neighbours(latents: Floats) -> NDArray[np.int32]:
    """Return the nearest others of each of latents (N, Z) by the angle from their mean, nearest first: (N, P)."""
    count = min(NEIGHBOURS, len(latents) - 1)
    if count < 1:
        return np.empty((len(latents), 0), np.int32)
    return nearest_by_features(latents, Neighbours(count=count))


def places(latents: Floats, seed: int = 0) -> Floats:
    """Return a place in the unit square for each of latents (N, Z): (N, 2). Near ones are alike."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.neighbors import NearestNeighbors

    count = len(latents)
    if count < 4 or float(np.ptp(latents, axis=0).max()) == 0:  # too few for t-SNE, or all alike
        return _on_grid(np.stack([(np.arange(count) + 0.5) / count, np.full(count, 0.5)], 1))
    vectors = latents
    if latents.shape[1] > COMPONENTS and count > COMPONENTS:
        vectors = PCA(COMPONENTS, random_state=seed).fit_transform(latents)
    sample = np.sort(np.random.default_rng(seed).permutation(count)[:LANDMARKS])
    perplexity = min(30.0, (len(sample) - 1) / 3)
    drawn = TSNE(init="pca" if vectors.shape[1] > 1 else "random", random_state=seed, perplexity=perplexity)
    landmarks = drawn.fit_transform(vectors[sample])
    found = np.empty((count, 2), np.float32)
    nearest = NearestNeighbors(n_neighbors=min(BETWEEN, len(sample))).fit(vectors[sample])
    for start in range(0, count, _PART):
        distance, index = nearest.kneighbors(vectors[start : start + _PART])
        weight = 1 / np.maximum(distance, 1e-6) ** 2
        weight /= weight.sum(axis=1, keepdims=True)
        found[start : start + _PART] = (landmarks[index] * weight[:, :, None]).sum(axis=1)
    found[sample] = landmarks
    low, high = found.min(axis=0), found.max(axis=0)
    middle, size = (low + high) / 2, max(float((high - low).max()), 1e-6)
    return _on_grid((found - middle) / (size * 1.02) + 0.5)


def _on_grid(places: NDArray[Any]) -> Floats:
    """Round to what the page is given, so that both see a place in the same cell."""
    rounded: Floats = (np.floor(places * GRID).clip(0, GRID - 1) / GRID).astype(np.float32)
    return rounded


def levels(places: Floats, prominence: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the first level at which each picture shows on the map, (N,); LEVELS where another hides it at all.

    Level L cuts the unit square into (CELLS * 2**L)**2 cells, and in each shows one of the pictures (N, 2) in it: that
    of least `prominence` (N,). Cells are nested, so one that shows stays.
    """
    order = np.argsort(prominence, kind="stable")
    found = np.full(len(places), LEVELS, np.int64)
    for level in reversed(range(LEVELS)):
        cells = cells_of(places[order], level)
        first = np.unique(cells[:, 0] * (CELLS << level) + cells[:, 1], return_index=True)[1]
        found[order[first]] = level
    return found


def cells_of(places: Floats, level: int) -> NDArray[np.int64]:
    """Return column and row of the cell that each of `places` (N, 2) lies in at `level`: (N, 2)."""
    count = CELLS << level
    return np.clip((places * count).astype(np.int64), 0, count - 1)


def reading_order(first: list[int], shown_from: NDArray[np.int64], places: Floats) -> NDArray[np.int64]:
    """Return all N indices as thumbnails are best laid out: `first`, then by level, and near ones together.

    So a browser that shows the rows, or any part of the map, needs few sheets.
    """
    cells = cells_of(places, LEVELS - 1)
    morton = np.zeros(len(places), np.int64)
    for bit in range(LEVELS + CELLS.bit_length()):
        morton |= ((cells[:, 0] >> bit & 1) << (2 * bit)) | ((cells[:, 1] >> bit & 1) << (2 * bit + 1))
    rank = np.full(len(places), len(first), np.int64)
    rank[first] = np.arange(len(first))
    return np.lexsort((morton, shown_from, rank))
