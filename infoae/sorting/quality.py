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

SIDE = 256
"""Pixels of the longer side at which pictures are looked at; smaller ones are taken as they are."""
THUMBNAIL = 32
BLURRED = 0.007
"""A picture whose sharpness is below is blurred."""
DARK = 0.25
"""A picture of less brightness is dark."""
ALIKE_BITS, ALIKE = 7, 0.95
"""Near-duplicates differ in at most so many bits of 64, and their thumbnails correlate by at least so much."""
OUTLIER = 3.5
"""A picture of a greater modified z-score is an outlier (Iglewicz and Hoaglin 1993)."""
FEW = 5
"""Pictures, below which a category has no outliers."""

_TOGETHER = 128
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
    thumbnails: NDArray[np.uint8]


def measured(
    pictures: Sequence[Encoded], num_workers: int = 1, advance: Callable[[int], object] = lambda _: None
) -> Measures:
    """Measure N pictures, paths or bytes of files, in threads. Raises InfoAEError where the machine is at its end."""
    damaged: list[str | None] = []
    numbers = np.full((2, len(pictures)), np.nan, np.float32)
    thumbnails = np.zeros((len(pictures), THUMBNAIL, THUMBNAIL), np.uint8)
    parts = (pictures[first : first + _TOGETHER] for first in range(0, len(pictures), _TOGETHER))
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


def perceptual_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the pHash (N, 8), 64 bits each, of thumbnails (N, 32, 32): which of the lowest waves are above the median.

    It has the bits of `imagehash.phash`, which takes the same cosine transform for one picture at a time.
    """
    from scipy.fft import dctn

    hashes = np.empty((len(thumbnails), 8), np.uint8)
    for first in range(0, len(thumbnails), _TOGETHER):
        part = slice(first, first + _TOGETHER)
        waves = dctn(thumbnails[part].astype(np.float64), axes=(1, 2))[:, :8, :8].reshape(-1, 64)
        hashes[part] = np.packbits(waves > np.median(waves, axis=1, keepdims=True), axis=1)
    return hashes


def first_alike(thumbnails: NDArray[np.uint8], among: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return for each of N thumbnails the first picture that it is a near-duplicate of (N,), -1 if there is none.

    That one is no near-duplicate itself, so groups do not chain. Only pictures of `among` (N,) are compared. Hashes of
    at most ALIKE_BITS between them agree in one of four parts but for one bit, so that faiss looks up few of them
    (multi-index hashing, Norouzi et al. 2012): the work does not grow with N squared.
    """
    import faiss

    rows = np.flatnonzero(np.ones(len(thumbnails), bool) if among is None else among)
    first = np.full(len(thumbnails), -1, np.int64)
    if len(rows) == 0:
        return first
    hashes, of = np.unique(perceptual_hashes(thumbnails)[rows], axis=0, return_inverse=True)
    members: list[list[int]] = [[] for _ in hashes]  # of each hash, the pictures that are no near-duplicates
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.nflip = 1
    index.add(hashes)
    for begin in range(0, len(rows), _TOGETHER):
        part = of.reshape(-1)[begin : begin + _TOGETHER]
        ends, _, found = index.range_search(hashes[part], ALIKE_BITS + 1)  # faiss: less than
        for place, hash_number in enumerate(part.tolist()):
            row = int(rows[begin + place])
            near = found[ends[place] : ends[place + 1]].tolist()
            known = np.array(sorted(number for each in near for number in members[each]), np.int64)
            alike = known[_correlations(thumbnails[row], thumbnails[known]) >= ALIKE] if len(known) else known
            if len(alike):
                first[row] = alike[0]
            else:
                members[hash_number].append(row)
    return first


def _correlations(one: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the correlation of a thumbnail with N others (N,); of plain ones, whether their grey is about equal."""
    flat = np.concatenate([one[None], others]).reshape(len(others) + 1, -1).astype(np.float32)
    mean = flat.mean(axis=1, keepdims=True)
    centred = flat - mean
    length = np.sqrt((centred**2).sum(axis=1))
    plain = length < THUMBNAIL  # a deviation below one step of grey
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation: NDArray[np.float32] = centred[1:] @ centred[0] / (length[1:] * length[0])
    both = plain[1:] & plain[0] & (np.abs(mean[1:, 0] - mean[0, 0]) < 2)
    correlation[plain[1:] | plain[0]] = both[plain[1:] | plain[0]]
    return correlation


def outlier_scores(latents: NDArray[Any], categories: NDArray[Any]) -> NDArray[np.float64]:
    """Return how far each of N latents (N, Z) lies from the mean of its category (N,), against its others (N,).

    It is the modified z-score of the distance, 0.6745 (d - median) / median absolute deviation. 0 in categories of
    fewer than FEW.
    """
    scores = np.zeros(len(latents))
    for category in np.unique(categories):
        rows = np.flatnonzero(categories == category)
        if len(rows) < FEW:
            continue
        some = np.asarray(latents[rows], np.float64)
        distances = np.linalg.norm(some - some.mean(axis=0), axis=1)
        from_median = distances - np.median(distances)
        deviation = np.median(np.abs(from_median))
        if deviation > 0:
            scores[rows] = 0.6745 * from_median / deviation
    return scores


def columns(
    paths: Sequence[str],
    measures: Measures,
    latents: NDArray[Any] | None = None,
    categories: NDArray[Any] | None = None,
) -> dict[str, list[Any]]:
    """Return the columns of N pictures by name: `damaged` (why, or None), `dark`, `blurred`, `duplicate_of`, `outlier`.

    `duplicate_of` is the path of the first picture alike, else None. `outlier` needs `latents` (N, Z) and `categories`
    (N,). What a damaged picture would be is None.
    """
    whole = np.array([reason is None for reason in measures.damaged], bool)
    first = first_alike(measures.thumbnails, whole)
    found: dict[str, list[Any]] = {
        "damaged": list(measures.damaged),
        "dark": _where(whole, measures.brightness < DARK),
        "blurred": _where(whole, measures.sharpness < BLURRED),
        "duplicate_of": [None if row < 0 else paths[row] for row in first],
    }
    if latents is not None and categories is not None:
        outliers = np.zeros(len(whole), bool)
        outliers[whole] = outlier_scores(latents[whole], categories[whole]) > OUTLIER
        found["outlier"] = _where(whole, outliers)
    return found


def _where(whole: NDArray[np.bool_], values: NDArray[np.bool_]) -> list[bool | None]:
    return [bool(value) if there else None for there, value in zip(whole, values, strict=True)]
