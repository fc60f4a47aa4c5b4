"""Whom images are compared with, epoch by epoch: with neighbours found before training, or in what it has learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.category_model import CategoryModel
from infoae.config import Neighbours
from infoae.distributed import collectives
from infoae.model import InfoAE
from infoae.pseudolabels import pairs
from infoae.pseudolabels.neighbour_graph import nearest_by_features
from infoae.pseudolabels.pairs import Indices, Pairs
from infoae.runs.run import Run
from infoae.stages import Schedule

if TYPE_CHECKING:
    from infoae.data.shards import Shards

CHUNK = 10_000  # images that are read and encoded at once


class Partners:
    """The neighbours of one run's training images, where its configuration compares them.

    All ranks have one, and the same neighbours; the main one seeks and writes. `searches` counts how often they were
    sought in learned features; it follows from the epochs done, so that a resumed run has those of then.
    """

    def __init__(
        self,
        run: Run,
        schedule: Schedule,
        images: NDArray[np.uint8] | Shards,
        features: NDArray[np.float32] | None,
        device: torch.device,
    ) -> None:
        self._run, self._schedule, self._images, self._device = run, schedule, images, device
        self.pairs: Pairs | None = None
        """None where an image is compared with its twin, as before anything is learnt."""
        self.searches = 0
        if schedule.config.seeks_neighbours_first():
            self.pairs = pairs.load(run, images, schedule.config, device, features)

    def restore(self, epochs_done: int) -> None:
        """Take the neighbours that the run had after so many epochs. Raises InfoAEError if their file is damaged."""
        self._take(self._schedule.num_searches(epochs_done))

    def end_epoch(self, epochs_done: int, model: CategoryModel) -> None:
        """Seek neighbours in the features of `model` where it is time to."""
        searches = self._schedule.num_searches(epochs_done)
        if searches == self.searches:
            return
        if collectives.is_main():
            assert isinstance(model, InfoAE)
            pairs.save_learned(
                self._run, learned_neighbours(model, self._images, self._schedule.config.neighbours), searches
            )
        self._take(searches)

    def _take(self, searches: int) -> None:
        if not self._schedule.config.seeks_neighbours_first():
            self.searches, self.pairs = searches, None
            if searches:
                self.pairs = pairs.load_learned(
                    self._run, len(self._images), self._schedule.config.neighbours, searches, self._device
                )


def learned_neighbours(model: InfoAE, images: NDArray[np.uint8] | Shards, rule: Neighbours) -> Indices:
    """Return the nearest other images of each image: (N, C, H, W) -> indices (N, P), nearest first.

    Nearest by the angle between the encoder's features, from their mean; P is `rule.num_kept()`.
    """
    chunks = np.array_split(np.arange(len(images)), -(-len(images) // CHUNK))
    features = torch.cat([model.represent(images[chunk]) for chunk in chunks])
    return nearest_by_features(features.numpy(), rule)
