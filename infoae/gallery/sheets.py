"""Thumbnails: kept on disk one by one while pictures are read, then laid out in sheets of many.

A browser loads and decodes an image at a time: 256 thumbnails in one cost it as much as one picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.cpus import available_cpus
from infoae.inputs.decoding import ordered_map

COLUMNS = 16
"""Thumbnails in a row of a sheet, and rows."""
_KEPT_QUALITY, _QUALITY = 95, 80
_LARGE = 48  # pixels of a side: smaller pictures, such as digits, show every fault of a compression that loses


class Spool:
    """Small pictures in one file, in the order in which they came; memory holds where each begins."""

    def __init__(self, path: Path) -> None:
        """Begin with an empty file at `path`."""
        self._file = path.open("w+b")
        self._starts = [0]
        self.side = 0
        """Pixels of the longest side of any picture."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def append(self, picture: Image.Image, encoded: bytes) -> None:
        """Add a picture, and its bytes as `encode` makes them."""
        self.side = max(self.side, *picture.size)
        self._file.seek(0, io.SEEK_END)
        self._file.write(encoded)
        self._starts.append(self._starts[-1] + len(encoded))

    def __getitem__(self, index: int) -> Image.Image:
        start, end = self._starts[index : index + 2]
        self._file.seek(start)
        return Image.open(io.BytesIO(self._file.read(end - start)))


def encode(picture: Image.Image) -> bytes:
    """Return a picture as bytes for a spool: with no loss where it is small."""
    content = io.BytesIO()
    if max(picture.size) < _LARGE:
        picture.save(content, "PNG", compress_level=1)
    else:
        picture.save(content, "JPEG", quality=_KEPT_QUALITY, subsampling=0)
    return content.getvalue()


def picture_of(pixels: NDArray[np.uint8], side: int) -> Image.Image:
    """Return `pixels` uint8 (C, H, W), grey or RGB, as a picture of at most `side` x `side`."""
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(picture.size) > side:
        picture.thumbnail((side, side))
    return picture


def sheets(spool: Spool, order: Sequence[int]) -> Iterator[bytes]:
    """Yield WebP files of COLUMNS x COLUMNS pictures of the spool, each in the middle of a square of `spool.side`.

    One that is smaller is enlarged, or it would be a speck beside others. The squares are filled in `order`, row by
    row; what no picture covers is transparent.
    """
    size = COLUMNS * COLUMNS
    parts = [order[start : start + size] for start in range(0, len(order), size)]
    pictures = ([spool[index] for index in part] for part in parts)
    yield from ordered_map(lambda part: _sheet(part, spool.side), pictures, available_cpus())


def _sheet(pictures: list[Image.Image], side: int) -> bytes:
    rows = -(-len(pictures) // COLUMNS)
    canvas = Image.new("RGBA", (COLUMNS * side, rows * side))
    for number, small in enumerate(pictures):
        row, column = divmod(number, COLUMNS)
        picture = _enlarged(small, side)
        left, top = (side - picture.width) // 2, (side - picture.height) // 2
        canvas.paste(picture.convert("RGBA"), (column * side + left, row * side + top))
    content = io.BytesIO()
    canvas.save(content, "WEBP", lossless=side < _LARGE, quality=_QUALITY, method=2)
    return content.getvalue()


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    factor = side / max(picture.size)
    if factor <= 1:
        return picture
    size = max(1, round(factor * picture.width)), max(1, round(factor * picture.height))
    return picture.resize(size, Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.BICUBIC)
