"""What a bundle keeps of the pictures held out at training: how its classifier answers them, as counts in bins.

Part of bundle.json, and of what an interrupted job keeps. No torch.
"""

from __future__ import annotations

from itertools import pairwise, zip_longest
from typing import Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeInt, model_validator

Quantity: TypeAlias = Literal["occupancy", "confidence", "latent"]
QUANTITIES: tuple[Quantity, ...] = ("occupancy", "confidence", "latent")
_DECILES = np.arange(1, 10) / 10


class Counts(BaseModel):
    """How many pictures lie in each bin of each quantity; none at all in `Counts()`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    occupancy: tuple[NonNegativeInt, ...] = ()
    """In each category."""
    confidence: tuple[NonNegativeInt, ...] = ()
    """By the probability of the answer."""
    latent: tuple[NonNegativeInt, ...] = ()
    """By the norm of the latent."""

    def __add__(self, other: Counts) -> Counts:
        """Return the counts of the pictures of both."""
        fields = ((getattr(self, name), getattr(other, name)) for name in QUANTITIES)
        sums = [tuple(map(sum, zip_longest(mine, theirs, fillvalue=0))) for mine, theirs in fields]
        return Counts(**dict(zip(QUANTITIES, sums, strict=True)))

    @property
    def num_images(self) -> int:
        """How many pictures were counted."""
        return sum(self.occupancy)


class Reference(BaseModel):
    """How M pictures that were held out at training are answered.

    A bin reaches from above one edge up to and with the next; the first and the last are open. So B - 1 edges make B
    bins, and those of the confidence and of the latent's norm hold a tenth of the pictures each. Fewer edges are left
    where more than a tenth have the same value, as a probability of 1.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    split: Literal["test"] = "test"
    """Which pictures: the test images of the run."""
    confidence_edges: tuple[float, ...]
    latent_edges: tuple[float, ...]
    counts: Counts

    @classmethod
    def of(cls, probabilities: NDArray[np.float32], latent: NDArray[np.float32]) -> Reference:
        """Return what is kept of the answers for M images, M above 0: (M, K) and (M, Z)."""
        confidence, norm = _values(probabilities, latent)
        # Ten thousand steps up to 1, and up to the power of ten above the largest norm.
        exponent = 4 - int(np.ceil(np.log10(max(norm.max(), np.finfo(np.float32).tiny))))
        edges = _edges(confidence, 4), _edges(norm, exponent)
        counts = _counts(probabilities, latent, *edges)
        return cls(confidence_edges=edges[0], latent_edges=edges[1], counts=counts)

    def counted(self, probabilities: NDArray[np.float32], latent: NDArray[np.float32]) -> Counts:
        """Return in which bins the answers for N images lie, N may be 0: (N, K) and (N, Z)."""
        return _counts(probabilities, latent, self.confidence_edges, self.latent_edges)

    @model_validator(mode="after")
    def _bins_are_those_of_the_edges(self) -> Self:
        if not self.counts.num_images:
            raise ValueError("there must be counts of images")
        for name in ("confidence", "latent"):
            edges, counts = getattr(self, f"{name}_edges"), getattr(self.counts, name)
            if any(low >= high for low, high in pairwise(edges)):
                raise ValueError(f"{name}_edges must rise")
            if len(counts) != len(edges) + 1 or sum(counts) != self.counts.num_images:
                raise ValueError(f"{name} must be counts of the same images, one more than there are edges")
        return self


def _counts(
    probabilities: NDArray[np.float32],
    latent: NDArray[np.float32],
    confidence_edges: tuple[float, ...],
    latent_edges: tuple[float, ...],
) -> Counts:
    confidence, norm = _values(probabilities, latent)
    return Counts(
        occupancy=_histogram(probabilities.argmax(1), probabilities.shape[1]),
        confidence=_histogram(np.searchsorted(confidence_edges, confidence), len(confidence_edges) + 1),
        latent=_histogram(np.searchsorted(latent_edges, norm), len(latent_edges) + 1),
    )


def _values(
    probabilities: NDArray[np.float32], latent: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the probability of each answer and the norm of each latent, each (N,)."""
    return probabilities.max(1, initial=0).astype(np.float64), np.linalg.norm(latent, axis=1).astype(np.float64)


def _edges(values: NDArray[np.float64], decimals: int) -> tuple[float, ...]:
    """Return the deciles, each half a step beside a number of so many decimals.

    Many pictures may have one value, 1 most often. An edge there would part them by the last bit, which another machine
    computes otherwise.
    """
    steps = 10.0**decimals
    edges: list[float] = ((np.unique(np.floor(np.quantile(values, _DECILES) * steps)) - 0.5) / steps).tolist()
    return tuple(edges)


def _histogram(bins: NDArray[np.int64], count: int) -> tuple[int, ...]:
    return tuple(np.bincount(bins, minlength=count).tolist())
