"""Any file becomes pixels or a reason: the rules of infoae.data.decode, one by one, and against noise."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from infoae.data.decode import read_image
from infoae.data.unreadable import UnreadableImageError

GREY = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
COLOUR = np.random.default_rng(0).integers(0, 256, (28, 28, 3), np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def grey(source: bytes | Path, size: int = 28) -> NDArray[np.uint8]:
    return read_image(source, 1, size, size)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    assert np.array_equal(grey(encoded(Image.fromarray(GREY), kind))[0], GREY)


def test_rgb_comes_as_channels_height_width() -> None:
    pixels = read_image(encoded(Image.fromarray(COLOUR)), 3, 28, 28)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert np.array_equal(pixels, COLOUR.transpose(2, 0, 1))


def test_grey_becomes_rgb_and_rgb_becomes_luma() -> None:
    assert np.array_equal(read_image(encoded(Image.fromarray(GREY)), 3, 28, 28), np.stack([GREY] * 3))
    luma = COLOUR @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey(encoded(Image.fromarray(COLOUR)))[0] - luma).max() <= 1


def test_the_name_says_nothing(tmp_path: Path) -> None:
    path = tmp_path / "digit.txt"
    path.write_bytes(encoded(Image.fromarray(GREY)))
    assert np.array_equal(grey(path)[0], GREY)


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter turn clockwise
    assert np.array_equal(grey(encoded(Image.fromarray(GREY), exif=exif))[0], np.rot90(GREY, -1))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_cut(kind: str) -> None:
    values = np.linspace(0, 65535, 28 * 28).astype(np.uint16).reshape(28, 28)
    assert np.array_equal(grey(encoded(Image.fromarray(values), kind))[0], np.rint(values / 257).astype(np.uint8))


def test_the_transparent_value_of_16_bit_grey_shows_black() -> None:
    values = np.full((28, 28), 30_000, np.uint16)
    values[:, 14:] = 30_001  # the same once it is scaled
    pixels = grey(encoded(Image.fromarray(values), transparency=30_000))[0]
    assert pixels[:, :14].max() == 0
    assert pixels[:, 14:].min() == 117


def test_numbers_without_a_range_are_refused() -> None:
    with pytest.raises(UnreadableImageError, match="floating-point"):
        grey(encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"))
    with pytest.raises(UnreadableImageError, match="signed samples"):
        grey(encoded(Image.fromarray(GREY.astype(np.int32)), "TIFF"))


def test_transparency_shows_black() -> None:
    alpha = np.zeros((28, 28), np.uint8)
    alpha[:, 14:] = 255
    pixels = read_image(encoded(Image.fromarray(np.dstack([COLOUR, alpha]))), 3, 28, 28)
    assert pixels[:, :, :14].max() == 0
    assert np.array_equal(pixels[:, :, 14:], COLOUR.transpose(2, 0, 1)[:, :, 14:])


def test_palette_and_its_transparent_entry() -> None:
    image = Image.new("P", (28, 28), 0)
    image.putpalette([200, 200, 200, 100, 100, 100])
    image.paste(1, (0, 0, 14, 28))
    assert set(np.unique(grey(encoded(image)))) == {100, 200}
    assert set(np.unique(grey(encoded(image, transparency=0)))) == {0, 100}
    assert set(np.unique(grey(encoded(image, transparency=b"\x00\xff")))) == {0, 100}


def test_cmyk_one_bit_and_grey_with_alpha() -> None:
    white = Image.new("CMYK", (28, 28), (0, 0, 0, 0))
    assert grey(encoded(white, "JPEG")).min() >= 254
    assert grey(encoded(Image.new("1", (28, 28), 1))).min() == 255
    assert grey(encoded(Image.new("LA", (28, 28), (255, 0)))).max() == 0


def test_the_whole_image_is_resized_whatever_its_aspect() -> None:
    wide = np.zeros((10, 100), np.uint8)
    wide[:, 50:] = 255
    pixels = grey(encoded(Image.fromarray(wide)), 28)
    assert pixels.shape == (1, 28, 28)
    assert pixels[0, :, :13].max() == 0
    assert pixels[0, :, 15:].min() == 255


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8001, 8000), (10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    with pytest.raises(UnreadableImageError, match="pixels"):
        grey(png_that_claims(*size))


def test_what_is_no_image_has_a_reason(tmp_path: Path) -> None:
    for content, reason in ((b"", "empty file"), (b"hello", "not an image of a known format")):
        with pytest.raises(UnreadableImageError) as caught:
            grey(content)
        assert str(caught.value) == reason
    with pytest.raises(UnreadableImageError, match="No such file"):
        grey(tmp_path / "absent.png")
    with pytest.raises(UnreadableImageError, match="a folder"):
        grey(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableImageError, match="not a regular file"):
        grey(tmp_path / "pipe")  # and does not wait for someone to write into it


def attempt(content: bytes) -> tuple[NDArray[np.uint8] | None, str]:
    try:
        return read_image(content, 3, 28, 28), ""
    except UnreadableImageError as error:
        return None, str(error)


@given(st.data(), st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]))
def test_a_truncated_image_is_unreadable_or_whole(data: st.DataObject, kind: str) -> None:
    whole = encoded(Image.fromarray(COLOUR), kind)
    content = whole[: data.draw(st.integers(0, len(whole) - 1))]
    pixels, reason = attempt(content)
    if pixels is None:
        assert "\n" not in reason
        assert 0 < len(reason) < 300
    else:
        assert np.array_equal(pixels, read_image(whole, 3, 28, 28))  # only bytes that follow the image were missing


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"II*\0", b"\xff\xd8\xff"])
)
def test_any_bytes_give_pixels_or_a_reason(content: bytes, signature: bytes) -> None:
    pixels, reason = attempt(signature + content)
    assert "0x" not in reason  # no memory address: the same input gives the same row on every run
    assert (pixels is None) != (reason == "")
