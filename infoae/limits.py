"""Every limit: the largest sizes that an input may state, or a person ask for, compared before memory is taken.

An environment variable of its name, with INFOAE_ before it, sets each, as INFOAE_MAX_PIXELS=200000000. Importing this
module raises UsageError where one of them is no number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from infoae.errors import UsageError


class Limit(int):
    """A number that says in a message which variable raises it: `f"more than {limit}"`."""

    variable: str
    default: int
    of: str
    """What it is the largest number of."""

    def __str__(self) -> str:
        return f"{int(self):,} ({self.variable} raises it)"


def _limit(name: str, default: int, of: str) -> Limit:
    variable = f"INFOAE_{name}"
    given = os.environ.get(variable, str(default))
    if not (given.isascii() and given.isdecimal() and 0 < len(given) < 19 and int(given)):
        raise UsageError(f"{variable}={given[:50]!r}: give a whole number from 1")
    limit = Limit(given)
    limit.variable, limit.default, limit.of = variable, default, of
    return limit


# Of inputs.
MAX_PIXELS = _limit("MAX_PIXELS", 64_000_000, "pixels of an image (64 million are 256 MB as RGBA)")
MAX_BYTES = _limit("MAX_BYTES", 512 * 1024**2, "bytes of an encoded image: a file, a member of an archive, a row")
MAX_SAMPLES = _limit(
    "MAX_SAMPLES", 64_000_000, "samples of a sound, of each channel (64 million are 22 minutes at 48 kHz)"
)
MAX_EXPANSION = _limit("MAX_EXPANSION", 2000, "times as large a compressed container may become, beyond 1 GiB")
MAX_ROWS_PER_BYTE = _limit("MAX_ROWS_PER_BYTE", 100, "rows of a Parquet file for each of its bytes")
MAX_PAGE_BYTES = _limit(
    "MAX_PAGE_BYTES", 1024**3, "bytes that a page of a Parquet file becomes; four times as many to read it"
)
MAX_DIRECTORY_BYTES = _limit(
    "MAX_DIRECTORY_BYTES",
    1024**3,
    "bytes of a zip or `.npz` file's table of contents: ten million members, in 6 GB",
)
MAX_HEADER_BYTES = _limit("MAX_HEADER_BYTES", 1024**2, "bytes of the header of a `.npy` array or a tar member")
MAX_NAME_BYTES = _limit("MAX_NAME_BYTES", 64 * 1024, "bytes of a name in a list on standard input")
MAX_YAML_CHARACTERS = _limit("MAX_YAML_CHARACTERS", 1_000_000, "characters of a YAML file")
MAX_YAML_LEVELS = _limit("MAX_YAML_LEVELS", 20, "lists and mappings of a YAML file in each other")
MAX_CLASSES = _limit("MAX_CLASSES", 100_000, "classes that labels number")

# Of settings.
MAX_IMAGE_SIZE = _limit("MAX_IMAGE_SIZE", 4096, "pixels of an image's side: `model.image_size`, `convert --size`")
MAX_CATEGORIES = _limit("MAX_CATEGORIES", 10_000, "categories, and over-categories")
MAX_UNITS = _limit("MAX_UNITS", 65_536, "units of a layer: `model.width`, `model.latent_dim` and the like")
MAX_BLOCKS = _limit("MAX_BLOCKS", 100, "residual blocks: `model.pixelcnn_blocks`, `model.encoder_blocks`")
MAX_HEADS = _limit("MAX_HEADS", 1000, "classifiers on one encoder: `model.num_heads`")
MAX_BATCH = _limit("MAX_BATCH", 2**20, "images of a step: `train.batch_size`, `--global-batch`")
MAX_STEPS = _limit("MAX_STEPS", 100_000, "steps that an epoch has at least: `train.min_steps_per_epoch`")
MAX_NEIGHBOURS = _limit("MAX_NEIGHBOURS", 1000, "nearest neighbours: `neighbours.count`")
MAX_DISTORTION = _limit("MAX_DISTORTION", 16, "pixels that `neighbours.distortion` compares each way")
MAX_HOPS = _limit("MAX_HOPS", 1000, "hops between neighbours: `pseudo_labels.anchor_hops`")
MAX_RUNS = _limit("MAX_RUNS", 10_000, "runs of `--restarts`, trials of `tune`, seeds of `reproduce`")
MAX_POINTS = _limit("MAX_POINTS", 1000, "values of a range in a grid of `tune`")
MAX_THREADS = _limit("MAX_THREADS", 1024, "threads, or workers, of a machine")
MAX_AT_ONCE = _limit("MAX_AT_ONCE", 65_536, "images computed at once: `classify --batch-size`")
MAX_IMAGES = _limit("MAX_IMAGES", 10_000_000, "images that one `generate` or `augment` makes")
MAX_GALLERY = _limit("MAX_GALLERY", 100_000, "pictures that one `gallery` shows")
MAX_CACHE_BYTES = _limit(
    "MAX_CACHE_BYTES", 50 * 1024**3, "bytes of prepared pictures and of copied shards that are kept: `infoae cache`"
)
MAX_NPZ_BYTES = _limit("MAX_NPZ_BYTES", 4_000_000_000, "bytes of the pixels that these write into an `.npz` file")

# Of time.
MAX_SILENCE = _limit(
    "MAX_SILENCE", 80, "seconds that a worker of a cluster says nothing, or all wait for each other: `train --nodes`"
)

FREE_EXPANSION = 1024**3
"""Bytes that a compressed container may become in any case."""
COUNT, SEED = 2**31 - 1, 2**63 - 1
"""What a counter and a seed can hold: no limits, for counting takes no memory."""


def all_limits() -> Iterator[Limit]:
    """Yield every limit, in the order of this module."""
    return (each for each in globals().values() if isinstance(each, Limit))


def given() -> dict[str, str]:
    """Return the variables of limits that are set, for processes on other machines."""
    return {each.variable: str(int(each)) for each in all_limits() if each.variable in os.environ}


def expands_too_far(size: int, compressed: int) -> bool:
    """Whether so many bytes, from so many `compressed` ones, are beyond MAX_EXPANSION."""
    return size > FREE_EXPANSION and size > MAX_EXPANSION * compressed
