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


def test_the_hash_is_that_of_the_cosine_transform(digits: Images) -> None:
    thumbnails = quality.measured([encoded(Image.fromarray(digit)) for digit in digits]).thumbnails
    place = np.arange(32)
    basis = np.cos(np.pi * np.outer(np.arange(8), 2 * place + 1) / 64)
    for thumbnail, code in zip(thumbnails, quality.perceptual_hashes(thumbnails), strict=True):
        waves = (basis @ thumbnail.astype(float) @ basis.T).ravel()
        assert np.unpackbits(code).tolist() == (waves > np.median(waves)).tolist()


def slow_first_alike(thumbnails: Images) -> list[int]:
    bits = np.unpackbits(quality.perceptual_hashes(thumbnails), axis=1)
    first: list[int] = []
    for row in range(len(thumbnails)):
        alike = [
            other
            for other in range(row)
            if first[other] < 0
            and (bits[row] != bits[other]).sum() <= 7
            and np.corrcoef(thumbnails[row].ravel(), thumbnails[other].ravel())[0, 1] >= 0.95
        ]
        first.append(alike[0] if alike else -1)
    return first


def test_near_duplicates_are_those_of_comparing_all_with_all(digits: Images) -> None:
    rng = np.random.default_rng(0)
    thumbnails = np.stack([np.asarray(Image.fromarray(digit).resize((32, 32))) for digit in np.tile(digits, (5, 1, 1))])
    noise = rng.normal(0, rng.uniform(0, 40, len(thumbnails))[:, None, None], thumbnails.shape)
    thumbnails = (thumbnails + noise).clip(0, 255).astype(np.uint8)
    expected = slow_first_alike(thumbnails)
    assert 20 < sum(row >= 0 for row in expected) < 180
    assert quality.first_alike(thumbnails).tolist() == expected


def test_plain_pictures_are_alike_if_they_are_of_one_grey() -> None:
    greys = np.array([10, 200, 10, 11, 0], np.uint8)
    thumbnails = np.broadcast_to(greys[:, None, None], (5, 32, 32)).copy()
    assert quality.first_alike(thumbnails).tolist() == [-1, -1, 0, 0, -1]
    assert quality.first_alike(thumbnails[:0]).tolist() == []


def test_an_outlier_is_far_from_its_category_against_the_others() -> None:
    rng = np.random.default_rng(0)
    categories = np.repeat([3, 5, 9], [50, 50, 4])
    latents = rng.normal(size=(104, 6)) + categories[:, None] * 100.0
    latents[7] += 20
    latents[103] += 20  # of a category too small to say
    scores = quality.outlier_scores(latents, categories)
    assert scores[7] > 3 * quality.OUTLIER
    assert (np.delete(scores, 7) < 1.2 * quality.OUTLIER).all()
    distances = np.linalg.norm(latents[50:100] - latents[50:100].mean(axis=0), axis=1)
    median = np.median(distances)
    expected = 0.6745 * (distances - median) / np.median(abs(distances - median))
    np.testing.assert_allclose(scores[50:100], expected)
    assert (scores[100:] == 0).all()


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
    latents, categories = np.zeros((6, 2)), np.zeros(6, int)
    found: dict[str, list[Any]] = quality.columns(list(made), measures, latents, categories)
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
