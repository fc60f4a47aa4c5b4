"""Thumbnails of pictures, THUMBNAIL x THUMBNAIL grey bytes, and their waves: what pictures are compared by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

THUMBNAIL = 32
TOGETHER = 128
"""Pictures whose numbers are in memory at once."""

Thumbnails = NDArray[np.uint8]
Vectors = NDArray[np.float32]


def in_parts(describe: Callable[[Thumbnails], Vectors], thumbnails: Thumbnails) -> Vectors:
    """Return `describe` of N thumbnails (N, 32, 32), at least one, TOGETHER at a time: (N, ...)."""
    parts = range(0, len(thumbnails), TOGETHER)
    return np.concatenate([describe(thumbnails[first : first + TOGETHER]) for first in parts])


def amplitudes(thumbnails: Thumbnails) -> Vectors:
    """Return the amplitudes of the waves (N, 32, 17) of N thumbnails (N, 32, 32), their mean grey taken off.

    A shift hardly changes them. A Hann window hides that the left edge does not go on at the right one.
    """
    from scipy.fft import rfft2

    window = np.hanning(THUMBNAIL + 2)[1:-1].astype(np.float32)
    light = thumbnails.astype(np.float32)
    light -= light.mean(axis=(1, 2), keepdims=True)
    waves: Vectors = np.abs(rfft2(light * np.outer(window, window)))
    return waves
