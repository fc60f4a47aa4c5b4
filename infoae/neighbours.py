"""Nearest neighbours of images in pixel space: pairs that very likely show the same thing, found without a label."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoae.augment import blurred

COMPONENTS = 50
ROWS = 2000  # of the distance matrix at once: 60,000 images need 480 MB for them


def nearest_neighbours(images: NDArray[np.uint8], count: int, blur: float = 1.0) -> NDArray[np.int32]:
    """Return the `count` nearest other images of each image: (N, C, H, W) -> indices (N, count), nearest first.

    Nearest by the angle between the images, blurred by a Gaussian of `blur` pixels, as vectors of 50 components that
    keep most of their squares: a stroke's strength does not count. Exact for these, which cost a sixteenth of MNIST's
    pixels; time and work grow with N squared. Raises ValueError if there are not more than `count` images.
    """
    if len(images) <= count:
        raise ValueError(f"{count} neighbours need more than {count} images, not {len(images)}")
    points = _directions(_points(torch.from_numpy(np.require(images, requirements="W")), blur))
    found = []
    for start in range(0, len(points), ROWS):
        part = points[start : start + ROWS]
        closeness = part @ points.T  # cosine
        closeness[torch.arange(len(part)), torch.arange(start, start + len(part))] = -torch.inf  # not itself
        found.append(closeness.topk(count).indices)
    return torch.cat(found).numpy().astype(np.int32)


def _points(images: Tensor, blur: float) -> Tensor:
    """uint8 (N, C, H, W) -> float32 (N, C * H * W), blurred."""
    parts = (part.float() for part in images.split(ROWS))
    return torch.cat([(blurred(part, blur) if blur else part).flatten(1) for part in parts])


def _directions(points: Tensor) -> Tensor:
    """Points (N, D) -> unit vectors of at most COMPONENTS components (N, .)."""
    _, axes = torch.linalg.eigh(points.T @ points)  # in ascending order of squares
    return F.normalize(points @ axes[:, -COMPONENTS:])
