"""Sounds that the tests make: tones and chirps, encoded by soundfile."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

RATE = 16_000


def tone(hz: float, seconds: float, rate: int = RATE) -> NDArray[np.float32]:
    """A sine at half of full scale."""
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def chirp(seconds: float, low: float = 200, high: float = 4000) -> NDArray[np.float32]:
    """A sine at half of full scale that rises from `low` to `high` Hz."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (0.5 * np.sin(2 * np.pi * (low + (high - low) * time / seconds / 2) * time)).astype(np.float32)


def encoded(samples: NDArray[Any], kind: str, rate: int = RATE, subtype: str | None = None) -> bytes:
    """A file of `kind` that holds `samples` (N,), or (N, channels)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype=subtype, format=kind)
    return buffer.getvalue()
