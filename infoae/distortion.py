"""The image distortion model: how far an image is from another whose pixels may each have moved a little.

Keysers, Deselaers, Gollan and Ney 2007, "Deformation models for image recognition". Compiled by numba: array operations
took nine times as long. Registering images first makes neighbours purer, but loses whole kinds (docs/lab-notes.md).
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

Array = NDArray[Any]


def distances(slopes: Tensor, rows: Tensor, others: Tensor, reach: int) -> Tensor:
    """Return the squared distances (R, S) of `rows` (R,) from their `others` (R, S) among the gradients (N, C, H, W).

    Each pixel of an image, with the 3 x 3 around it, is compared with that pixel of the other, within `reach` pixels
    across and down, that is most like it.
    """
    out = np.empty(others.shape, np.float32)
    threads = torch.get_num_threads()
    compiled: Callable[..., None] = _measure
    measure = partial(compiled, slopes.numpy(), rows.numpy(), others.numpy(), reach, threads, out)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(measure, range(threads)):
            pass
    return torch.from_numpy(out)


def gradients(x: Tensor) -> Tensor:
    """Return the derivatives across and down of images (N, C, H, W), by Sobel's filter: (N, 2C, H, W)."""
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernels, padding=1, groups=x.shape[1])


@numba.njit(fastmath=True, nogil=True)
def _measure(slopes: Array, rows: Array, others: Array, reach: int, every: int, out: Array, first: int) -> None:
    """Fill every so many rows of `out` (R, S), from the `first` on."""
    channels, height, width = slopes.shape[1:]
    padded = np.zeros((channels, height + 2 * reach, width + 2 * reach), np.float32)
    for row in range(first, len(rows), every):
        for column in range(others.shape[1]):
            other = slopes[others[row, column]]
            for c in range(channels):
                for y in range(height):
                    for x in range(width):
                        padded[c, y + reach, x + reach] = other[c, y, x]
            out[row, column] = _least_distortion(slopes[rows[row]], padded, reach)


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
