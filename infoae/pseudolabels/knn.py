"""The vectors of greatest cosine with each vector: of all of them, or by faiss among those that lie near.

faiss keeps vectors in lists around centres that k-means finds, and looks into the few lists nearest to a vector (Sivic
and Zisserman 2003; Johnson, Douze and Jégou 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from infoae.errors import UsageError

ROWS = 1000  # of the matrix of cosines at once: 60,000 vectors need 240 MB for them
FEW = 30_000  # vectors, of which all are always compared: faiss wants more than that for its lists
LISTS = 4  # times the square root of the number of vectors
LOOKED_INTO = 32  # lists


def closest(directions: Tensor, count: int, exact: bool = True) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the rows (R,) of parts of the unit vectors `directions` (N, D), and of those closest to each (R, count).

    Nearest first, never the vector itself; always exactly among up to 30,000 of them. Raises UsageError if faiss is
    needed and not installed.
    """
    search = _among_all if exact or len(directions) <= FEW else _among_near
    return search(directions, torch.arange(len(directions)).split(ROWS), count)


def _among_all(directions: Tensor, parts: Sequence[Tensor], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    for part in parts:
        cosine = directions[part] @ directions.T
        cosine[torch.arange(len(part)), part] = -torch.inf  # not itself
        yield part, cosine.topk(count).indices


def _among_near(directions: Tensor, parts: Sequence[Tensor], count: int) -> Iterator[tuple[Tensor, Tensor]]:
    need_faiss()
    import faiss

    vectors, width = directions.contiguous().numpy(), directions.shape[1]
    faiss.omp_set_num_threads(torch.get_num_threads())
    centres = faiss.IndexFlatIP(width)
    index = faiss.IndexIVFFlat(centres, width, int(LISTS * len(vectors) ** 0.5), faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    index.nprobe = LOOKED_INTO
    for part in parts:
        found = torch.from_numpy(index.search(vectors[part.numpy()], count + 1)[1])
        others = found != part[:, None]
        others[others.all(1), -1] = False  # where it is not among them itself, the last is one too many
        yield part, found[others].view(-1, count)


def need_faiss() -> None:
    """Raise UsageError if faiss is not installed."""
    try:
        import faiss  # noqa: F401
    except ImportError:
        raise UsageError("neighbours.search approximate needs faiss: pip install 'infoae[faiss]'") from None
