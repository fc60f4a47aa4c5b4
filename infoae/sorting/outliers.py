"""Outliers: pictures unlike all others of a pile, by what a trained model sees in them and by plain statistics.

An encoder was trained on the pile, so that what the pile does not have often looks to it as what it has. How the light
of a picture is spread, and its power at each fineness, tell some of those.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.sorting.thumbnails import THUMBNAIL, Thumbnails, Vectors, amplitudes, in_parts

OUTLIER = 3.5
"""A picture of a greater modified z-score is an outlier (Iglewicz and Hoaglin 1993)."""
FEW = 100
"""Pictures, below which there are no outliers: of fewer no covariance is known."""


def scores(thumbnails: Thumbnails, latents: NDArray[Any]) -> NDArray[np.float64]:
    """Return how unlike the others each of N pictures is (N,), by thumbnails (N, 32, 32) and latents (N, Z).

    It is the modified z-score, 0.6745 (d - median) / median absolute deviation, of d, the logarithm of the product of
    two Mahalanobis distances: of latents and of the statistics of thumbnails. 0 where there are fewer than FEW, or most
    are the same.
    """
    if len(thumbnails) < FEW:
        return np.zeros(len(thumbnails))
    distance = _log_distances(latents) + _log_distances(in_parts(statistics, thumbnails))
    from_median = distance - np.median(distance)
    deviation = np.median(np.abs(from_median))
    return 0.6745 * from_median / deviation if deviation > 0 else np.zeros(len(distance))


def statistics(thumbnails: Thumbnails) -> Vectors:
    """Return how the grey of N thumbnails (N, 32, 32) is spread, and its power in waves of 1 to 16 periods: (N, 25)."""
    light = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    quantiles = np.quantile(light, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1), axis=1).T
    moments = np.stack([light.mean(axis=1), np.log1p(light.std(axis=1))], axis=1)
    down, right = np.fft.fftfreq(THUMBNAIL, 1 / THUMBNAIL), np.arange(THUMBNAIL // 2 + 1)
    ring = np.rint(np.hypot(down[:, None], right))
    power = amplitudes(thumbnails) ** 2
    rings = [np.log1p(power[:, ring == number].mean(axis=1)) for number in range(1, THUMBNAIL // 2 + 1)]
    return np.concatenate([quantiles, moments, np.stack(rings, axis=1)], axis=1).astype(np.float32)


def _log_distances(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """Return logarithms of the Mahalanobis distances of N vectors (N, D) from their mean, covariance shrunk."""
    from sklearn.covariance import LedoitWolf

    scaled = np.asarray(vectors, np.float64) - np.mean(vectors, axis=0, dtype=np.float64)
    deviation = scaled.std(axis=0)
    scaled = scaled[:, deviation > 0] / deviation[deviation > 0]
    if not scaled.shape[1]:
        return np.zeros(len(scaled))
    squared = LedoitWolf(assume_centered=True).fit(scaled).mahalanobis(scaled)
    return np.asarray(np.log(np.maximum(squared, np.finfo(np.float64).tiny)) / 2)
