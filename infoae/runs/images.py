"""The images of a run: those it was begun with, so that it goes on with no others, and those it is tested on."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from infoae import data
from infoae.config import Data
from infoae.data import ImageSet
from infoae.data.shards import Shards
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import write_json
from infoae.runs.run import IMAGES, Run

WHOLE_BYTES = 2**30
"""Of more images than this the fingerprint is of so much of them, evenly spaced: a second, not hours, of reading."""
AT_ONCE = 4096  # images


class Identity(BaseModel):
    """Which images a run is trained on: the content of images.json."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int
    shape: tuple[int, int, int]
    """(C, H, W)."""
    fingerprint: str
    shards: dict[str, str] | None = None
    """Of images in an object store, the version of each shard, of which the fingerprint is then."""


def identify(images: NDArray[np.uint8] | Shards) -> Identity:
    """Return the identity of training images (N, C, H, W).

    Those of an object store are known by what it says of its files, so that they need not all be copied first.
    """
    count, channels, height, width = images.shape
    if isinstance(images, Shards) and (shards := images.versions):
        found = hashlib.blake2b(json.dumps(shards).encode(), digest_size=16).hexdigest()
        return Identity(count=count, shape=(channels, height, width), fingerprint=found, shards=shards)
    kept = max(1, min(count, WHOLE_BYTES // (channels * height * width)))
    rows = np.arange(kept) * count // kept
    digest = hashlib.blake2b(digest_size=16)
    for start in range(0, kept, AT_ONCE):
        digest.update(np.ascontiguousarray(images[rows[start : start + AT_ONCE]]).data)
    return Identity(count=count, shape=(channels, height, width), fingerprint=digest.hexdigest())


def keep(run: Run, found: Identity, source: Data) -> None:
    """See that the images `found` in `source` are those that the run was begun with; one that does not know keeps them.

    Raises InfoAEError that says what differs.
    """
    path = run.path / IMAGES
    if not path.exists():  # a new run, or one of version 0.1
        write_json(path, found.model_dump(mode="json", exclude_none=True))
        return
    try:
        known = Identity.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise InfoAEError(
            f"{path} is damaged ({one_line(error)}): remove it to go on with the images there are"
        ) from None
    if known.shards and found.shards and known.shards != found.shards:
        names = sorted(known.shards.keys() | found.shards.keys())
        name = next(name for name in names if known.shards.get(name) != found.shards.get(name))
        what = "is new" if name not in known.shards else "has changed" if name in found.shards else "is gone"
        raise InfoAEError(
            f"shard train/{name} of {source.place} {what} since run {run.name} began: put back what was there, or "
            "train a new run"
        )
    if known != found:
        raise InfoAEError(
            f"run {run.name} was begun with {_describe(known)}, and data {source.described()} has "
            f"{_describe(found)}: say with --data-root where the same images lie, or train a new run"
        )


def refuse_changed(run: Run, images: NDArray[np.uint8] | Shards, source: Data) -> None:
    """Raise InfoAEError if images of an object store are others than the run was begun with."""
    if isinstance(images, Shards) and images.versions:
        keep(run, identify(images), source)


def of_tests(run: Run, source: Data) -> ImageSet:
    """Return the test images of `source`, for a run. Raises InfoAEError if they are not there, or of another shape."""
    config = run.config()
    found = data.load(source, "test")
    size = config.model.image_size
    if None not in (config.model.channels, size) and found.images.shape[1:] != (config.model.channels, size, size):
        raise UsageError(
            f"run {run.name} is of images {(config.model.channels, size, size)}, the test images of {config.data.name} "
            f"are {found.images.shape[1:]}: say with --data-root where the right ones lie"
        )
    return found


def _describe(images: Identity) -> str:
    return f"{images.count} images {images.shape} of fingerprint {images.fingerprint[:8]}"
