"""One image of any kind, as pixels of the wanted size and channels: the same code for training and for serving.

The rules, in the order they are applied:

- format: PNG, JPEG, GIF, BMP, TIFF, WebP, PPM/PGM/PBM, JPEG 2000, AVIF, and HEIC where pillow-heif is installed, told
  by content, never by name; of an animation or a stack, the first frame;
- WAV, FLAC and OGG, told by content, too, are sound: its spectrogram (`infoae.data.sound`) is the image;
- EXIF orientation is applied;
- samples of 1 to 16 unsigned bits are scaled by what the file states: 0 is black, and the largest value white. Signed,
  floating-point and wider ones have no agreed range and are refused. `value_range` says which values of images of more
  than 8 bits are black and white instead, for cameras that fill 12 of 16 bits;
- transparency is composited on `background`, by default black: a transparent pixel carries no light, and black (0) is
  the background of the bundled digits too;
- palette, CMYK, YCbCr and 1-bit become RGB or grey (ITU-R 601 luma);
- size: the whole image is resized to `height` x `width` by Pillow's antialiased bilinear filter. Nothing is cropped,
  so the aspect ratio is not kept. A large JPEG is decoded at a part of its size (`infoae.data.reduced_jpeg`), unless
  `reduced_jpeg` says that it is not.

Needs Pillow and NumPy, and for sound soundfile and soxr.
"""

from __future__ import annotations

import functools
import io
import os
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from infoae.data import reduced_jpeg, samples, sound
from infoae.data.image_spec import ImageSpec
from infoae.data.reduced_jpeg import Box
from infoae.data.samples import Samples, samples_of
from infoae.data.sound import SoundSpec
from infoae.data.unreadable import UnreadableImageError, check_file, unreadable
from infoae.limits import MAX_BYTES, MAX_PIXELS

SMALL_BYTES = 64 * 1024
"""A file up to this size is read in one go: Pillow would read it in a dozen small steps."""

Encoded: TypeAlias = bytes | str | os.PathLike[str]

# Formats with a signature in their first bytes. TGA has none, so random bytes pass for it; EPS would start Ghostscript.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF", "HEIF")


@dataclass(frozen=True)
class DecodeOptions:
    """What images do not say themselves.

    `value_range` are the values of images of more than 8 bits that are black and white, None for all that their bits
    can hold; `background` is the RGB colour, 0 to 255, that is seen through transparency; `sound` are the numbers by
    which sounds become pictures, None where they are refused; `reduced_jpeg` is whether large JPEGs are decoded at a
    part of their size.
    """

    value_range: tuple[int, int] | None = None
    background: tuple[int, int, int] = (0, 0, 0)
    # Of the bundle: not of what a job was asked.
    sound: SoundSpec | None = field(default=sound.DEFAULT, repr=False)
    reduced_jpeg: bool = field(default=True, repr=False)


DEFAULTS = DecodeOptions()


@dataclass
class Noticed:
    """What is noticed of images while they are read: `peak`, the largest value of those of 16-bit grey; `num_sounds`.

    `peak` is None where there are none.
    """

    peak: int | None = None
    num_sounds: int = 0


def read_image(
    source: Encoded,
    channels: int,
    height: int,
    width: int,
    options: DecodeOptions = DEFAULTS,
    noticed: Noticed | None = None,
) -> NDArray[np.uint8]:
    """Return the image in `source` (a path, or a file's bytes) as uint8 (channels, height, width), 0..255.

    `channels` is 1 (grey) or 3 (RGB). `noticed` is told of it. Raises UnreadableImageError with the reason, whatever
    the content, and InfoAEError where the machine is at its end.
    """
    assert channels in (1, 3), channels
    image, box = _decoded(source, options, noticed or Noticed(), height, width)
    with unreadable("damaged image: "):
        return _pixels(image, options, channels, height, width, box)


