"""Which images a step sees: every image equally often an epoch, in an order that follows from seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.config import Train
from infoae.data.shards import MIXED_SHARDS
from infoae.errors import UsageError
from infoae.random_streams import Stream, generator


def batches(
    seed: int, epoch: int, num_images: int, batch_size: int, shard_sizes: Sequence[int] = (), min_steps: int = 1
) -> list[NDArray[np.int64]]:
    """Return the image indices of each step of an epoch: every image once, batches equal to within one image.

    Where that would be fewer than `min_steps`, it is done again, in another order, until there are as many. Images
    that lie in many shards are mixed among MIXED_SHARDS of them at a time, drawn anew each time.
    """
    passes = _passes(num_images, batch_size, min_steps)
    numbers = range(epoch * passes, (epoch + 1) * passes)
    return [rows for number in numbers for rows in _pass(seed, number, num_images, batch_size, shard_sizes)]


def steps_an_epoch(num_images: int, batch_size: int, min_steps: int = 1) -> int:
    """Return into how many batches an epoch is split."""
    return _passes(num_images, batch_size, min_steps) * _steps_a_pass(num_images, batch_size)


def check_shares(num_images: int, config: Train, workers: int) -> None:
    """Raise UsageError if some worker would have no image of a batch, or none of those that are judged."""
    smallest = num_images // _steps_a_pass(num_images, config.batch_size)
    least = workers if config.adversarial_fraction == 1 else math.ceil(2 * workers / config.adversarial_fraction)
    if smallest < least:
        raise UsageError(
            f"a batch of {smallest} images is too small for {workers} workers, which need {least} with "
            f"train.adversarial_fraction {config.adversarial_fraction:g}: give a larger --global-batch, or "
            "fewer workers"
        )


def _passes(num_images: int, batch_size: int, min_steps: int) -> int:
    return -(-min_steps // _steps_a_pass(num_images, batch_size))


def _steps_a_pass(num_images: int, batch_size: int) -> int:
    return -(-num_images // batch_size)


def _pass(
    seed: int, number: int, num_images: int, batch_size: int, shard_sizes: Sequence[int]
) -> list[NDArray[np.int64]]:
    random = generator(seed, Stream.ORDER, number)
    if len(shard_sizes) <= MIXED_SHARDS:
        order = torch.randperm(num_images, generator=random).numpy()
    else:
        shards = np.array_split(np.arange(num_images), np.cumsum(shard_sizes)[:-1])
        drawn = torch.randperm(len(shards), generator=random).split(MIXED_SHARDS)
        mixed = [np.concatenate([shards[shard] for shard in group.tolist()]) for group in drawn]
        order = np.concatenate([rows[torch.randperm(len(rows), generator=random).numpy()] for rows in mixed])
    return np.array_split(order, _steps_a_pass(num_images, batch_size))
