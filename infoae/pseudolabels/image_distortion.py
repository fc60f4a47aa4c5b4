"""How far an image is from others that are registered to it, and whose pixels may each have moved a little more.

Registration is inverse compositional Gauss-Newton: Baker and Matthews 2004, "Lucas-Kanade 20 years on". What is left is
measured by the image distortion model: Keysers, Deselaers, Gollan and Ney 2007, "Deformation models for image
recognition". What is done for each pair is compiled by numba: array operations took nine times as long for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 4
ROWS = 100  # images at once: for each pixel of these 80 bytes are held
ITERATIONS = 3  # of Gauss-Newton
RIDGE = 0.1  # keeps maps near the identity: times the mean square of a derivative, for each pixel moved at the edge
FOLDED = 0.2  # least area that a step may leave of an image

Array = NDArray[Any]
Affine = tuple[float, float, float, float, float, float]


def distances(images: Tensor, rows: Tensor, others: Tensor, varied: Tensor, reach: int) -> Tensor:
    """Return the squared distances (R, S) of the images `rows` (R,) from their `others` (R, S), of all (N, C, H, W).

    Each other image is first warped by the affine map that brings it closest, of whose entries only those that are
    `varied` (2, 3) differ from the identity's. Then each pixel of the image's gradients, with the 3 x 3 around it, is
    compared with that pixel of the other's, within `reach` pixels across and down, that is most like it.
    """
    out = np.empty(others.shape, np.float32)
    iterations, threads = ITERATIONS if varied.any() else 0, torch.get_num_threads()
    compiled: Callable[..., None] = _measure
    with ThreadPoolExecutor(threads) as pool:
        for part in torch.arange(len(rows)).split(ROWS):
            mine = images[rows[part]]
            inputs = [images, mine, gradients(mine), *_steepest_descent(mine, varied), others[part]]
            arrays = [each.numpy() for each in inputs]
            filled = out[part[0] : part[-1] + 1]
            measure = partial(compiled, *arrays, iterations, reach, threads, filled)
            for _ in pool.map(measure, range(threads)):
                pass
    return torch.from_numpy(out)


def gradients(x: Tensor) -> Tensor:
    """Return the derivatives across and down of images (N, C, H, W), by Sobel's filter: (N, 2C, H, W)."""
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernels, padding=1, groups=x.shape[1])