def read_with_thumbnail(
    source: Encoded, channels: int, height: int, width: int, side: int, options: DecodeOptions = DEFAULTS
) -> tuple[NDArray[np.uint8], Image.Image]:
    """Return what `read_image` does, and the same picture in its own colours and proportions, L or RGB.

    That is made smaller to at most `side` x `side`, never larger. Decodes once, but for a JPEG that was decoded at a
    part of its size which is too small for it. Raises as `read_image`.
    """
    image, box = _decoded(source, options, Noticed(), height, width)
    with unreadable("damaged image: "):
        pixels = _pixels(image, options, channels, height, width, box)
        if box is not None and max(image.size) < reduced_jpeg.GAP * side:
            image, box = _decoded(source, options, Noticed(), side, side)
        covered = image.size if box is None else (box[2] - box[0], box[3] - box[1])
        scale = min(1.0, side / max(covered))
        thumbnail_size = max(1, round(covered[0] * scale)), max(1, round(covered[1] * scale))
        grey = image.mode in ("1", "L", "LA")
        shown = _pixels(image, options, 1 if grey else 3, thumbnail_size[1], thumbnail_size[0], box)
        return pixels, Image.fromarray(shown[0] if grey else np.ascontiguousarray(shown.transpose(1, 2, 0)))


def _decoded(
    source: Encoded, options: DecodeOptions, noticed: Noticed, height: int, width: int
) -> tuple[Image.Image, Box | None]:
    """Return the image upright, of 8 bits a sample, and the box of it that a picture covers, None for all."""
    with unreadable("damaged image: "):
        try:
            return _eight_bits(source, options, noticed, height, width)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise UnreadableImageError(f"more pixels than {MAX_PIXELS}") from None
        except OSError as error:
            if error.errno is None:
                raise
            with unreadable():  # of the file system: nothing is damaged
                raise


def resized(images: NDArray[np.uint8], image: ImageSpec) -> NDArray[np.uint8]:
    """Return `images` uint8 (N, C, h, w), grey or RGB, as `image` says, as if each were read from a file."""
    if images.shape[1:] == image.shape:
        return images
    made = np.empty((len(images), *image.shape), np.uint8)
    for row, pixels in enumerate(images):
        picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        made[row] = _pixels(picture, DEFAULTS, *image.shape)
    return made


def size_of(source: Encoded) -> tuple[int, int]:
    """Return height and width of the image in `source`, upright, by its header. Raises UnreadableImageError."""
    with unreadable("damaged image: "), _opened(source, DEFAULTS) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (image.width, image.height) if turned else (image.height, image.width)


def _checked(source: Encoded) -> io.BytesIO | str:
    """The source as Pillow takes it, once it is known to be a regular file of a sane size."""
    file: io.BytesIO | str
    if isinstance(source, bytes):
        size, file = len(source), io.BytesIO(source)
    else:
        file = os.fspath(source)
        size = check_file(file)
    if size == 0:
        raise UnreadableImageError("empty file")
    if size > MAX_BYTES:
        raise UnreadableImageError(f"{size} bytes, more than {MAX_BYTES}")
    if isinstance(file, str) and size <= SMALL_BYTES:
        with open(file, "rb") as content:  # noqa: PTH123
            return io.BytesIO(content.read(size))
    return file


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()  # an older Pillow lacks AVIF, and Image.open takes only names that it knows
    samples.know_more_tiffs()
    if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit, where a person has raised ours
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, MAX_PIXELS)
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        pillow_heif.register_heif_opener()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _opened(source: Encoded, options: DecodeOptions, noticed: Noticed | None = None) -> Image.Image:
    file = _checked(source)
    try:
        return Image.open(file, formats=_formats())
    except UnidentifiedImageError:
        with io.BytesIO(file.getvalue()) if isinstance(file, io.BytesIO) else open(file, "rb") as content:  # noqa: PTH123
            if not sound.is_sound(content.read(12)):
                raise UnreadableImageError(samples.why_unidentified(content)) from None
            if options.sound is None:
                raise UnreadableImageError("a sound, and the model was trained on pictures") from None
            content.seek(0)
            picture = sound.picture_of(content, options.sound)
            if noticed is not None:
                noticed.num_sounds += 1
            return picture


