"""Every kind of sample gives the pixels that its file states, by arithmetic and by another reader (OpenCV)."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from infoae.data import decode
from infoae.data.decode import DecodeOptions, read_image
from infoae.data.unreadable import UnreadableImageError
from tests.helpers import raw_images
from tests.helpers.raw_images import (
    BLACK_IS_ZERO,
    CMYK,
    FLOAT,
    PALETTE,
    RGB,
    SIGNED,
    UNSIGNED,
    WHITE_IS_ZERO,
    png,
    tiff,
)

HEIGHT, WIDTH = 9, 11
ORDERS, SEEDS = st.sampled_from("<>"), st.integers(0, 2**32 - 1)
COLOURS = st.tuples(*[st.integers(0, 255)] * 3)


def drawn(seed: int, bits: int, count: int) -> NDArray[np.int64]:
    """Samples (HEIGHT, WIDTH, count) of all values, black and white among them."""
    samples = np.random.default_rng(seed).integers(0, 2**bits, (HEIGHT, WIDTH, count))
    samples[0, 0], samples[0, 1] = 0, 2**bits - 1
    return samples


def seen(
    colour: NDArray[Any], alpha: NDArray[Any] | float = 1.0, background: Sequence[int] = (0, 0, 0)
) -> NDArray[np.float64]:
    """What a light of `colour` (H, W, 1 or 3), 0 to 1, through `alpha` shows on `background`: (3, H, W), 0 to 255."""
    colour = np.broadcast_to(colour, (*colour.shape[:2], 3)) * 255.0
    shown: NDArray[np.float64] = colour * alpha + np.array(background) * (1 - np.asarray(alpha))
    return shown.transpose(2, 0, 1)


def read(content: bytes, options: DecodeOptions = decode.DEFAULTS) -> NDArray[np.int64]:
    return read_image(content, 3, HEIGHT, WIDTH, options).astype(np.int64)


def opencv(content: bytes) -> Any:
    """The samples as OpenCV reads them, blue first; None where it does not."""
    return cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)


def assert_close(found: NDArray[np.int64], wanted: NDArray[Any], tolerance: float = 1) -> None:
    assert np.abs(found - wanted).max() <= tolerance


@given(st.sampled_from([1, 2, 4, 8, 12, 16]), ORDERS, st.sampled_from([0, 1]), st.booleans(), st.booleans(), SEEDS)
def test_grey_tiffs(bits: int, order: str, photometric: int, deflate: bool, planes: bool, seed: int) -> None:
    samples = drawn(seed, bits, 1)
    light = samples / (2**bits - 1)
    wanted = seen(light if photometric == BLACK_IS_ZERO else 1 - light)
    content = tiff(samples, bits, order=order, photometric=photometric, deflate=deflate, planes=planes)
    assert_close(read(content), wanted, 0.5)
    other = opencv(content)
    if other is not None and photometric == BLACK_IS_ZERO:  # OpenCV does not turn 16 bits whose 0 is white
        other = other / {np.uint8: 255, np.uint16: (2**bits - 1) << (16 - bits)}[other.dtype.type]
        assert_close(read(content), seen(other[:, :, None]), 0.5)


@given(st.sampled_from([8, 16]), st.sampled_from([None, 0, 1, 2]), ORDERS, st.booleans(), st.booleans(), COLOURS, SEEDS)
def test_colour_tiffs(
    bits: int, extra: int | None, order: str, deflate: bool, planes: bool, background: tuple[int, int, int], seed: int
) -> None:
    samples = drawn(seed, bits, 3 if extra is None else 4)
    light = samples / (2**bits - 1)
    colour, alpha = light[:, :, :3], light[:, :, 3:] if extra else 1.0
    if extra == 1:  # colours are multiplied by alpha already, and not brighter than it
        samples[:, :, :3] = np.minimum(samples[:, :, :3], samples[:, :, 3:])
        light = samples / (2**bits - 1)
        wanted = seen(light[:, :, :3]) + seen(np.zeros((HEIGHT, WIDTH, 1)), alpha, background)
    else:
        wanted = seen(colour, alpha, background)
    kinds = {"photometric": RGB, "order": order, "deflate": deflate, "planes": planes}
    content = tiff(samples, bits, extra=() if extra is None else (extra,), **kinds)  # type: ignore[arg-type]
    if planes and not deflate and extra in (0, 1):
        with pytest.raises(UnreadableImageError):
            read(content)
        return
    assert_close(read(content, DecodeOptions(background=background)), wanted, 3)  # two of 16 bits cut to 8
    if extra is None and not planes:  # OpenCV does not read planes of 16 bits
        other = opencv(content)
        assert_close(read(content), seen(other[:, :, ::-1] / (2**bits - 1)))


@given(st.sampled_from([1, 2, 4, 8]), st.booleans(), st.booleans(), SEEDS)
def test_palette_tiffs(bits: int, deflate: bool, planes: bool, seed: int) -> None:
    samples = drawn(seed, bits, 1)
    palette = np.random.default_rng(seed).integers(0, 65536, (3, 2**bits))
    content = tiff(samples, bits, photometric=PALETTE, palette=palette, deflate=deflate, planes=planes)
    assert_close(read(content), seen(palette.T[samples[:, :, 0]] / 65535))


@given(st.sampled_from([8, 16]), ORDERS, st.integers(1, 8), st.sampled_from([1, 3]), SEEDS)
def test_tiffs_are_turned_upright(bits: int, order: str, orientation: int, count: int, seed: int) -> None:
    samples = drawn(seed, bits, count)
    light = samples / (2**bits - 1)
    upright = {
        1: light,
        2: light[:, ::-1],
        3: light[::-1, ::-1],
        4: light[::-1],
        5: light.transpose(1, 0, 2),
        6: np.rot90(light, -1),
        7: np.rot90(light, 2).transpose(1, 0, 2),
        8: np.rot90(light),
    }[orientation]
    photometric = RGB if count == 3 else BLACK_IS_ZERO
    content = tiff(samples, bits, order=order, orientation=orientation, photometric=photometric)
    for options in (DecodeOptions(), DecodeOptions(value_range=(0, 65535))):
        found = read_image(content, 3, upright.shape[0], upright.shape[1], options).astype(np.int64)
        assert_close(found, seen(upright))


@given(
    st.sampled_from([(8, SIGNED), (16, SIGNED), (32, SIGNED), (32, UNSIGNED), (32, FLOAT), (64, FLOAT), (12, SIGNED)]),
    ORDERS,
    st.sampled_from([WHITE_IS_ZERO, BLACK_IS_ZERO]),
    st.booleans(),
    st.integers(0, 100),
)
def test_samples_without_a_range_are_refused_by_their_type(
    kind: tuple[int, int], order: str, photometric: int, deflate: bool, brightest: int
) -> None:
    """Whatever their values: those of an image that is dark would pass for others."""
    bits, sample_format = kind
    samples = np.random.default_rng(brightest).integers(0, brightest + 1, (HEIGHT, WIDTH, 1))
    if bits == 64:
        samples, bits = np.repeat(samples, 2, axis=1), 32  # two words are one sample, and read no further
    content = tiff(samples, bits, order=order, photometric=photometric, sample_format=sample_format, deflate=deflate)
    reason = {SIGNED: "signed samples", FLOAT: "floating-point samples", UNSIGNED: "samples of 32 bits"}[sample_format]
    with pytest.raises(UnreadableImageError, match=f"^{reason}, whose range is unknown"):
        read(content)


@given(st.sampled_from([3, 5, 10, 14]), ORDERS)
def test_tiffs_that_nobody_reads_say_what_they_are(bits: int, order: str) -> None:
    with pytest.raises(UnreadableImageError, match=f"^a TIFF of {bits} bits a sample .* convert it to PNG$"):
        read(tiff(drawn(0, bits, 1), bits, order=order))


@given(
    st.sampled_from([(1, 1), (1, 2), (1, 4), (1, 8), (1, 16), (2, 8), (2, 16), (3, 8), (3, 16), (4, 8), (4, 16)]),
    st.booleans(),
    COLOURS,
    SEEDS,
)
def test_pngs(kind: tuple[int, int], some_transparent: bool, background: tuple[int, int, int], seed: int) -> None:
    count, bits = kind
    samples = drawn(seed, bits, count)
    light = samples / (2**bits - 1)
    colour, alpha = (light[:, :, :-1], light[:, :, -1:]) if count in (2, 4) else (light, 1.0)
    transparent = None
    if some_transparent and count in (1, 3):
        transparent = samples[3, 3].tolist()
        samples[4, 4, -1] ^= 1  # next to it in value: the same once 16 bits are scaled
        samples[5, 5] = samples[3, 3]
        colour = samples / (2**bits - 1)
        alpha = 1.0 - (samples == samples[3, 3]).all(axis=2, keepdims=True)
    content = png(samples, bits, transparent)
    wanted = seen(colour, alpha, background)
    tolerance = 1 if bits < 16 else 2.5  # the low byte of colour, that of alpha, and rounding
    assert_close(read(content, DecodeOptions(background=background)), wanted, tolerance)
    other = opencv(content)
    other = (other if other.ndim == 3 else other[:, :, None]) / np.iinfo(other.dtype).max
    if other.shape[2] == 4:
        other = seen(other[:, :, 2::-1], other[:, :, 3:], background)
    elif transparent is None:
        other = seen(other[:, :, ::-1])
    else:
        return  # OpenCV does not know transparency of grey
    assert_close(read(content, DecodeOptions(background=background)), other, tolerance)


@given(st.sampled_from([1, 2, 4, 8]), st.booleans(), COLOURS, SEEDS)
def test_palette_pngs(bits: int, some_transparent: bool, background: tuple[int, int, int], seed: int) -> None:
    samples, random = drawn(seed, bits, 1), np.random.default_rng(seed)
    palette, alpha = random.integers(0, 256, (2**bits, 3)), random.integers(0, 256, 2**bits)
    content = png(samples, bits, alpha.tolist() if some_transparent else None, palette)
    entries = samples[:, :, 0]
    wanted = seen(palette[entries] / 255, alpha[entries][:, :, None] / 255 if some_transparent else 1.0, background)
    assert_close(read(content, DecodeOptions(background=background)), wanted)


@given(st.integers(1, 65535), st.booleans(), SEEDS)
def test_pnm_is_scaled_by_its_largest_value(white: int, colour: bool, seed: int) -> None:
    samples = np.random.default_rng(seed).integers(0, white + 1, (HEIGHT, WIDTH, 3 if colour else 1))
    pixels = samples.astype(">u2" if white > 255 else "u1").tobytes()
    content = b"P%d %d %d %d\n" % (6 if colour else 5, WIDTH, HEIGHT, white) + pixels
    assert_close(read(content), seen(samples / white))
    if not colour and white > 255:  # the range is in the file's own values
        assert_close(read(content, DecodeOptions(value_range=(0, white))), seen(samples / white), 0.5)


@given(st.integers(0, 65534), st.data(), st.sampled_from(["png", "tiff", "planes", "deflate"]), ORDERS, SEEDS)
def test_a_range_says_what_is_black_and_white(low: int, data: st.DataObject, kind: str, order: str, seed: int) -> None:
    high = data.draw(st.integers(low + 1, 65535))
    count = data.draw(st.sampled_from([1, 3]))
    samples = drawn(seed, 16, count)
    photometric = RGB if count == 3 else BLACK_IS_ZERO
    options = {"order": order, "planes": kind == "planes", "deflate": kind == "deflate", "photometric": photometric}
    content = png(samples, 16) if kind == "png" else tiff(samples, 16, **options)  # type: ignore[arg-type]
    wanted = seen(((samples - low) / (high - low)).clip(0, 1))
    assert_close(read(content, DecodeOptions(value_range=(low, high))), wanted, 0.51)


def test_a_range_is_refused_where_low_bytes_are_lost_and_leaves_8_bits_alone() -> None:
    options = DecodeOptions(value_range=(0, 4095))
    colour = drawn(0, 16, 3)
    ppm = b"P6 %d %d 65535\n" % (WIDTH, HEIGHT) + colour.astype(">u2").tobytes()
    planes = tiff(colour, 16, photometric=RGB, planes=True, deflate=True)
    cmyk = tiff(drawn(0, 16, 4), 16, photometric=CMYK)
    for content in (png(drawn(0, 16, 2), 16), ppm, planes, cmyk):
        with pytest.raises(UnreadableImageError, match=r"--range does not reach 16-bit [A-Z]* in this format"):
            read(content, options)
    samples = drawn(0, 8, 3)
    assert_close(read(png(samples, 8), options), seen(samples / 255), 0)


def test_the_largest_values_of_16_bit_grey_are_told() -> None:
    samples = drawn(1, 12, 1)
    noticed = decode.Noticed()
    for content in (png(samples, 16), tiff(samples, 16), tiff(samples, 12), png(drawn(1, 8, 1), 8)):
        read_image(content, 1, HEIGHT, WIDTH, decode.DEFAULTS, noticed)
    assert noticed.peak == 4095


def large(samples: NDArray[np.int64]) -> NDArray[np.int64]:
    """OpenCV writes no JPEG 2000 as small as the other images."""
    return np.tile(samples, (8, 8, 1))[:64, :64]


def jpeg_2000(pixels: NDArray[Any]) -> bytes:
    done, content = cv2.imencode(".jp2", pixels, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    assert done
    return content.tobytes()


@given(st.sampled_from([(8, 1), (8, 3), (16, 1)]), SEEDS)
def test_jpeg_2000_of_another_writer(kind: tuple[int, int], seed: int) -> None:
    bits, count = kind
    samples = large(drawn(seed, bits, count)).astype(f"u{bits // 8}")
    content = jpeg_2000(samples if count == 3 else samples[:, :, 0])
    light = opencv(content) / (2**bits - 1)
    found = read_image(content, 3, 64, 64).astype(np.int64)
    assert_close(found, seen(light[:, :, ::-1] if count == 3 else light[:, :, None]))


def test_jpeg_2000_that_pillow_decodes_wrongly_is_refused() -> None:
    with pytest.raises(UnreadableImageError, match="JPEG 2000 in colour of 16 bits"):
        read(jpeg_2000(large(drawn(0, 16, 3)).astype(np.uint16)))
    for container in ("x.jp2", "x.j2k"):
        file = io.BytesIO()
        file.name = container
        Image.new("L", (32, 32), 200).save(file, "JPEG2000", signed=True)
        with pytest.raises(UnreadableImageError, match=r"^signed samples"):
            read(file.getvalue())


@given(st.integers(1, 7))
def test_jpeg_2000_of_few_bits_reaches_white(bits: int) -> None:
    """Samples lie around the middle of their range, which is all that the stated number of bits moves."""
    file = io.BytesIO()
    file.name = "x.j2k"
    Image.new("L", (32, 32), 128 + 2 ** (bits - 1) - 1).save(file, "JPEG2000", irreversible=False)
    content = bytearray(file.getvalue())
    assert content[42] == 7  # the precision of the first component, less 1
    content[42] = bits - 1
    found = read_image(bytes(content), 1, 32, 32)
    assert found.min() == found.max() == 255


def heic(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(file, quality=100)
    return file.getvalue()


def test_heic_is_read_where_pillow_heif_is_and_named_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.full((64, 64, 3), (200, 100, 50), np.uint8)
    content = heic(pixels)
    decode._formats.cache_clear()
    assert np.abs(read_image(content, 3, 64, 64).transpose(1, 2, 0).astype(int) - pixels).max() <= 8
    with pytest.raises(UnreadableImageError, match=r"damaged"):
        read_image(content[:60], 3, 64, 64)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF")
    decode._formats.cache_clear()
    try:
        with pytest.raises(UnreadableImageError, match=r"^a HEIC image, which needs pillow-heif: pip install"):
            read_image(content, 3, 64, 64)
    finally:
        monkeypatch.undo()
        decode._formats.cache_clear()


def test_the_writer_of_these_tests_writes_what_it_is_told() -> None:
    """Against another reader, where that reads it."""
    samples = drawn(5, 16, 3)
    for content in (png(samples, 16), tiff(samples, 16, photometric=RGB)):
        other = opencv(content)
        assert np.array_equal(other[:, :, ::-1], samples)
    assert raw_images.packed(np.array([[0xABC, 0xDEF]]), 12) == bytes.fromhex("abcdef")
