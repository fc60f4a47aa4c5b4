"""Sheets of thumbnails."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from infoae.gallery.sheets import Spool, encode, sheets


def test_a_small_picture_fills_its_square(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    large, small = (random.integers(0, 256, shape).astype(np.uint8) for shape in ((8, 8), (2, 4)))
    with Spool(tmp_path / "spool") as spool:
        for pixels in (large, small):
            picture = Image.fromarray(pixels)
            spool.append(picture, encode(picture))
        (sheet,) = sheets(spool, [1, 0])
    found = np.asarray(Image.open(io.BytesIO(sheet)).convert("RGBA"))
    np.testing.assert_array_equal(found[:8, 8:16, 0], large)
    np.testing.assert_array_equal(found[2:6, :8, 0], small.repeat(2, 0).repeat(2, 1))
    assert not found[:2, :8, 3].any()
    assert not found[6:8, :8, 3].any()
