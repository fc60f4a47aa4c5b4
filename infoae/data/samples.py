"""What the samples of an opened image are: how many bits, of which sign, and which value is white.

What Pillow gives does not tell: it puts 12 bits into an image of 16, reads signed samples as unsigned ones, and scales
2 and 4 bits, but not the value that is transparent. So the file's own statements are read here, before it is decoded.
"""

from __future__ import annotations

import functools
import struct
import sys
from dataclasses import dataclass
from typing import IO, Any

from PIL import Image, TiffImagePlugin

from infoae.data.unreadable import UnreadableImageError

_BITS, _PHOTOMETRIC, _FILL_ORDER, _SAMPLES, _PLANES, _SAMPLE_FORMAT = 258, 262, 266, 277, 284, 339
_UNUSABLE = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_SWAPPED = {"16L": "16B", "16B": "16L", "16N": "16B" if sys.byteorder == "little" else "16L"}


@dataclass(frozen=True)
class Samples:
    """`white` is the value of full light as the file states it, `decoded_white` as Pillow gives it."""

    white: int = 255
    decoded_white: int = 255
    inverted: bool = False
    """Whether Pillow leaves 0 to be white."""


def samples_of(image: Any) -> Samples:
    """Return what the samples of `image` are; it must not be loaded yet. Mends what Pillow would decode wrongly.

    Raises UnreadableImageError, by what the file states and never by its pixels, for samples that are not unsigned
    whole numbers of 1 to 16 bits: signed, floating-point and wider ones have no agreed range.
    """
    if image.mode == "F":
        raise UnreadableImageError("floating-point samples, whose range is unknown")
    kind = image.format
    if kind == "TIFF":
        return _tiff(image)
    if kind == "JPEG2000":
        return _jpeg_2000(image)
    raw = raw_mode(image)
    if kind == "PNG":
        bits = int(raw.partition(";")[2].strip("BL") or 8) if image.mode != "P" else 8
        # Pillow has scaled the samples of 2 and 4 bits, but not the one that is transparent.
        if bits in (2, 4) and "transparency" in image.info and image.mode == "L":
            image.info["transparency"] = (image.info["transparency"] & (2**bits - 1)) * 255 // (2**bits - 1)
        return _deep(image, 65535) if bits == 16 else Samples()
    if kind == "PPM":
        stated: Any = image.tile[0][3]
        white = stated[1] if isinstance(stated, tuple) else 65535 if ";16" in raw else 255
        return _deep(image, white) if white > 255 else Samples()
    return Samples()


def _deep(image: Any, white: int) -> Samples:
    """Samples of more than 8 bits, which Pillow scales to 16 bits in grey and to 8 in colour."""
    return Samples(white, 65535 if image.mode.startswith("I") else 255)


def raw_mode(image: Any) -> str:
    """Return Pillow's name of how the samples lie in the file, as "RGB;16B", or "" if it has none."""
    arguments: Any = image.tile[0][3] if getattr(image, "tile", None) else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments or "")


def is_wide_colour(image: Any) -> bool:
    """Whether `image` has several samples of 16 bits a pixel, of which Pillow gives the high bytes alone."""
    return not image.mode.startswith("I") and ";16" in raw_mode(image)


def take_low_bytes(image: Any) -> bool:
    """Have Pillow decode the low bytes of 16-bit RGB or RGBA: it finds them in the other byte order.

    Returns False, and does nothing, where that cannot be.
    """
    tags: Any = getattr(image, "tag_v2", {})
    kind, _, order = raw_mode(image).partition(";")
    compressed_planes = tags.get(_PLANES, 1) == 2 and kind != "R"  # of which libtiff chooses the order itself
    if kind not in ("R", "RGB", "RGBA", "RGBX") or order not in _SWAPPED or compressed_planes:
        return False
    _rename_raw_modes(image, lambda raw: f"{raw.partition(';')[0]};{_SWAPPED[order]}")
    return True


@functools.cache
def know_more_tiffs() -> None:
    """Tell Pillow of grey TIFFs that it can decode and does not list: 12 bits, and 16 bits of which 0 is white."""
    for order, wide in ((b"II", "I;16"), (b"MM", "I;16B")):
        for photometric in (0, 1):
            TiffImagePlugin.OPEN_INFO.setdefault((order, photometric, (1,), 1, (12,), ()), ("I;16", "I;12"))
            TiffImagePlugin.OPEN_INFO.setdefault((order, photometric, (1,), 1, (16,), ()), (wide, wide))


