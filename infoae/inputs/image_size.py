"""Which size and channels pictures are given for training, where nobody says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np

from infoae.data.decode import read_image, size_of
from infoae.data.image_spec import ImageSpec
from infoae.data.selection import container_kind
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError
from infoae.inputs import arrays
from infoae.inputs.blocks import Encoded, Source, key_of
from infoae.inputs.sources import Files, expanded, open_sources

SMALLEST, LARGEST, USUAL = 8, 64, 32
"""Pixels of a side: pictures of one square size from SMALLEST to LARGEST keep it, all others become USUAL."""
SAMPLE = 100
"""Pictures that are looked at."""
GREY = 2.0
"""Levels of 255 that red, green and blue may differ on average in a picture that counts as grey: JPEG blurs colours."""


def chosen(inputs: Sequence[str], column: str | None, size: int | None, channels: int | None) -> ImageSpec:
    """Return what the images of `inputs` become, of the given size and channels where they are given.

    Arrays keep their own shape. Of other pictures SAMPLE are looked at: those of one square size from SMALLEST to
    LARGEST keep it, others become USUAL; they are grey if all are. Raises InfoAEError if there are none that can be
    read.
    """
    first = next(iter(expanded(inputs)))
    if container_kind(first) == "array":
        try:
            with unreadable():
                return arrays.image_of(first, column)
        except UnreadableImageError as error:
            raise InfoAEError(f"{key_of(first)} cannot be opened: {error}") from None
    if size is None or channels is None:
        found_size, found_channels = _look(
            _sample(open_sources(inputs, _ANY, column=column)), ", ".join(map(key_of, inputs))
        )
        size, channels = size or found_size, channels or found_channels
    return ImageSpec.model_validate({"channels": channels, "height": size, "width": size})


_ANY = ImageSpec(channels=3, height=USUAL, width=USUAL)  # only arrays need the real one


def _look(pictures: Iterator[Encoded], given: str) -> tuple[int, Literal[1, 3]]:
    sizes, differences, reason = set[tuple[int, int]](), [], "there are none"
    for picture in pictures:
        try:
            if isinstance(picture, UnreadableImageError):
                raise picture
            sizes.add(size_of(picture))
            colours = read_image(picture, 3, USUAL, USUAL).astype(np.float32)
        except UnreadableImageError as error:
            reason = str(error)
            continue
        differences.append(float((colours.max(0) - colours.min(0)).mean()))
    if not differences:
        raise InfoAEError(f"{given}: no picture can be read: {reason}")
    side = next(iter(sizes))[0]
    kept = sizes == {(side, side)} and SMALLEST <= side <= LARGEST
    return side if kept else USUAL, 1 if max(differences) < GREY else 3


def _sample(sources: Sequence[Source]) -> Iterator[Encoded]:
    """Pictures of the first source that has any: evenly spaced ones of files, the first ones of a container."""
    for source in sources:
        pictures = (picture for block in source.blocks(SAMPLE) for picture in block.images)
        if isinstance(source, Files):
            listed = list(pictures)
            count = min(SAMPLE, len(listed))
            pictures = (listed[row] for row in np.arange(count) * len(listed) // max(1, count))
        found = list(itertools.islice(pictures, SAMPLE))
        if found:
            return iter(found)
    return iter(())
