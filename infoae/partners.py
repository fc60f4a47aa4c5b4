"""The partners of the training images in the information loss: their nearest neighbours, kept in the run's folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from infoae import distributed
from infoae.config import Augment, Information
from infoae.errors import InfoAEError, UsageError
from infoae.files import atomic_file
from infoae.neighbours import nearest_neighbours
from infoae.run import Run
from infoae.seeds import Stream, generator

if TYPE_CHECKING:
    from infoae.data.shards import Shards

Partners = NDArray[np.int32]
"""Indices (N, count) of the neighbours of each image, nearest first."""


def load(
    run: Run, images: NDArray[np.uint8] | Shards, information: Information, augment: Augment, device: torch.device
) -> Partners:
    """Return the partners of `images` (N, C, H, W): the main rank's, for all ranks.

    Raises UsageError if there are too few images, InfoAEError if what the run's folder keeps is damaged.
    """
    if len(images) <= information.neighbours:
        raise UsageError(
            f"information.neighbours {information.neighbours} need more than {len(images)} training images"
        )
    found = np.zeros((len(images), information.neighbours), np.int32)
    if distributed.is_main():
        found = _kept(run, images, information, augment).reshape(found.shape)
    return distributed.from_main(torch.from_numpy(found), device).numpy()


def draw(partners: Partners, indices: NDArray[np.int64], seed: int, step: int) -> Partners:
    """Draw a partner (B,) of each image of a whole batch: the same on all ranks."""
    random = generator(seed, Stream.PARTNERS, step)
    choice = torch.randint(partners.shape[1], (len(indices),), generator=random).numpy()
    drawn: Partners = partners[indices, choice]
    return drawn


def nearest_of(
    images: NDArray[np.uint8] | Shards, known: NDArray[np.bool_], information: Information, augment: Augment
) -> Partners:
    """Return, for each of `images` (N, C, H, W) that is not `known` (N,), its nearest ones that are (U, count)."""
    return nearest_neighbours(
        images[np.arange(len(images))],
        information.neighbours,
        information.blur,
        augment,
        information.distortion,
        exact=information.search == "exact",
        among=known,
    )


def _kept(run: Run, images: NDArray[np.uint8] | Shards, information: Information, augment: Augment) -> Partners:
    path = run.path / "neighbours.npy"
    if not path.exists():
        every = images[np.arange(len(images))]
        found = nearest_neighbours(every, information.neighbours, information.blur, augment, information.distortion)
        with atomic_file(path) as file, file.open("wb") as stream:
            np.save(stream, found)
    try:
        return np.asarray(np.load(path, allow_pickle=False), np.int32).reshape(len(images), -1)
    except (ValueError, OSError, EOFError) as error:
        raise InfoAEError(f"{path} is damaged ({error}): remove it, it is computed again") from None
