"""Quality columns: each number against a slow computation, each column against pictures made to be so."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from infoae.data import ImageSet
from infoae.sorting import quality

Images = NDArray[np.uint8]


@pytest.fixture
def digits(mnist: tuple[ImageSet, ImageSet]) -> Images:
    """Forty real digits."""
    return np.asarray(mnist[1].images[:40])[:, 0]


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    written = io.BytesIO()
    picture.save(written, kind, quality=60)
    return written.getvalue()


def test_measures_are_what_their_formulas_say(digits: Images) -> None:
    found = quality.measured([encoded(Image.fromarray(digit)) for digit in digits], num_workers=2)
    assert found.damaged == [None] * 40
    for row, digit in enumerate(digits):
        light = digit / 255
        brightness = np.sort(light.ravel())[-78:].mean()
        edge = np.pad(light, 1, mode="symmetric")
        laplacian = edge[2:, 1:-1] + edge[:-2, 1:-1] + edge[1:-1, 2:] + edge[1:-1, :-2] - 4 * light
        assert found.brightness[row] == pytest.approx(brightness, rel=1e-5)
        assert found.sharpness[row] == pytest.approx(laplacian.var() / brightness**2, rel=1e-4)


def test_large_pictures_are_looked_at_on_one_scale() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 32), np.uint8)
    large = Image.fromarray(noise).resize((1024, 512), Image.Resampling.BILINEAR)
    found = quality.measured([encoded(large), encoded(large.resize((256, 128), Image.Resampling.BILINEAR))])
    assert found.sharpness[0] == found.sharpness[1]
    assert found.brightness[0] == found.brightness[1]


def test_each_column_names_the_picture_made_so(tmp_path: Path) -> None:
    photograph = Image.fromarray(np.random.default_rng(1).integers(0, 256, (25, 25, 3), np.uint8)).resize((300, 300), 0)
    made: dict[str, bytes] = {
        "own.png": encoded(photograph),
        "again.jpg": encoded(photograph.resize((280, 280)), "JPEG"),
        "dark.png": encoded(photograph.rotate(180).point(lambda value: value // 8)),
        "blurred.png": encoded(photograph.rotate(90).filter(ImageFilter.GaussianBlur(6))),
        "cut.png": encoded(photograph)[:-500],
        "text.png": b"no picture",
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    steps: list[int] = []
    measures = quality.measured([tmp_path / name for name in made], advance=steps.append)
    assert sum(steps) == len(made)
    found: dict[str, list[Any]] = quality.columns(list(made), measures, np.zeros((6, 2)))
    told = {name: [row for row, value in zip(made, values, strict=True) if value] for name, values in found.items()}
    assert told == {
        "damaged": ["cut.png", "text.png"],
        "dark": ["dark.png"],
        "blurred": ["blurred.png"],
        "duplicate_of": ["again.jpg"],
        "outlier": [],
    }
    assert found["duplicate_of"][1] == "own.png"
    assert found["blurred"][-2:] == [None, None]


def test_the_outlier_is_the_picture_of_another_kind(digits: Images) -> None:
    rng = np.random.default_rng(0)
    moved = [np.roll(digit, rng.integers(-3, 4, 2), (0, 1)) for digit in np.tile(digits, (5, 1, 1))]
    moved[150] = rng.integers(0, 256, (28, 28), np.uint8)
    measures = quality.measured([encoded(Image.fromarray(digit)) for digit in moved])
    latents = rng.normal(size=(200, 4))
    latents[20] = np.nan
    paths = [f"{row}.png" for row in range(200)]
    found = quality.columns(paths, measures, latents)["outlier"]
    assert found[20] is None
    assert found[150] is True
    assert sum(bool(told) for told in found) < 6
    assert "outlier" not in quality.columns(paths, measures)
