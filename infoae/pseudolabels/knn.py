"""The vectors of greatest cosine with each vector: of all of them, or by faiss among those that lie near.

faiss keeps vectors in lists around centres that k-means finds, and looks into the few lists nearest to a vector (Sivic
and Zisserman 2003; Johnson, Douze and Jégou 2019). With lists in proportion to the square root of N, of which it looks
into a fixed number, its work grows with N to the power of 1.5, and all comparisons with N squared.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from infoae.config import NeighbourSearch

ROWS = 1000  # of the matrix of cosines at once: 60,000 vectors need 240 MB for them
FEW = 30_000  # vectors, of which all are always compared: faiss wants more than that for its lists
MANY = 100_000  # vectors, up to which `auto` compares all: beyond, that is most of the work on a graph of neighbours
LISTS = 4  # times the square root of the number of vectors
LEARNT_FROM = 64  # vectors a list: so k-means costs no more than in proportion to N
LOOKED_INTO = 32  # lists


def resolved(search: NeighbourSearch, num_vectors: int) -> Literal["exact", "approximate"]:
    """Return how so many vectors are searched: by faiss if more than MANY, or more than FEW where it is asked for."""
    fewest = {"auto": MANY, "approximate": FEW}
    return "approximate" if search in fewest and num_vectors > fewest[search] else "exact"


def described(search: NeighbourSearch, num_vectors: int) -> str:
    """Return in words how so many vectors are searched, and why."""
    if resolved(search, num_vectors) == "exact":
        bound = {"auto": MANY, "approximate": FEW}.get(search)
        return "by comparing all with all " + (f"(up to {bound:,})" if bound else "(neighbours.search exact)")
    return "by faiss " + (f"(more than {MANY:,})" if search == "auto" else "(neighbours.search approximate)")


def num_lists(num_vectors: int) -> int:
    """Return how many lists so many vectors are kept in."""
    return int(LISTS * num_vectors**0.5)


def closest(directions: Tensor, count: int, search: NeighbourSearch = "auto") -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows (R,) of parts of `directions`, and of those closest to each (R, count), nearest first.

    `directions` (N, D) are float32 unit vectors of any origin, on the CPU, N above `count`. None is its own neighbour.
    """
    parts = torch.arange(len(directions)).split(ROWS)
    among = {"exact": _among_all, "approximate": _among_near}[resolved(search, len(directions))]
    return among(directions, parts, count)


def _among_all(directions: Tensor, parts: Sequence[Tensor], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for part in parts:
        cosine = directions[part] @ directions.T
        cosine[torch.arange(len(part)), part] = -torch.inf  # not itself
        yield part, cosine.topk(count).indices


def _among_near(directions: Tensor, parts: Sequence[Tensor], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    import faiss  # most runs have too few images to need it

    vectors, width = directions.contiguous().numpy(), directions.shape[1]
    faiss.omp_set_num_threads(torch.get_num_threads())
    centres = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFFlat(centres, width, num_lists(len(vectors)), faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = LEARNT_FROM
    index.train(vectors)
    index.add(vectors)
    index.nprobe = LOOKED_INTO
    everywhere = faiss.SearchParametersIVF()
    everywhere.nprobe = index.nlist
    for part in parts:
        rows = part.numpy()
        found = index.search(vectors[rows], count + 1)[1]
        lacking = (found < 0).any(1)  # the lists near an outlier may hold fewer than are asked for
        if lacking.any():
            found[lacking] = index.search(vectors[rows[lacking]], count + 1, params=everywhere)[1]
        yield part, without_itself(torch.from_numpy(found), part)


def without_itself(found: Tensor, rows: Tensor) -> Tensor:
    """Return those of `found` (R, S + 1) that are others than each of the `rows` (R,), in their order: (R, S)."""
    others = found != rows[:, None]
    others[others.all(1), -1] = False  # where it is not among them itself, the last is one too many
    return found[others].view(len(rows), -1)
