"""What pictures become where nobody says: their own size if they share a small one, and grey if all are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoae.inputs.image_size import chosen
from tests.helpers.inputs import PIXELS, idx


@pytest.mark.parametrize(
    ("sizes", "mode", "wanted"),
    [
        ([(28, 28)] * 3, "L", (1, 28, 28)),
        ([(64, 64)] * 3, "RGB", (3, 64, 64)),
        ([(65, 65)] * 3, "RGB", (3, 32, 32)),
        ([(28, 29)] * 3, "L", (1, 32, 32)),
        ([(28, 28), (28, 28), (40, 40)], "L", (1, 32, 32)),
        ([(7, 7)] * 3, "L", (1, 32, 32)),
    ],
)
def test_pictures(sizes: list[tuple[int, int]], mode: str, wanted: tuple[int, int, int], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number, (width, height) in enumerate(sizes):
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(tmp_path / f"{number}.png")
    assert chosen([str(tmp_path)], None, None, None).shape == wanted
    assert chosen([str(tmp_path)], None, 48, None).shape == (wanted[0], 48, 48)
    assert chosen([str(tmp_path)], None, None, 1).shape == (1, *wanted[1:])


def test_grey_pictures_saved_as_colour_are_grey_and_one_in_colour_makes_all_colour(tmp_path: Path) -> None:
    for number in range(300):
        Image.fromarray(PIXELS[number % 50]).convert("RGB").save(tmp_path / f"{number:03}.jpg")
    assert chosen([str(tmp_path)], None, None, None).shape == (1, 28, 28)
    Image.new("RGB", (28, 28), (200, 30, 30)).save(tmp_path / "000.jpg")
    assert chosen([str(tmp_path)], None, None, None).shape == (3, 28, 28)


def test_turned_pictures_count_upright(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("L", (30, 20)).save(tmp_path / "0.jpg", exif=turned)
    Image.new("L", (20, 30)).save(tmp_path / "1.jpg")
    assert chosen([str(tmp_path)], None, None, None).shape == (1, 32, 32)


def test_arrays_keep_their_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "grey.npy", PIXELS)
    np.save(tmp_path / "colour.npy", np.zeros((4, 3, 20, 24), np.uint8))
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.zeros(50))
    (tmp_path / "x-ubyte").write_bytes(idx(PIXELS))
    shapes = [
        chosen([str(tmp_path / name)], None, 64, 3).shape for name in ("grey.npy", "colour.npy", "x.npz", "x-ubyte")
    ]
    assert shapes == [(1, 28, 28), (3, 20, 24), (1, 28, 28), (1, 28, 28)]
