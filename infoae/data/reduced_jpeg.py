"""JPEG files decoded at a half, a quarter or an eighth of their size: libjpeg then leaves out most of the work.

The scale taken leaves at least GAP times the pixels that are wanted, on each side. So what is resized from it differs
little from what is resized from the whole picture (docs/data.md has figures), as with Pillow's `Image.thumbnail`, which
does the same. Pictures of fewer than 2 * GAP times the pixels wanted are decoded in full.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from infoae.data.stored_shards import beside
from infoae.files import write_json

GAP = 2
SCALES = (8, 4, 2)
"""By which libjpeg divides the sides of a picture."""
DESCRIPTION = "decoding.json"

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of what a picture covers of its pixels."""

_LEFT, _TOP, _TURNED = (2, 3, 6, 7), (3, 4, 7, 8), (5, 6, 7, 8)
"""EXIF orientations in which the right edge of the file lies on the left, its bottom on top, and sides are swapped."""


def scale_of(width: int, height: int, wanted_width: int, wanted_height: int) -> int:
    """Return by how much, 1 to 8, the sides of a picture can be divided for one of the wanted size."""
    most = min(width // (GAP * wanted_width), height // (GAP * wanted_height))
    return next((scale for scale in SCALES if scale <= most), 1)


def reduce(image: Image.Image, height: int, width: int) -> Box | None:
    """Have a JPEG that was opened, and not yet loaded, decoded as small as a picture `height` x `width` upright allows.

    Returns the box of the upright image that the picture covers: its sides need not be multiples of the scale. None
    where the image is decoded in full: another format, or too small.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    orientation = image.getexif().get(0x0112, 1)
    if orientation in _TURNED:
        height, width = width, height
    scale = scale_of(*image.size, width, height)
    full = image.size
    if scale == 1 or image.draft(None, (full[0] // scale, full[1] // scale)) is None:
        return None
    beyond = [side - whole / scale for side, whole in zip(image.size, full, strict=True)]
    right, bottom = image.size
    if orientation in _TURNED:
        beyond, right, bottom = beyond[::-1], bottom, right
    left, top = beyond[0] * (orientation in _LEFT), beyond[1] * (orientation in _TOP)
    return left, top, left + right - beyond[0], top + bottom - beyond[1]


def describe(folder: Path) -> None:
    """Write beside the shards in `folder` that JPEG files were decoded so."""
    write_json(folder / DESCRIPTION, {"reduced_jpeg": True})


def described(place: Path | str | None) -> bool:
    """Return whether JPEG files were decoded so for the shards in a folder or object store: not before version 0.2."""
    return place is not None and beside(place, DESCRIPTION) is not None
