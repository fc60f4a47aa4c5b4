"""The pictures that a gallery shows, in chunks: what the model is given of each, its path, and a thumbnail."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from infoae.category_model import CategoryModel
from infoae.cpus import available_cpus
from infoae.data.decode import DecodeOptions, read_with_thumbnail
from infoae.data.image_spec import ImageSpec
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import UsageError
from infoae.gallery.sheets import encode, picture_of
from infoae.inputs.blocks import Block, Source
from infoae.inputs.decoding import ordered_map, read_blocks
from infoae.inputs.sources import open_sources
from infoae.loading import load_tests
from infoae.runs.run import Run

THUMBNAIL = 96
"""Pixels of a thumbnail's longer side, at most."""
CHUNK = 256


@dataclass(frozen=True)
class Chunk:
    """N pictures: `paths`, `inputs` of the model, uint8 (N, C, H, W) or features (N, D), and `thumbnails` with bytes.

    `passed_over` counts the files beside them that are none, or that cannot be read, by reason.
    """

    paths: list[str]
    inputs: NDArray[np.uint8] | NDArray[np.float32]
    thumbnails: list[tuple[Image.Image, bytes]]
    passed_over: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Pictures:
    """Where a gallery's pictures come from: `origin` in words, their `count` if it is known, and all in `chunks`."""

    origin: str
    count: int | None
    chunks: Iterator[Chunk]


def pictures_of(
    run: Run, model: CategoryModel, data: Path | None, column: str | None = None, data_root: Path | None = None
) -> Pictures:
    """Return the pictures at `data`, by default those that the run was given as files, or else its test images.

    `column` is that of a table; `data_root` is where the run's data lies if it has moved. Raises InfoAEError.
    """
    config = run.config().data.moved(data_root)
    if data is not None and not model.encodes_images:
        raise UsageError(f"--data {data}: {run.name} has no encoder for other pictures than those it was trained on")
    if data is None and config.name == "files" and config.root is not None and model.encodes_images:
        data = config.root
    if data is None:
        return _of_tests(run, data_root)
    channels, height, width = model.seen_shape
    image = ImageSpec(channels=1 if channels == 1 else 3, height=height, width=width)
    column = config.column if column is None and data == config.root else column
    sources = open_sources([str(data)], image, column=column)
    counts = [source.count() for source in sources]
    total = None if None in counts else sum(filter(None, counts))
    options = DecodeOptions(reduced_jpeg=bool(config.reduced_jpeg))
    return Pictures(str(data), total, _of_sources(sources, image, options))


def _of_tests(run: Run, data_root: Path | None) -> Pictures:
    tests, name = load_tests(run, data_root), run.config().data.name

    def chunks() -> Iterator[Chunk]:
        for start in range(0, len(tests), CHUNK):
            rows = slice(start, start + CHUNK)
            made = [picture_of(pixels, THUMBNAIL) for pixels in tests.images[rows]]
            paths = [f"{name}#{number}" for number in range(start, start + len(made))]
            yield Chunk(paths, tests.inputs[rows], [(each, encode(each)) for each in made])

    return Pictures(f"test images of {name}", len(tests), chunks())


def _of_sources(sources: Sequence[Source], image: ImageSpec, options: DecodeOptions) -> Iterator[Chunk]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of oddities in files
        yield from ordered_map(
            lambda block: _decoded(block, image, options), read_blocks(sources, CHUNK), num_workers=available_cpus()
        )


def _decoded(block: Block, image: ImageSpec, options: DecodeOptions) -> Chunk:
    if isinstance(block.images, np.ndarray):
        made = [picture_of(pixels, THUMBNAIL) for pixels in block.images]
        return Chunk(block.keys, block.images, [(each, encode(each)) for each in made], block.passed_over)
    paths, inputs, thumbnails, passed_over = [], [], [], Counter(block.passed_over)
    for path, encoded in zip(block.keys, block.images, strict=True):
        try:
            if isinstance(encoded, UnreadableImageError):
                raise encoded
            pixels, thumbnail = read_with_thumbnail(encoded, *image.shape, THUMBNAIL, options)
        except UnreadableImageError:
            passed_over["unreadable"] += 1
            continue
        paths.append(path)
        inputs.append(pixels)
        thumbnails.append((thumbnail, encode(thumbnail)))
    stacked = np.stack(inputs) if inputs else np.empty((0, *image.shape), np.uint8)
    return Chunk(paths, stacked, thumbnails, passed_over)
