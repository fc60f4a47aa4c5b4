"""What images are compared by in a search on disk: blurred pixels, or features. As vectors, both are searched alike.

A vector is of length one and follows from a point (D,), an image's blurred pixels or its features, and a frame (D, 1 +
W): in its first column what is taken from points, in the others axes, none of which leaves a point as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoae.config import Augment, Neighbours
from infoae.data import npy
from infoae.data.shards import Shards
from infoae.pseudolabels import neighbour_graph as graph

READ = graph.BLURRED
"""Images that are read at once."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pixels:
    """Images (N, C, H, W) in `shards`, a folder or an address: vectors of components, and tangent planes of them."""

    shards: Path | str
    rule: Neighbours
    augment: Augment

    sums_squares = True

    @property
    def varied(self) -> Tensor:
        """Which entries of a map (2, 3) move an image in its tangent plane."""
        return graph.varied_entries(self.augment)

    def width(self) -> int:
        """Return W, of vectors."""
        return min(graph.COMPONENTS, int(np.prod(self.images().shape[1:])))

    def images(self) -> Shards:
        """Return the images, which are read where they are indexed."""
        return Shards(self.shards)

    def read(self, rows: Ints) -> Iterator[Tensor]:
        """Yield images (R, C, H, W)."""
        images = self.images()
        return (torch.from_numpy(images[part]) for part in split(rows, READ))

    def points(self, x: Tensor) -> Tensor:
        """Return the points (R, D) of images."""
        return torch.cat([each.flatten(1) for each in graph.blurred_parts(x, self.rule.blur)])

    def frame(self, sums: Tensor, squares: Tensor, num_images: int) -> Tensor:  # noqa: ARG002  for features
        """Return the frame of the components that keep most of all squares (D, D)."""
        axes = torch.linalg.eigh(squares)[1][:, -graph.COMPONENTS :]
        return torch.cat([torch.zeros(len(axes), 1), axes.float()], 1)

    def planes(self, x: Tensor, frame: Tensor, vectors: Tensor) -> Tensor:
        """Return the tangent planes (R, W, T) of images and their vectors (R, W)."""
        return graph.tangent_planes(x, self.rule.blur, frame[:, 1:].contiguous(), vectors, self.varied)

    def num_candidates(self, available: int) -> tuple[int, int]:
        """Return how many are taken by angle, and how many of these by tangent distance, of so many others."""
        return graph.num_candidates(self.rule, self.augment, available)


@dataclass(frozen=True)
class Features:
    """Features (N, D) in a .npy file: vectors of what they have beyond their mean."""

    file: Path
    rule: Neighbours
    whitened: bool
    """Half: along their principal axes, each over the root of its deviation, as learned ones are compared."""

    @property
    def sums_squares(self) -> bool:
        """Whether squares (D, D) are needed for the frame."""
        return self.whitened

    @property
    def varied(self) -> Tensor:
        """Which entries of a map (2, 3) move features in a tangent plane: none."""
        return torch.zeros(2, 3, dtype=torch.bool)

    def width(self) -> int:
        """Return W, of vectors."""
        return npy.header_of(self.file).shape[1]

    def read(self, rows: Ints) -> Iterator[Tensor]:
        """Yield features (R, D)."""
        features = npy.mapped(self.file)
        return (torch.from_numpy(np.asarray(features[part])) for part in split(rows, READ))

    def points(self, x: Tensor) -> Tensor:
        """Return features (R, D) as points, with digits enough to take their mean away."""
        return x.double()

    def frame(self, sums: Tensor, squares: Tensor, num_images: int) -> Tensor:
        """Return the frame of the mean, and, if they are whitened, of the axes by all squares (D, D)."""
        mean = sums / num_images
        if not self.whitened:
            return mean[:, None]
        variances, axes = torch.linalg.eigh(squares / num_images - mean[:, None] * mean)
        return torch.cat([mean[:, None], axes / variances.clamp(min=1e-12) ** 0.25], 1)

    def num_candidates(self, available: int) -> tuple[int, int]:  # noqa: ARG002  for pixels
        """Return how many are taken by angle, twice: there is no other order."""
        return self.rule.num_kept(), self.rule.num_kept()


def directions(points: Tensor, frame: Tensor) -> Tensor:
    """Return the vectors float32 (R, W) of points (R, D)."""
    frame = frame.to(points)
    centred = points - frame[:, 0]
    return F.normalize(centred @ frame[:, 1:] if frame.shape[1] > 1 else centred).float()


def split(values: NDArray[Any], size: int) -> list[NDArray[Any]]:
    """Return parts of so many rows, the last of fewer."""
    return [values[start : start + size] for start in range(0, len(values), size)]
