"""How far the pictures of a batch are from those that a bundle knows, by how both are answered. No torch.

The distance is the population stability index of Siddiqi, Credit Risk Scorecards (2006), between shares p of the batch
and q of the reference in the same bins: the sum of (p - q) ln(p / q), which is Jeffreys' divergence.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.deploy.bundle import Manifest
from infoae.deploy.classifier import Answers
from infoae.deploy.reference import QUANTITIES, Counts, Quantity

SLIGHT, LARGE = 0.1, 0.25
"""The usual bounds of the index: below the first nothing has changed, from the second on much has."""
DRAWS = 999
"""Batches drawn as if nothing had changed. One more is the farthest of all once in 1,000 times."""
_AT_ONCE = 1_000_000  # counts that are drawn at once, in 8 bytes each


@dataclass(frozen=True)
class Drift:
    """The distance of a batch of N images from the reference in each quantity, beyond what chance makes of N."""

    num_images: int
    num_reference: int
    occupancy: float
    confidence: float
    latent: float

    @property
    def quantity(self) -> Quantity | None:
        """The quantity of the largest distance, None if all are 0."""
        largest: Quantity = max(QUANTITIES, key=lambda name: float(getattr(self, name)))
        return largest if getattr(self, largest) else None

    @property
    def distance(self) -> float:
        """The largest distance."""
        return max(self.occupancy, self.confidence, self.latent)

    def to_dict(self) -> dict[str, Any]:
        """Return what --json has of it."""
        return {"distance": self.distance, "quantity": self.quantity} | asdict(self)

    def __str__(self) -> str:
        far = "like" if self.distance < SLIGHT else "slightly unlike" if self.distance < LARGE else "unlike"
        each = ", ".join(f"{name} {getattr(self, name):.2f}" for name in QUANTITIES)
        of = f" in {self.quantity}" if self.quantity else ""
        return f"drift {self.distance:.2f}{of} ({each}): {far} the {self.num_reference:,} test images at export"


def counted(manifest: Manifest, answers: Answers) -> Counts:
    """Return in which bins of the bundle's reference N answers lie; none, if it has no reference."""
    reference = manifest.reference
    return Counts() if reference is None else reference.counted(answers.probabilities, answers.latent)


def measured(manifest: Manifest, counts: Counts) -> Drift | None:
    """Return how far a batch is from the bundle's reference; None without one, or without an image that was counted."""
    reference = manifest.reference
    if reference is None or not counts.num_images:
        return None
    distances = {name: beyond_chance(getattr(counts, name), getattr(reference.counts, name)) for name in QUANTITIES}
    return Drift(counts.num_images, reference.counts.num_images, **distances)


def stability_index(counts: NDArray[np.int64], known: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the population stability index between counts in B bins, each (…, B).

    Half a picture is added to every bin: an empty one has no logarithm.
    """
    p, q = ((each + 0.5) / (each + 0.5).sum(-1, keepdims=True) for each in (counts, known))
    index: NDArray[np.float64] = ((p - q) * np.log(p / q)).sum(-1)
    return index


def beyond_chance(counts: tuple[int, ...], known: tuple[int, ...]) -> float:
    """Return the index between counts in B bins, less what it is in the mean where nothing has changed.

    Few pictures differ from many of the same kind, by (B - 1)(1/N + 1/M) about (Yurdakul and Naranjo 2020). So batches
    of N and references of M pictures are drawn DRAWS times, both with the shares of `known`. The distance is 0 unless
    it is larger than that of each draw: a Monte Carlo test (Davison and Hinkley 1997, section 4.2) at level 0.001.
    """
    found = stability_index(np.array(counts), np.array(known))
    shares, random = np.array(known) / sum(known), np.random.default_rng(0)
    at_once = min(DRAWS, max(1, _AT_ONCE // len(known)))
    drawn = [
        stability_index(*(random.multinomial(total, shares, min(at_once, DRAWS - start)) for total in totals))
        for totals in [(sum(counts), sum(known))]
        for start in range(0, DRAWS, at_once)
    ]
    chance = np.concatenate(drawn)
    return float(found - chance.mean()) if found > chance.max() else 0.0
