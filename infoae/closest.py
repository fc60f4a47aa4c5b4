"""The vectors of greatest cosine with each vector: of all of them, or by faiss among those that lie near.

faiss keeps vectors in lists around centres that k-means finds, and looks into the few lists nearest to a vector (Sivic
and Zisserman 2003; Johnson, Douze and Jégou 2019).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from infoae.errors import UsageError

ROWS = 1000  # of the matrix of cosines at once: 60,000 vectors need 240 MB for them
FEW = 30_000  # vectors, of which all are always compared: faiss wants more than that for its lists
LISTS = 4  # times the square root of the number of vectors
LOOKED_INTO = 32  # lists


def closest(directions: Tensor, count: int, exact: bool = True) -> Iterator[tuple[slice, Tensor]]:
    """Yield parts of the unit vectors `directions` (N, D) and the indices (R, count) of those closest to each of it.

    Nearest first, never the vector itself; always exactly for up to 30,000 of them. Raises UsageError if faiss is
    needed and not installed.
    """
    parts = (slice(start, min(start + ROWS, len(directions))) for start in range(0, len(directions), ROWS))
    if exact or len(directions) <= FEW:
        return ((part, _among_all(directions, part, count)) for part in parts)
    return _among_near(directions, list(parts), count)


def _among_all(directions: Tensor, part: slice, count: int) -> Tensor:
    cosine = directions[part] @ directions.T
    cosine[torch.arange(len(cosine)), torch.arange(part.start, part.stop)] = -torch.inf  # not itself
    return cosine.topk(count).indices


def _among_near(directions: Tensor, parts: list[slice], count: int) -> Iterator[tuple[slice, Tensor]]:
    try:
        import faiss
    except ImportError:
        raise UsageError("information.search approximate needs faiss: pip install 'infoae[faiss]'") from None
    vectors, width = directions.contiguous().numpy(), directions.shape[1]
    faiss.omp_set_num_threads(torch.get_num_threads())
    centres = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFFlat(centres, width, int(LISTS * len(vectors) ** 0.5), faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = LOOKED_INTO
    for part in parts:
        found = torch.from_numpy(index.search(vectors[part], count + 1)[1])
        others = found != torch.arange(part.start, part.stop)[:, None]
        others[others.all(1), -1] = (
            False  # one that did not find itself, as of several equal vectors, gives up its last
        )
        yield part, found[others].view(-1, count)
