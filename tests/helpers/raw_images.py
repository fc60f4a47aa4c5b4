"""PNG and TIFF files written bit by bit, in kinds that imaging libraries read but do not write."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNSIGNED, SIGNED, FLOAT = 1, 2, 3
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK = 0, 1, 2, 3, 5


def packed(values: NDArray[np.int64], bits: int, order: str = ">") -> bytes:
    """Rows of samples (H, N), each of so many bits, the most significant first; whole bytes in `order`."""
    if bits in (8, 16, 32):
        return values.astype(f"{order}u{bits // 8}").tobytes()
    ones = (values[:, :, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(ones.astype(np.uint8).reshape(len(values), -1), axis=1).tobytes()


def tiff(
    samples: NDArray[np.int64],
    bits: int,
    *,
    order: str = "<",
    photometric: int = BLACK_IS_ZERO,
    sample_format: int = UNSIGNED,
    extra: Sequence[int] = (),
    deflate: bool = False,
    planes: bool = False,
    orientation: int = 1,
    palette: NDArray[np.int64] | None = None,
) -> bytes:
    """A TIFF of samples (H, W, S), in one strip or one for each plane."""
    height, width, count = samples.shape
    parts = [samples[:, :, plane] for plane in range(count)] if planes else [samples.reshape(height, -1)]
    strips = [packed(part, bits, order) for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if deflate else strips
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * count),
        259: ("H", [8 if deflate else 1]),
        262: ("H", [photometric]),
        273: ("I", [0] * len(strips)),
        274: ("H", [orientation]),
        277: ("H", [count]),
        278: ("I", [height]),
        279: ("I", [len(strip) for strip in strips]),
        284: ("H", [2 if planes else 1]),
        339: ("H", [sample_format] * count),
    }
    if palette is not None:
        tags[320] = ("H", palette.ravel().tolist())
    if extra:
        tags[338] = ("H", extra)
    outside = 8 + 2 + 12 * len(tags) + 4  # where values lie that do not fit into their tag
    lengths = sum(size for kind, values in tags.values() if (size := struct.calcsize(f"={len(values)}{kind}")) > 4)
    start = outside + lengths
    tags[273] = ("I", [start + sum(map(len, strips[:number])) for number in range(len(strips))])
    entries, values_outside = b"", b""
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{kind}", *values)
        where = content.ljust(4, b"\0")
        if len(content) > 4:
            where = struct.pack(f"{order}I", outside + len(values_outside))
            values_outside += content
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + where
    magic = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}IH", 8, len(tags)) + entries + bytes(4)
    return magic + directory + values_outside + b"".join(strips)


def png(
    samples: NDArray[np.int64],
    bits: int,
    transparent: Sequence[int] | None = None,
    palette: NDArray[np.int64] | None = None,
) -> bytes:
    """A PNG of samples (H, W, S): grey, palette, grey and alpha, colour, or colour and alpha.

    `transparent` is what tRNS says: the transparent samples, or the alpha of each entry of `palette` (N, 3).
    """

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width, count = samples.shape
    colour_type = 3 if palette is not None else {1: 0, 2: 4, 3: 2, 4: 6}[count]
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0))
    if palette is not None:
        content += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if transparent is not None:
        content += chunk(b"tRNS", struct.pack(f">{len(transparent)}{'H' if palette is None else 'B'}", *transparent))
    rows = [packed(row.reshape(1, -1), bits) for row in samples]
    return content + chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
