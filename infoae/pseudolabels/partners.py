"""Whom images are compared with, epoch by epoch: with neighbours found before training, or in what it has learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.category_model import CategoryModel
from infoae.data.datasets import Features
from infoae.distributed import collectives
from infoae.model import InfoAE
from infoae.pseudolabels import pairs
from infoae.pseudolabels.neighbour_graph import nearest_by_features
from infoae.pseudolabels.pairs import Pairs
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
        given: Features | None,
        device: torch.device,
    ) -> None:
        self._run, self._schedule, self._images, self._device = run, schedule, images, device
        self.pairs: Pairs | None = None
        """None where an image is compared with its twin, as before anything is learnt."""
        self.features: Features | None = None
        """(N, F), those that the encoder has learnt, while they stay as they are."""
        self.searches = 0
        if schedule.config.seeks_neighbours_first():
            self.pairs = pairs.load(run, images, schedule.config, device, given)

    def restore(self, epochs_done: int, model: CategoryModel) -> None:
        """Take what the run had after so many epochs. Raises InfoAEError if the file of neighbours is damaged."""
        self._take(self._schedule.num_searches(epochs_done))
        self._keep(epochs_done, model)

    def end_epoch(self, epochs_done: int, model: CategoryModel) -> None:
        """Seek neighbours in the features of `model` where it is time to."""
        searches = self._schedule.num_searches(epochs_done)
        if searches > self.searches:
            if collectives.is_main():
                features = half_whitened(self._represented(model))
                found = nearest_by_features(features, self._schedule.config.neighbours)
                pairs.save_learned(self._run, found, searches)
            self._take(searches)
        self._keep(epochs_done, model)

    def _take(self, searches: int) -> None:
        if not self._schedule.config.seeks_neighbours_first():
            self.searches, self.pairs = searches, None
            if searches:
                self.pairs = pairs.load_learned(
                    self._run, len(self._images), self._schedule.config.neighbours, searches, self._device
                )

    def _keep(self, epochs_done: int, model: CategoryModel) -> None:
        """Have the features of `model` on all ranks as long as training is on them: they are the same in each epoch."""
        if not self._schedule.stage(epochs_done).on_learned_features:
            self.features = None
        elif self.features is None:
            features = self._represented(model) if collectives.is_main() else self._empty(model)
            self.features = collectives.from_main(torch.from_numpy(features), self._device).numpy()

    def _represented(self, model: CategoryModel) -> Features:
        """Return the features (N, F) that the encoder has learnt of all images, as they are."""
        assert isinstance(model, InfoAE)
        chunks = np.array_split(np.arange(len(self._images)), -(-len(self._images) // CHUNK))
        features: Features = torch.cat([model.represent(self._images[chunk]) for chunk in chunks]).numpy()
        return features

    def _empty(self, model: CategoryModel) -> Features:
        assert isinstance(model, InfoAE)
        return np.zeros((len(self._images), model.encoder.num_features), np.float32)


def half_whitened(features: Features) -> Features:
    """Return features (N, F) along their principal axes, each over the root of its deviation.

    A few directions hold most of what the contrastive loss leaves; so all count for more in the angle.
    """
    centred = features - features.mean(0)
    variances, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(centred))
    found: Features = (centred @ axes.astype(np.float32)) / np.maximum(variances, 1e-12).astype(np.float32) ** 0.25
    return found