def _steepest_descent(x: Tensor, varied: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return how images (R, C, H, W) change with each entry of their maps, (R, 6, C, H, W), 0 where it is not `varied`.

    Entries count in pixels: of shift, or moved at the image's edge. Also the inverse (R, 6, 6) of the Gauss-Newton
    matrix with its ridge, and the ridge (R,).
    """
    height, width = x.shape[2:]
    padded = F.pad(x, [1] * 4)
    across = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    down = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    right, below = (torch.arange(size) * 2 + 1 - size for size in (width, height))
    right, below = right / width, (below / height)[:, None]
    steepest = torch.stack([each * by for each in (across, down) for by in (right, below, torch.ones(1))], 1)
    steepest *= varied.reshape(6, 1, 1, 1)
    flat = steepest.flatten(2).double()
    ridge = RIDGE * (across.square() + down.square()).sum((1, 2, 3)).double() / 2
    ridge = ridge.clamp_min(torch.finfo(torch.float32).eps)  # a blank image has no derivative
    return steepest, torch.linalg.inv(flat @ flat.mT + ridge[:, None, None] * torch.eye(6)), ridge


@numba.njit(fastmath=True, nogil=True)
def _measure(
    images: Array,
    mine: Array,
    slopes: Array,
    steepest: Array,
    inverse: Array,
    ridge: Array,
    others: Array,
    iterations: int,
    reach: int,
    every: int,
    out: Array,
    first: int,
) -> None:
    """Fill every so many rows of `out` (R, S), from the `first` on."""
    channels, height, width = images.shape[1:]
    padded = np.zeros((channels, height + 2, width + 2), np.float32)
    warped = np.empty((channels, height, width), np.float32)
    slopes_other = np.zeros((2 * channels, height + 2 * reach, width + 2 * reach), np.float32)
    for row in range(first, len(mine), every):
        for column in range(others.shape[1]):
            _place(images[others[row, column]], padded, 1)
            affine = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
            for _ in range(iterations):
                _warp(padded, affine, warped)
                affine = _step(affine, warped, mine[row], steepest[row], inverse[row], ridge[row])
            _warp(padded, affine, warped)
            _place(warped, padded, 1)
            _sobel(padded, slopes_other, reach)
            out[row, column] = _least_distortion(slopes[row], slopes_other, reach)


@numba.njit(fastmath=True, nogil=True)
def _place(image: Array, padded: Array, border: int) -> None:
    channels, height, width = image.shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                padded[c, y + border, x + border] = image[c, y, x]


@numba.njit(fastmath=True, nogil=True)
def _warp(padded: Array, affine: Affine, warped: Array) -> None:
    """Write to `warped` (C, H, W) what an image with a border of one pixel of zeros has where `affine` maps a pixel.

    The map (a, b, c, d, e, f) is x' = a x + b y + c, y' = d x + e y + f, in pixels from the image's centre.
    """
    channels, height, width = warped.shape
    one, zero = np.float32(1), np.float32(0)
    middle_x, middle_y = np.float32((width - 1) / 2), np.float32((height - 1) / 2)
    last_x, last_y = np.float32(width + 0.999), np.float32(height + 0.999)
    xx, xy, x0 = np.float32(affine[0]), np.float32(affine[1]), np.float32(affine[2]) + middle_x + one
    yx, yy, y0 = np.float32(affine[3]), np.float32(affine[4]), np.float32(affine[5]) + middle_y + one
    for y in range(height):
        down = np.float32(y) - middle_y
        for x in range(width):
            right = np.float32(x) - middle_x
            at_x = min(max(xx * right + xy * down + x0, zero), last_x)
            at_y = min(max(yx * right + yy * down + y0, zero), last_y)
            left, top = np.uint32(at_x), np.uint32(at_y)  # unsigned: numba need not look for negative ones
            part_x, part_y = at_x - np.float32(left), at_y - np.float32(top)
            for c in range(channels):
                upper = (one - part_x) * padded[c, top, left] + part_x * padded[c, top, left + 1]
                lower = (one - part_x) * padded[c, top + 1, left] + part_x * padded[c, top + 1, left + 1]
                warped[c, y, x] = (one - part_y) * upper + part_y * lower


@numba.njit(fastmath=True, nogil=True)
def _step(affine: Affine, warped: Array, mine: Array, steepest: Array, inverse: Array, ridge: float) -> Affine:
    """Return the map after a step: of least squares of what is left of the difference, and of the map's own entries."""
    channels, height, width = mine.shape
    across, down = width / 2, height / 2
    a, b, c, d, e, f = affine
    moved = ((a - 1) * across, b * down, c, d * across, (e - 1) * down, f)
    t0 = t1 = t2 = t3 = t4 = t5 = np.float32(0)  # six sums in one pass, which the compiler turns into vectors
    for k in range(channels):
        for y in range(height):
            for x in range(width):
                apart = warped[k, y, x] - mine[k, y, x]
                t0 += steepest[0, k, y, x] * apart
                t1 += steepest[1, k, y, x] * apart
                t2 += steepest[2, k, y, x] * apart
                t3 += steepest[3, k, y, x] * apart
                t4 += steepest[4, k, y, x] * apart
                t5 += steepest[5, k, y, x] * apart
    towards = (t0, t1, t2, t3, t4, t5)
    change = np.zeros(6)
    for i in range(6):
        for j in range(6):
            change[i] += inverse[i, j] * (towards[j] + ridge * moved[j])
    # The map becomes itself after the inverse of x -> x + change: linear part A M^-1 and shift t - A M^-1 m.
    p, q, r, s = 1 + change[0] / across, change[1] / down, change[3] / across, 1 + change[4] / down
    area = p * s - q * r
    if area < FOLDED:
        return affine
    a, b, d, e = (a * s - b * r) / area, (b * p - a * q) / area, (d * s - e * r) / area, (e * p - d * q) / area
    return (a, b, c - a * change[2] - b * change[5], d, e, f - d * change[2] - e * change[5])


@numba.njit(fastmath=True, nogil=True)
def _sobel(padded: Array, slopes: Array, border: int) -> None:
    """Write `gradients` of an image with a border of one pixel (C, H + 2, W + 2) into the inside of `slopes`."""
    channels, height, width = padded.shape[0], padded.shape[1] - 2, padded.shape[2] - 2
    half, quarter = np.float32(0.5), np.float32(0.25)
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                falling = padded[c, y, x] - padded[c, y + 2, x + 2]
                rising = padded[c, y + 2, x] - padded[c, y, x + 2]
                across = padded[c, y + 1, x] - padded[c, y + 1, x + 2]
                down = padded[c, y, x + 1] - padded[c, y + 2, x + 1]
                slopes[2 * c, y + border, x + border] = quarter * (falling + rising) + half * across
                slopes[2 * c + 1, y + border, x + border] = quarter * (falling - rising) + half * down


@numba.njit(fastmath=True, nogil=True)
def _least_distortion(slopes: Array, other: Array, reach: int) -> float:
    """Return the image distortion model's squared distance of gradients (2C, H, W) from others with a border."""
    channels, height, width = slopes.shape
    least = np.full((height, width), np.float32(np.inf), np.float32)
    apart = np.zeros(width + 2, np.float32)
    sums = np.zeros((height + 2, width), np.float32)  # of three pixels across; outside of the image there is nothing
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            for y in range(height):
                for x in range(width):
                    apart[x + 1] = np.float32(0)
                for c in range(channels):
                    for x in range(width):
                        difference = slopes[c, y, x] - other[c, y + down, x + right]
                        apart[x + 1] += difference * difference
                for x in range(width):
                    sums[y + 1, x] = apart[x] + apart[x + 1] + apart[x + 2]
            for y in range(height):
                for x in range(width):
                    least[y, x] = min(least[y, x], sums[y, x] + sums[y + 1, x] + sums[y + 2, x])
    total = np.float32(0)
    for y in range(height):
        for x in range(width):
            total += least[y, x]
    return float(total)
