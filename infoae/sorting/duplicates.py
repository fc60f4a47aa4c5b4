"""Near-duplicates: a picture that is another one encoded again, resized, brighter, shifted or cropped by a pixel.

Candidates are the pictures whose waves are most alike (faiss). Of each is measured what a shift or a zoom leaves
unexplained, on blurred thumbnails. How much is little depends on the pile: digits of one kind are more alike than
photographs. So it is compared with what the tenth nearest picture leaves (as the ratio test of Lowe 2004 does). The
bounds are of real pictures (docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from infoae.sorting.thumbnails import THUMBNAIL, TOGETHER, Thumbnails, Vectors, amplitudes, in_parts

CANDIDATES = 16
"""Pictures that each is compared with."""
TENTH = 10
RESIDUAL, RATIO = 0.02, 0.1
"""Of near-duplicates at most so much is unexplained, and at most so much of what is with the tenth nearest picture."""
COPY = 0.001
"""Less is a copy, however many there are: of more than ten, the tenth nearest is one, too."""
MANY = 30_000
"""Pictures, above which faiss keeps lists and looks into the nearest alone: work grows with N to the power of 1.5."""

_WAVES = 5  # the lowest in each direction, but for the constant
_BLUR = 1.25
_PLACES = 2 * np.arange(13) - 12.0  # from the middle, where a blurred thumbnail is looked at
_PIXEL = THUMBNAIL / 28  # of the smallest pictures that people have
_STEPS = (-_PIXEL, 0, _PIXEL)
_CHANGES = [(y, x, 1.0) for y in _STEPS for x in _STEPS] + [(0, 0, zoom) for zoom in (0.93, 0.965, 1.035, 1.075)]


def first_alike(thumbnails: Thumbnails, among: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return for each of N thumbnails (N, 32, 32) the first picture that it is a near-duplicate of (N,), -1 if none.

    That one is no near-duplicate itself, so groups do not chain. Only pictures of `among` (N,) are compared. Plain ones
    are alike if their grey is about equal.
    """
    rows = np.flatnonzero(np.ones(len(thumbnails), bool) if among is None else among)
    first = np.full(len(thumbnails), -1, np.int64)
    if len(rows) == 0:
        return first
    _, once, of = np.unique(thumbnails[rows].reshape(len(rows), -1), axis=0, return_index=True, return_inverse=True)
    first[rows] = rows[once[of]]
    first[rows[once]] = -1
    distinct = rows[np.sort(once)]
    plain = in_parts(lambda part: part.std(axis=(1, 2)), thumbnails[distinct]) < 1
    for some, found in (
        (distinct[plain], _of_one_grey(thumbnails[distinct[plain]])),
        (distinct[~plain], _first_alike(thumbnails[distinct[~plain]])),
    ):
        first[some[found >= 0]] = some[found[found >= 0]]
    copies = np.flatnonzero(first >= 0)  # of one that is a near-duplicate: they are of what it is of
    firsts = first[first[copies]]
    first[copies[firsts >= 0]] = firsts[firsts >= 0]
    return first


def _of_one_grey(thumbnails: Thumbnails) -> NDArray[np.int64]:
    first = np.full(len(thumbnails), -1, np.int64)
    known: dict[int, float] = {}
    for row, grey in enumerate(thumbnails.mean(axis=(1, 2)).tolist()):
        first[row] = next((other for other, its in known.items() if abs(grey - its) < 2), -1)
        if first[row] < 0:
            known[row] = grey
    return first


def _first_alike(thumbnails: Thumbnails) -> NDArray[np.int64]:
    """Return the same of N distinct thumbnails that are not plain."""
    first = np.full(len(thumbnails), -1, np.int64)
    if len(thumbnails) < 2:
        return first
    waves = in_parts(_lowest_waves, thumbnails)
    others = _candidates(waves)
    residual = np.concatenate(
        [
            residuals(thumbnails[begin : begin + TOGETHER], thumbnails[others[begin : begin + TOGETHER]])
            for begin in range(0, len(thumbnails), TOGETHER)
        ]
    )
    residual[others < 0] = np.inf
    tenth = np.full(len(thumbnails), np.inf)
    if residual.shape[1] >= TENTH:
        tenth = np.partition(residual, TENTH - 1, axis=1)[:, TENTH - 1]
    ones, places = np.nonzero(_alike(residual, tenth[:, None], tenth[others]))
    for group in _connected(ones, others[ones, places], len(thumbnails)):
        leaders = group[:1]
        for row in group[1:]:
            closest = np.argsort(waves[leaders] @ -waves[row])[:CANDIDATES]
            some = np.array(leaders)[np.sort(closest)]
            its = residuals(thumbnails[[row]], thumbnails[None, some])[0]
            theirs = residuals(thumbnails[some], thumbnails[[[row]] * len(some)])[:, 0]
            alike = np.flatnonzero(_alike(np.minimum(its, theirs), tenth[row], tenth[some]))
            if len(alike):
                first[row] = some[alike[0]]
            else:
                leaders.append(row)
    return first


