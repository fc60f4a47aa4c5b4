"""Which images a step sees: every image once an epoch, in an order that follows from the seed and the epoch alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.data.shards import MIXED_SHARDS
from infoae.seeds import Stream, generator


def batches(
    seed: int, epoch: int, num_images: int, batch_size: int, shard_sizes: Sequence[int] = ()
) -> list[NDArray[np.int64]]:
    """Return the image indices of each step of an epoch: every image once, batches equal to within one image.

    Images that lie in many shards are mixed among MIXED_SHARDS of them at a time, drawn anew each epoch.
    """
    random = generator(seed, Stream.ORDER, epoch)
    if len(shard_sizes) <= MIXED_SHARDS:
        order = torch.randperm(num_images, generator=random).numpy()
    else:
        shards = np.array_split(np.arange(num_images), np.cumsum(shard_sizes)[:-1])
        drawn = torch.randperm(len(shards), generator=random).split(MIXED_SHARDS)
        mixed = [np.concatenate([shards[shard] for shard in group.tolist()]) for group in drawn]
        order = np.concatenate([rows[torch.randperm(len(rows), generator=random).numpy()] for rows in mixed])
    return np.array_split(order, steps_an_epoch(num_images, batch_size))


def steps_an_epoch(num_images: int, batch_size: int) -> int:
    """Return into how many batches an epoch is split."""
    return -(-num_images // batch_size)


def smallest_batch(num_images: int, batch_size: int) -> int:
    """Return the size of the smallest batch of an epoch."""
    return num_images // steps_an_epoch(num_images, batch_size)
