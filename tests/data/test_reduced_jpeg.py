"""JPEG files at a part of their size: near to the whole picture resized, whatever the kind; and when they are not."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from infoae.config import Data
from infoae.data import load
from infoae.data.decode import DecodeOptions, read_image, read_with_thumbnail
from infoae.data.image_spec import ImageSpec
from infoae.data.reduced_jpeg import described, scale_of
from infoae.data.unreadable import UnreadableImageError
from infoae.inputs.convert import convert_files

FULL = DecodeOptions(reduced_jpeg=False)
MEAN, MOST = 1.0, 6
"""Levels of 255 that a picture may differ on average, and that any pixel may."""


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """No two corners are alike, and light falls steeply: a shift or a turn is seen at once."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    levels = np.dstack([230 * across, 230 * down, 115 * (2 - across - down)]) + 10
    levels += np.random.default_rng(0).normal(0, 4, levels.shape)
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    image.save(written, "JPEG", quality=92, exif=exif, **options)
    return written.getvalue()


def whole(content: bytes, mode: str, height: int, width: int) -> NDArray[np.int64]:
    """What Pillow makes of all pixels."""
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert(mode)
    pixels = np.asarray(upright.resize((width, height), Image.Resampling.BILINEAR), np.int64)
    return pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)


def assert_near(found: NDArray[np.uint8], wanted: NDArray[np.int64]) -> None:
    difference = np.abs(found.astype(np.int64) - wanted)
    assert difference.mean() <= MEAN
    assert difference.max() <= MOST


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(161, 257), (320, 200), (263, 135)])
def test_it_is_upright_and_covers_the_whole_picture(orientation: int, size: tuple[int, int]) -> None:
    content = encoded(picture(*size), orientation)
    found = read_image(content, 3, 8, 10)
    assert_near(found, whole(content, "RGB", 8, 10))
    assert (found != read_image(content, 3, 8, 10, FULL)).any()  # or it was decoded in full


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("RGB", {"subsampling": 0}),
        ("RGB", {"subsampling": 2}),
        ("RGB", {"subsampling": 2, "progressive": True}),
        ("L", {}),
        ("L", {"progressive": True}),
        ("CMYK", {}),
    ],
)
def test_every_kind_of_jpeg_is_near_to_the_whole(mode: str, options: dict[str, Any], channels: int) -> None:
    content = encoded(picture(333, 250, mode), **options)
    for size in (9, 20, 33):  # at an eighth, a quarter, a half
        wanted = whole(content, "L" if channels == 1 else "RGB", size, size)
        assert_near(read_image(content, channels, size, size), wanted)


def test_of_a_camera_s_several_pictures_the_first_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "stereo.mpo"
    first = picture(333, 250)
    first.save(path, "MPO", save_all=True, append_images=[ImageOps.invert(first)], quality=92)
    assert_near(read_image(path, 3, 20, 20), whole(path.read_bytes(), "RGB", 20, 20))


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 400), st.integers(8, 400), st.integers(8, 64), st.integers(8, 64))
def test_a_small_picture_is_decoded_in_full(width: int, height: int, wanted_width: int, wanted_height: int) -> None:
    content = encoded(picture(width, height))
    found = read_image(content, 3, wanted_height, wanted_width)
    if width < 4 * wanted_width or height < 4 * wanted_height:  # at a half it would have less than twice the pixels
        assert np.array_equal(found, whole(content, "RGB", wanted_height, wanted_width))
    else:
        assert_near(found, whole(content, "RGB", wanted_height, wanted_width))


@given(*[st.integers(1, 5000)] * 4)
def test_the_scale_leaves_twice_the_pixels_and_no_more_than_need_be(w: int, h: int, wide: int, high: int) -> None:
    fits = [scale for scale in (1, 2, 4, 8) if scale == 1 or (w >= 2 * scale * wide and h >= 2 * scale * high)]
    assert scale_of(w, h, wide, high) == max(fits)


def test_a_bundle_of_before_decodes_all_pixels() -> None:
    content = encoded(picture(333, 250), 6)
    assert np.array_equal(read_image(content, 3, 9, 9, FULL), whole(content, "RGB", 9, 9))


def test_a_file_that_breaks_off_is_damaged_at_any_size() -> None:
    content = encoded(picture(640, 480))
    with pytest.raises(UnreadableImageError, match="truncated"):
        read_image(content[: len(content) // 2], 3, 9, 9)


@pytest.mark.parametrize("size", [(1600, 1200), (520, 400), (250, 333), (90, 60)])
def test_a_thumbnail_is_as_large_and_as_good_as_of_the_whole(size: tuple[int, int]) -> None:
    content = encoded(picture(*size), 6)
    pixels, thumbnail = read_with_thumbnail(content, 3, 28, 28, 96)
    assert np.array_equal(pixels, read_image(content, 3, 28, 28))
    _, wanted = read_with_thumbnail(content, 3, 28, 28, 96, FULL)
    assert thumbnail.size == wanted.size
    assert_near(np.asarray(thumbnail), np.asarray(wanted, np.int64))


def test_shards_say_how_their_pictures_were_decoded(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(encoded(picture(200 + number, 100)))
    image = ImageSpec(channels=3, height=8, width=8)
    convert_files([str(tmp_path / "photos")], tmp_path / "new", image)
    convert_files([str(tmp_path / "photos")], tmp_path / "full", image, options=FULL)
    assert described(tmp_path / "new")
    assert not described(tmp_path / "full")
    new, full = (load(Data(name="shards", root=tmp_path / name), "test").images for name in ("new", "full"))
    assert (new != full).any()


def test_the_sides_wanted_are_those_of_the_upright_picture() -> None:
    content = encoded(picture(400, 100), 6)
    found = read_image(content, 3, 50, 12)  # at a quarter; of the file as it lies it would be none
    assert_near(found, whole(content, "RGB", 50, 12))
    assert (found != read_image(content, 3, 50, 12, FULL)).any()