def _connected(ones: NDArray[np.int64], others: NDArray[np.int64], count: int) -> Iterator[list[int]]:
    """Yield, in their order, the pictures of each group that pairs connect, of `count` pictures."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    pairs = coo_array((np.ones(len(ones), bool), (ones, others)), shape=(count, count))
    group = connected_components(pairs, directed=False)[1]
    rows = np.argsort(group, kind="stable")
    for part in np.split(rows, np.flatnonzero(np.diff(group[rows])) + 1):
        if len(part) > 1:
            yield part.tolist()


def _alike(
    residual: NDArray[np.floating], tenth: NDArray[np.floating], its_tenth: NDArray[np.floating]
) -> NDArray[np.bool_]:
    bound = np.minimum(RESIDUAL, RATIO * np.minimum(tenth, its_tenth))
    return np.asarray(residual <= np.maximum(COPY, bound))


def _candidates(vectors: Vectors) -> NDArray[np.int64]:
    """Return of N unit vectors (N, 45) the others most alike (N, at most CANDIDATES), -1 where faiss found fewer."""
    import faiss

    count = min(CANDIDATES, len(vectors) - 1)
    lists = f"IVF{int(4 * len(vectors) ** 0.5)}," if len(vectors) > MANY else ""
    index = faiss.index_factory(vectors.shape[1], f"{lists}Flat", faiss.METRIC_INNER_PRODUCT)
    if isinstance(index, faiss.IndexIVF):
        index.nprobe, index.cp.max_points_per_centroid = 32, 64  # as infoae.pseudolabels.knn
        index.train(vectors)
    index.add(vectors)
    found = index.search(vectors, count + 1)[1]
    itself = found == np.arange(len(found))[:, None]
    itself[~itself.any(axis=1), -1] = True  # where it is not among them, the last is one too many
    return np.asarray(found[~itself].reshape(len(found), count))


def _lowest_waves(thumbnails: Thumbnails) -> Vectors:
    waves = amplitudes(thumbnails)
    lowest = np.concatenate([waves[:, :_WAVES, :_WAVES], waves[:, 1 - _WAVES :, :_WAVES]], axis=1)
    lowest[:, 0, 0] = 0
    return _of_length_one(np.sqrt(lowest.reshape(len(lowest), -1)))  # or the few strongest alone would count


def residuals(thumbnails: Thumbnails, others: Thumbnails) -> NDArray[np.float64]:
    """Return what is unexplained of M others (N, M, 32, 32) of each of N thumbnails (N, 32, 32): (N, M), 0 to 2.

    It is 1 less the greatest correlation of the other one, blurred, with the thumbnail shifted by up to a pixel or
    zoomed by up to a pixel at each edge.
    """
    changed = np.stack([_looked_at(thumbnails, *change) for change in _CHANGES], axis=1)
    plain = _looked_at(others.reshape(-1, THUMBNAIL, THUMBNAIL), 0, 0, 1).reshape(*others.shape[:2], -1)
    return np.asarray(1 - (changed @ plain.transpose(0, 2, 1)).max(axis=1), np.float64)


def _looked_at(thumbnails: Thumbnails, down: float, right: float, zoom: float) -> Vectors:
    """Return blurred thumbnails at 13 x 13 places, shifted and zoomed, less their mean and of length 1: (N, 169)."""
    light = _blur(down, zoom) @ thumbnails.astype(np.float32) @ _blur(right, zoom).T
    flat = light.reshape(len(light), -1)
    return _of_length_one(flat - flat.mean(axis=1, keepdims=True))


def _blur(shift: float, zoom: float) -> Vectors:
    """Return the weights (13, 32) of pixels at each place, a Gaussian around it."""
    places = (THUMBNAIL - 1) / 2 + zoom * _PLACES + shift
    weights = np.exp(-0.5 * ((np.arange(THUMBNAIL) - places[:, None]) / _BLUR) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def _of_length_one(vectors: Vectors) -> Vectors:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, np.finfo(np.float32).tiny), np.float32)
