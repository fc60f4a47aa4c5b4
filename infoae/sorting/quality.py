"""What is wrong with pictures, in columns beside their labels: damaged, dark, blurred, seen before, unlike the others.

No picture is kept but as a thumbnail of THUMBNAIL x THUMBNAIL grey bytes. The bounds are of real pictures
(docs/lab-notes.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.data.decode import read_image, size_of
from infoae.data.unreadable import UnreadableImageError
from infoae.inputs.blocks import Encoded
from infoae.inputs.decoding import ordered_map
from infoae.sorting import duplicates, outliers
from infoae.sorting.thumbnails import THUMBNAIL, TOGETHER, Thumbnails

SIDE = 256
"""Pixels of the longer side at which pictures are looked at; smaller ones are taken as they are."""
BLURRED = 0.007
"""A picture whose sharpness is below is blurred."""
DARK = 0.25
"""A picture of less brightness is dark."""

_NONE = np.zeros((THUMBNAIL, THUMBNAIL), np.uint8)


@dataclass(frozen=True)
class Measures:
    """What was measured of N pictures; of a damaged one numbers are NaN and the thumbnail is black.

    `damaged` is why a picture cannot be decoded in full, else None. `brightness` (N,) is the mean of the brightest
    tenth of its pixels, 0 black to 1 white. `sharpness` (N,) is the variance of the Laplacian (Pech-Pacheco et al.
    2000) of values in units of that brightness, at most SIDE pixels wide and high. `thumbnails` are uint8 (N,
    THUMBNAIL, THUMBNAIL).
    """

    damaged: list[str | None]
    brightness: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    thumbnails: Thumbnails


def measured(
    pictures: Sequence[Encoded], num_workers: int = 1, advance: Callable[[int], object] = lambda _: None
) -> Measures:
    """Measure N pictures, paths or bytes of files, in threads. Raises InfoAEError where the machine is at its end."""
    damaged: list[str | None] = []
    numbers = np.full((2, len(pictures)), np.nan, np.float32)
    thumbnails = np.zeros((len(pictures), THUMBNAIL, THUMBNAIL), np.uint8)
    parts = (pictures[first : first + TOGETHER] for first in range(0, len(pictures), TOGETHER))
    for part in ordered_map(lambda some: [_measured(picture) for picture in some], parts, num_workers):
        for reason, brightness, sharpness, thumbnail in part:
            row = len(damaged)
            damaged.append(reason)
            numbers[:, row] = brightness, sharpness
            thumbnails[row] = thumbnail
        advance(len(part))
    return Measures(damaged, numbers[0], numbers[1], thumbnails)


def _measured(picture: Encoded) -> tuple[str | None, float, float, NDArray[np.uint8]]:
    from scipy.ndimage import laplace

    try:
        if isinstance(picture, UnreadableImageError):
            raise picture
        size = size_of(picture)
        scale = min(1.0, SIDE / max(size))
        height, width = (max(1, round(side * scale)) for side in size)
        grey = read_image(picture, 1, height, width)[0]
    except UnreadableImageError as error:
        return str(error), np.nan, np.nan, _NONE
    light = grey.astype(np.float32) / 255
    brightest = max(1, light.size // 10)
    brightness = np.partition(light, -brightest, axis=None)[-brightest:].mean()
    resized = Image.fromarray(grey).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    sharpness = laplace(light).var() / max(float(brightness), 1 / 255) ** 2  # or all dark pictures were blurred
    return None, float(brightness), float(sharpness), np.asarray(resized)


def columns(paths: Sequence[str], measures: Measures, latents: NDArray[Any] | None = None) -> dict[str, list[Any]]:
    """Return the columns of N pictures by name: `damaged` (why, or None), `dark`, `blurred`, `duplicate_of`, `outlier`.

    `duplicate_of` is the path of the first picture alike, else None. `outlier` needs `latents` (N, Z), NaN where there
    is none. What a damaged picture would be is None.
    """
    whole = np.array([reason is None for reason in measures.damaged], bool)
    first = duplicates.first_alike(measures.thumbnails, whole)
    found: dict[str, list[Any]] = {
        "damaged": list(measures.damaged),
        "dark": _where(whole, measures.brightness < DARK),
        "blurred": _where(whole, measures.sharpness < BLURRED),
        "duplicate_of": [None if row < 0 else paths[row] for row in first],
    }
    if latents is not None:
        known = whole & np.isfinite(latents).all(axis=1)
        odd = np.zeros(len(whole), bool)
        odd[known] = outliers.scores(measures.thumbnails[known], latents[known]) > outliers.OUTLIER
        found["outlier"] = _where(known, odd)
    return found


def _where(whole: NDArray[np.bool_], values: NDArray[np.bool_]) -> list[bool | None]:
    return [bool(value) if there else None for there, value in zip(whole, values, strict=True)]
