"""Nearest neighbours of images, by pixels or features: very likely they show the same thing, found without a label."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from infoae.augment import blurred, warped
from infoae.config import Augment, Neighbours
from infoae.pseudolabels.knn import closest

COMPONENTS = 50
CANDIDATES = 100  # by angle, which are then compared by tangent distance
BLURRED = 1000  # images at once
DISTORTED = 30  # by tangent distance, which are then registered and compared by the image distortion model
DISTORTION_BLUR = 0.7  # pixels, for that
STEP = 0.1  # of the entries of a map, for differences: 1.4 pixels at the edge of 28


def nearest_neighbours(
    images: NDArray[np.uint8],
    rule: Neighbours,
    augment: Augment,
    advance: Callable[[int], object] = lambda _: None,
) -> NDArray[np.int32]:
    """Return the nearest other images of each image: (N, C, H, W) -> indices (N, P), nearest first.

    P is `rule.num_kept()`. Nearest by the angle between the images, blurred by a Gaussian of `rule.blur` pixels,
    as vectors of 50 components that keep most of their squares: a stroke's strength does not count. Nor do, to first
    order, the maps that `augment` draws: the 100 nearest by angle are ordered by tangent distance (Simard, LeCun and
    Denker 1993), of either image from the plane that such maps move the other in. With `rule.distortion` in pixels, the
    30 nearest of these are ordered once more: registered by such maps, by how far they are if each pixel may still move
    so far (see `image_distortion`). `advance` is told of so many more that are done.

    By `rule.search` the 100 are found exactly, and work grows with N squared, or by faiss, and it grows with N to the
    power of 1.5 (see `knn`); the other two orders grow with N. Raises ValueError if there are too few others.
    """
    count, available = rule.num_kept(), len(images) - 1
    if available < count:
        raise ValueError(f"{count} neighbours need as many other images, not {available}")
    x = torch.from_numpy(np.require(images, requirements="W"))
    points = torch.cat([part.flatten(1) for part in blurred_parts(x, rule.blur)])
    axes = torch.linalg.eigh(points.T @ points)[1][:, -COMPONENTS:]  # in ascending order of squares
    directions = F.normalize(points @ axes)
    varied = varied_entries(augment)
    planes = tangent_planes(x, rule.blur, axes, directions, varied) if varied.any() else None
    sharper = torch.cat(list(blurred_parts(x, DISTORTION_BLUR))) if rule.distortion else None
    candidates, wanted = num_candidates(rule, augment, available)
    found = [torch.empty(0, count, dtype=torch.int64)]
    for mine, nearest in closest(directions, candidates, rule.search):
        if planes is not None:
            nearest = by_tangent_distance(directions, planes, mine, nearest, wanted)
        if sharper is not None:
            nearest = by_distortion(sharper, mine, nearest, rule, augment)
        found.append(nearest)
        advance(len(mine))
    return torch.cat(found).numpy().astype(np.int32)


def nearest_by_features(
    features: NDArray[np.float32], rule: Neighbours, advance: Callable[[int], object] = lambda _: None
) -> NDArray[np.int32]:
    """Return the nearest other images of each image by their features: (N, D) -> indices (N, P), nearest first.

    P is `rule.num_kept()`. Nearest by the angle between features from which their mean is taken; `rule.search` is as
    for pixels. Raises ValueError if there are too few others.
    """
    count = rule.num_kept()
    if len(features) <= count:
        raise ValueError(f"{count} neighbours need as many other images, not {len(features) - 1}")
    x = torch.tensor(np.asarray(features, np.float32))
    found = []
    for mine, nearest in closest(F.normalize(x - x.mean(0)), count, rule.search):
        found.append(nearest)
        advance(len(mine))
    return torch.cat(found).numpy().astype(np.int32)


def num_candidates(rule: Neighbours, augment: Augment, available: int) -> tuple[int, int]:
    """Return how many are taken by angle, and how many of these by tangent distance, of so many other images."""
    wanted = min(max(rule.num_kept(), DISTORTED), available) if rule.distortion else rule.num_kept()
    return min(max(wanted, CANDIDATES), available) if varied_entries(augment).any() else wanted, wanted


def by_tangent_distance(directions: Tensor, planes: Tensor, mine: Tensor, others: Tensor, count: int) -> Tensor:
    """Return the nearest (R, count) of the `others` (R, S) of the rows `mine` (R,), nearest first.

    `directions` (N, D) and `planes` (N, D, T), from `tangent_planes`, are of all rows.
    """
    return others.gather(1, _closeness(directions, planes, mine, others).topk(count).indices)


def by_distortion(sharper: Tensor, mine: Tensor, others: Tensor, rule: Neighbours, augment: Augment) -> Tensor:
    """Return those kept (R, P) of the `others` (R, S) of `mine` (R,), rows of `sharper` (N, C, H, W), nearest first."""
    from infoae.pseudolabels.image_distortion import distances  # numba takes a while to import

    apart = distances(sharper, mine, others, varied_entries(augment), rule.distortion)
    return others.gather(1, apart.topk(rule.num_kept(), largest=False).indices)


def blurred_parts(x: Tensor, blur: float) -> Iterator[Tensor]:
    """uint8 (N, C, H, W) -> float32 parts of it, blurred."""
    parts = (part.float() for part in x.split(BLURRED))
    return (blurred(part, blur) if blur else part for part in parts)


def varied_entries(augment: Augment) -> Tensor:
    """Return which entries of an affine map (2, 3) `augment` draws."""
    linear, shift = bool(augment.degrees or augment.scale or augment.shear), bool(augment.translate or augment.crop)
    return torch.tensor([[linear, linear, shift or bool(augment.time_shift)], [linear, linear, shift]])


def tangent_planes(x: Tensor, blur: float, axes: Tensor, directions: Tensor, varied: Tensor) -> Tensor:
    """Return orthonormal directions (N, D, T) in which images move with each varied entry of a map and in strength."""
    changes = STEP * torch.eye(6).view(6, 2, 3)[varied.reshape(6)]
    tangents = []
    for part in blurred_parts(x, blur):
        moved = [warped(part, _map(change, part)) - warped(part, _map(-change, part)) for change in changes]
        tangents.append(torch.stack([each.flatten(1) @ axes for each in moved], 2))
    planes: Tensor = torch.linalg.qr(torch.cat([torch.cat(tangents), directions[:, :, None]], 2))[0]
    return planes


def _map(change: Tensor, x: Tensor) -> Tensor:
    return (torch.eye(2, 3) + change).expand(len(x), 2, 3)


def _closeness(directions: Tensor, planes: Tensor, mine: Tensor, others: Tensor) -> Tensor:
    """Return how close each of the rows `mine` is to its `others` (R, S): cosines squared of both with the planes."""
    to_mine = torch.einsum("rdt,rsd->rst", planes[mine], directions[others])
    to_others = torch.einsum("rsdt,rd->rst", planes[others], directions[mine])
    return (to_mine.square() + to_others.square()).sum(2)