def _eight_bits(
    source: Encoded, options: DecodeOptions, noticed: Noticed, height: int, width: int
) -> tuple[Image.Image, Box | None]:
    """The image upright, of 8 bits a sample, black being 0, and its box."""
    with _opened(source, options, noticed) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UnreadableImageError(f"{image.width} x {image.height} pixels, more in all than {MAX_PIXELS}")
        kind = samples_of(image)
        wide_colour = samples.is_wide_colour(image)
        box = reduced_jpeg.reduce(image, height, width) if options.reduced_jpeg else None
        upright = _upright(image)
    if upright.mode.startswith("I"):
        return _from_grey(upright, kind, options, noticed), box
    transparent = upright.info.get("transparency")
    if wide_colour and (options.value_range or isinstance(transparent, tuple)):
        return _from_colour(source, upright, transparent, options), box
    if options.value_range and kind.white > 255:
        raise UnreadableImageError(_NO_RANGE.format(upright.mode))
    if kind.decoded_white != 255:
        scale = 255 / kind.decoded_white
        upright = upright.point([min(255, round(value * scale)) for value in range(256)] * len(upright.getbands()))
    return upright, box


_NO_RANGE = (
    "--range does not reach 16-bit {} in this format, of which Pillow gives the high bytes alone: convert it to PNG"
)


def _upright(image: Image.Image) -> Image.Image:
    if image.getexif().get(0x0112, 1) != 1:
        return ImageOps.exif_transpose(image)
    image.load()
    return image


def _from_grey(image: Image.Image, kind: Samples, options: DecodeOptions, noticed: Noticed) -> Image.Image:
    decoded = image if image.mode == "I" else image.convert("I")
    if kind.white == 65535:
        darkest, lightest = decoded.getextrema()
        peak = kind.white - int(darkest) if kind.inverted else int(lightest)  # type: ignore[arg-type]
        noticed.peak = max(noticed.peak or 0, peak)
    grey = decoded.point(_levels(kind, options.value_range), "L")
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    # Of all 16 bits: once they are scaled it is not to be told.
    alpha = decoded.point([0 if value == transparent else 255 for value in range(65536)], "L")
    return Image.merge("LA", (grey, alpha))


def _from_colour(
    source: Encoded, high: Image.Image, transparent: tuple[int, ...] | None, options: DecodeOptions
) -> Image.Image:
    with _opened(source, options) as image:
        samples_of(image)
        if not samples.take_low_bytes(image):
            raise UnreadableImageError(_NO_RANGE.format(high.mode))
        low = _upright(image)
    values = np.asarray(high).astype(np.uint16) << 8 | np.asarray(low)
    levels = _levels(Samples(65535, 65535), options.value_range)
    bands = [Image.fromarray(values[:, :, band]).convert("I").point(levels, "L") for band in range(3)]
    if high.mode == "RGBA":
        bands.append(high.getchannel("A"))
    elif transparent is not None:
        bands.append(Image.fromarray(np.where((values == transparent).all(axis=2), 0, 255).astype(np.uint8)))
    return Image.merge("RGB" if len(bands) == 3 else "RGBA", bands)


@functools.lru_cache(16)
def _levels(kind: Samples, value_range: tuple[int, int] | None) -> list[int]:
    """The 8 bits of each of 65536 decoded values."""
    low, high = value_range or (0, kind.white)
    values = (np.arange(65536) * kind.white + kind.decoded_white // 2) // kind.decoded_white
    if kind.inverted:
        values = kind.white - values
    levels: list[int] = np.rint((values.clip(low, high) - low) * (255 / (high - low))).astype(int).tolist()
    return levels


def _pixels(
    image: Image.Image, options: DecodeOptions, channels: int, height: int, width: int, box: Box | None = None
) -> NDArray[np.uint8]:
    mode = "L" if channels == 1 else "RGB"
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (*options.background, 255)), image)
    if image.mode != mode:
        image = image.convert("RGB" if image.mode == "P" else mode).convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR, box)
    # Twice as fast as np.asarray(image), which copies the bytes once more.
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels)
    return pixels.reshape(1, height, width) if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