def why_unidentified(file: IO[bytes]) -> str:
    """Return why Pillow knows nothing of `file`, for people."""
    file.seek(0)
    start = file.read(64)
    if start[4:8] == b"ftyp" and start[8:12] in (
        b"heic",
        b"heix",
        b"hevc",
        b"hevx",
        b"heim",
        b"heis",
        b"mif1",
        b"msf1",
    ):
        if "HEIF" in Image.OPEN:
            return "a damaged HEIC image"
        return "a HEIC image, which needs pillow-heif: pip install 'infoae[heif]'"
    if start[:2] == b"\xff\x0a" or start[4:12] == b"JXL \r\n\x87\n":
        return "a JPEG XL image, which infoae does not read: convert it to PNG"
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        tags: Any = TiffImagePlugin.ImageFileDirectory_v2(start[:16] if start[2:4] in (b"+\0", b"\0+") else start[:8])
        file.seek(tags.next)
        tags.load(file)
        _refuse_tiff(tags)
        kind = f"a TIFF of {_bits_of(tags)} bits a sample and photometric kind {tags.get(_PHOTOMETRIC)}"
        return f"{kind}, which Pillow does not read: convert it to PNG"
    return "not an image of a known format"


def _tiff(image: Any) -> Samples:
    tags = image.tag_v2
    _refuse_tiff(tags)
    bits = _bits_of(tags)
    if tags.get(_PLANES, 1) == 2 and image.tile and image.tile[0][0] == "raw":
        _mend_planes(image, bits)
    if not image.mode.startswith("I"):
        return Samples()
    return Samples(2**bits - 1, 2**bits - 1, inverted=tags.get(_PHOTOMETRIC) == 0)


def _mend_planes(image: Any, bits: int) -> None:
    """Of planes that are not compressed Pillow takes the first letter of how samples lie for the whole of it."""
    tags = image.tag_v2
    if tags.get(_SAMPLES, 1) == 1:
        order, photometric = tags.get(_FILL_ORDER, 1), tags.get(_PHOTOMETRIC, 0)
        _, raw = TiffImagePlugin.OPEN_INFO[(tags.prefix, photometric, (1,), order, (bits,), ())]
        _rename_raw_modes(image, lambda _: raw)
    elif bits == 16:
        if image.mode not in ("RGB", "RGBA"):
            raise UnreadableImageError(f"16-bit planes of {image.mode}, which Pillow does not read: convert it to PNG")
        _rename_raw_modes(image, lambda raw: f"{raw};16{'B' if tags.prefix == b'MM' else 'L'}")


def _refuse_tiff(tags: Any) -> None:
    for number in tags.get(_SAMPLE_FORMAT, (1,)):
        if number in _UNUSABLE:
            raise UnreadableImageError(f"{_UNUSABLE[number]} samples, whose range is unknown")
    if _bits_of(tags) > 16:
        raise UnreadableImageError(f"samples of {_bits_of(tags)} bits, whose range is unknown: at most 16 are read")


def _bits_of(tags: Any) -> int:
    return max(tags.get(_BITS, (1,)), default=1)


def _rename_raw_modes(image: Any, rename: Any) -> None:
    def renamed(arguments: Any) -> Any:
        return (rename(arguments[0]), *arguments[1:]) if isinstance(arguments, tuple) else rename(arguments)

    # Tiles of an older Pillow are plain tuples.
    image.tile = [
        tile._replace(args=renamed(tile[3])) if hasattr(tile, "_replace") else (*tile[:3], renamed(tile[3]))
        for tile in image.tile
    ]


def _jpeg_2000(image: Any) -> Samples:
    """Pillow shifts samples to 8 bits, or grey ones of more than 8 to 16; shifting colour down, it wraps white."""
    found = set(_components(image.fp))
    if any(signed for _, signed in found):
        raise UnreadableImageError("signed samples, whose range is unknown")
    bits = max((bits for bits, _ in found), default=8)
    if bits > 16:
        raise UnreadableImageError(f"samples of {bits} bits, whose range is unknown: at most 16 are read")
    if image.mode in ("P", "PA"):
        return Samples()
    if len(found) > 1 or (bits > 8 and image.mode != "I;16"):
        raise UnreadableImageError(
            f"JPEG 2000 in colour of {bits} bits, which Pillow decodes wrongly: convert it to PNG"
        )
    return Samples(2**bits - 1, (2**bits - 1) << ((16 if bits > 8 else 8) - bits))


def _components(file: IO[bytes]) -> list[tuple[int, bool]]:
    """The bits and the sign of each component, from the SIZ segment with which a JPEG 2000 codestream begins."""
    position, start = file.tell(), 0
    file.seek(0)
    while (box := file.read(16))[4:8] != b"jp2c" and box[:4] != b"\xff\x4f\xff\x51":
        length = int.from_bytes(box[8:16] if box[:4] == b"\0\0\0\1" else box[:4], "big")
        if len(box) < 8 or length < 8:
            raise UnreadableImageError("damaged image: no codestream")
        start += length
        file.seek(start)
    file.seek(start + (0 if box[:2] == b"\xff\x4f" else 16 if box[:4] == b"\0\0\0\1" else 8))
    head = file.read(42)
    (count,) = struct.unpack(">H", head[40:42])
    found = [((byte & 0x7F) + 1, bool(byte & 0x80)) for byte in file.read(3 * count)[::3]]
    file.seek(position)
    return found
