"""The partners of the training images in the information loss: their nearest neighbours, kept in the run's folder.

Runs beside it with the same images and settings, as of a sweep or of several seeds, take them from there.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.config import Augment, Information
from infoae.distributed import collectives
from infoae.errors import InfoAEError, UsageError
from infoae.files import atomic_file
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.random_streams import Stream, generator
from infoae.runs.run import Run
from infoae.version import __version__

if TYPE_CHECKING:
    from infoae.data.shards import Shards

FILE = "neighbours.npz"

DAMAGED = (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile)

Partners = NDArray[np.int32]
"""Indices (N, P) of neighbours of each image, nearest first."""


def load(
    run: Run, images: NDArray[np.uint8] | Shards, information: Information, augment: Augment, device: torch.device
) -> Partners:
    """Return the partners of `images` (N, C, H, W): the main rank's, for all ranks.

    Raises UsageError if there are too few images, InfoAEError if what the run's folder keeps is damaged.
    """
    found = np.zeros((len(images), information.kept_neighbours()), np.int32)
    if collectives.is_main():
        find(run, images, information, augment)
        try:
            found = _read(run.path / FILE)["neighbours"].astype(np.int32).reshape(found.shape)
        except DAMAGED as error:
            raise InfoAEError(f"{run.path / FILE} is damaged ({error}): remove it, it is computed again") from None
    return collectives.from_main(torch.from_numpy(found), device).numpy()


def find(
    run: Run,
    images: NDArray[np.uint8] | Shards,
    information: Information,
    augment: Augment,
    advance: Callable[[int], object] = lambda _: None,
) -> None:
    """Put the partners of `images` (N, C, H, W) into the run's folder, unless they are there.

    `advance` is told of so many more images that are done. Raises UsageError if there are too few.
    """
    path = run.path / FILE
    if path.exists():
        return
    kept = information.kept_neighbours()
    if len(images) <= kept:
        raise UsageError(
            f"{kept} neighbours an image (the larger of information.neighbours and merging_neighbours) need more than "
            f"{len(images)} training images"
        )
    every = images[np.arange(len(images))]
    source = _source(every, information, augment)
    found = _of_another_run(run, source)
    if found is None:
        found = nearest_neighbours(every, information, augment, advance=advance)
    with atomic_file(path) as file, file.open("wb") as stream:
        np.savez(stream, neighbours=found, source=source)


def draw(partners: Partners, indices: NDArray[np.int64], seed: int, step: int) -> Partners:
    """Draw a partner (B,) of each image of a whole batch: the same on all ranks."""
    random = generator(seed, Stream.PARTNERS, step)
    choice = torch.randint(partners.shape[1], (len(indices),), generator=random).numpy()
    drawn: Partners = partners[indices, choice]
    return drawn


def _source(images: NDArray[np.uint8], information: Information, augment: Augment) -> str:
    """Return a digest of all that neighbours follow from: images (N, C, H, W), settings and version."""
    settings = information.model_dump(include={"blur", "distortion", "search"})
    made_of = (__version__, images.shape, information.kept_neighbours(), settings, augment.model_dump())
    digest = hashlib.blake2b(repr(made_of).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(images).data)
    return digest.hexdigest()


def _of_another_run(run: Run, source: str) -> Partners | None:
    for path in sorted(run.path.parent.glob(f"*/{FILE}")):
        try:
            kept = _read(path)
            if str(kept["source"]) == source:
                return kept["neighbours"].astype(np.int32)
        except DAMAGED:
            continue
    return None


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
        return {name: file[name] for name in ("neighbours", "source")}
