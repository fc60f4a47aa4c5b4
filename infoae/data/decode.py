"""One image of any kind, as pixels of the wanted size and channels: the same code for training and for serving.

The rules, in the order they are applied:

- format: PNG, JPEG, GIF, BMP, TIFF, WebP, PPM/PGM/PBM, JPEG 2000 and AVIF, told by content, never by name;
  of an animation or a stack, the first frame;
- EXIF orientation is applied;
- 16-bit grey is scaled by 255/65535; floating-point pixels and integers beyond 16 bits have no agreed range and are
  refused;
- transparency is composited on black: a transparent pixel carries no light, and black (0) is the background of the
  bundled digits too;
- palette, CMYK, YCbCr and 1-bit become RGB or grey (ITU-R 601 luma);
- size: the whole image is resized to `height` x `width` by Pillow's antialiased bilinear filter. Nothing is cropped,
  so the aspect ratio is not kept.

Needs Pillow and NumPy only.
"""

from __future__ import annotations

import functools
import io
import os
import stat

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from infoae.errors import InfoAEError, one_line

MAX_PIXELS = 64_000_000
"""An image that declares more pixels is refused before it is decoded (64 megapixels are 256 MB as RGBA)."""
MAX_BYTES = 512 * 1024 * 1024
"""A larger file is refused before it is opened."""
SMALL_BYTES = 64 * 1024
"""A file up to this size is read in one go: Pillow would read it in a dozen small steps."""

# Formats with a signature in their first bytes. TGA has none, so random bytes pass for it; EPS would start Ghostscript.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")


class UnreadableImageError(InfoAEError):
    """An image that cannot be used. The message is the reason alone: the caller knows which image it was."""


def read_image(source: bytes | str | os.PathLike[str], channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return the image in `source` (a path, or a file's bytes) as uint8 (channels, height, width), 0..255.

    `channels` is 1 (grey) or 3 (RGB). Raises UnreadableImageError with the reason, whatever the content.
    """
    assert channels in (1, 3), channels
    try:
        with Image.open(_checked(source), formats=_formats()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UnreadableImageError(f"{image.width} x {image.height} pixels, more than {MAX_PIXELS} in all")
            return _pixels(image, channels, height, width)
    except UnreadableImageError:
        raise
    except Exception as error:  # Pillow's decoders raise anything on damaged input, struct.error to ZeroDivisionError
        raise UnreadableImageError(_reason(error)) from error


def _checked(source: bytes | str | os.PathLike[str]) -> io.BytesIO | str:
    """The source as Pillow takes it, once it is known to be a regular file of a sane size: a pipe would block."""
    file: io.BytesIO | str
    if isinstance(source, bytes):
        size, file = len(source), io.BytesIO(source)
    else:
        file = os.fspath(source)
        status = os.stat(file)  # noqa: PTH116 (a Path for each of many small images costs a tenth of their decoding)
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImageError("a folder, not a file" if stat.S_ISDIR(status.st_mode) else "not a regular file")
        size = status.st_size
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
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _pixels(image: Image.Image, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    mode = "L" if channels == 1 else "RGB"
    if image.getexif().get(0x0112, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        image = _from_16_bit(image)
    elif image.mode == "F":
        raise UnreadableImageError("floating-point pixels, whose range is unknown")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode != mode:
        image = image.convert("RGB" if image.mode == "P" else mode).convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    # Twice as fast as np.asarray(image), which copies the bytes once more.
    pixels = np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels)
    return pixels.reshape(1, height, width) if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    values[values == image.info.get("transparency")] = 0  # of all 16 bits: once they are scaled it is not to be told
    if values.min() < 0 or values.max() > 65535:
        raise UnreadableImageError(f"integer pixels from {values.min()} to {values.max()}, beyond 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


def _reason(error: Exception) -> str:
    """One short line that is the same on every run."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image of a known format"
    if isinstance(error, (Image.DecompressionBombError, Image.DecompressionBombWarning)):
        return f"more than {MAX_PIXELS} pixels"
    if isinstance(error, MemoryError):
        return "more memory needed than there is"
    if isinstance(error, OSError) and error.strerror:
        return one_line(error)
    return f"damaged image: {one_line(error)}"
