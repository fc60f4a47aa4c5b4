"""Whom images are compared with, epoch by epoch: with neighbours found before training, or in what it has learnt."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.category_model import CategoryModel
from infoae.data.datasets import Features
from infoae.distributed import collectives
from infoae.model import InfoAE
from infoae.pseudolabels import pairs, search_on_disk
from infoae.pseudolabels.neighbour_graph import nearest_by_features
from infoae.pseudolabels.pairs import Pairs
from infoae.pseudolabels.search_on_disk import nearest_by_features_on_disk
from infoae.runs.run import NEIGHBOUR_SEARCH, Run
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
        """(N, F), those that the encoder has learnt, from when on they stay as they are."""
        self.searches = 0
        if schedule.config.seeks_neighbours_first():
            self.pairs = pairs.load(run, images, schedule.config, device, given)

    def restore(self, epochs_done: int, model: CategoryModel) -> None:
        """Take what the run had after so many epochs. Raises InfoAEError if the file of neighbours is damaged."""
        self._take(self._schedule.num_searches(epochs_done))
        self.features = self._represented(model) if self._schedule.stage(epochs_done).on_learned_features else None

    def end_epoch(self, epochs_done: int, model: CategoryModel) -> None:
        """Seek neighbours in the features of `model` where it is time to, and keep them once they are learnt."""
        searches = self._schedule.num_searches(epochs_done)
        if searches == self.searches:
            return
        features = self._represented(model)
        if collectives.is_main():
            pairs.save_learned(self._run, self._nearest(features), searches)
        self._take(searches)
        self.features = features if self._schedule.stage(epochs_done).on_learned_features else None

    def _take(self, searches: int) -> None:
        if not self._schedule.config.seeks_neighbours_first():
            self.searches, self.pairs = searches, None
            if searches:
                self.pairs = pairs.load_learned(
                    self._run, len(self._images), self._schedule.config.neighbours, searches, self._device
                )

    def _represented(self, model: CategoryModel) -> Features:
        """Return the features (N, F) of all images, as they are, by the encoder of the main rank's `model`."""
        assert isinstance(model, InfoAE)
        shape = (len(self._images), model.encoder.num_features)
        alone = collectives.size() == 1
        if alone and self._on_disk(shape):
            with tempfile.TemporaryFile(dir=self._run.path) as file:  # which is there as long as it is mapped
                features: Features = np.memmap(file, np.float32, "w+", shape=shape)
        else:
            features = np.zeros(shape, np.float32)
        if collectives.is_main():
            for rows in np.array_split(np.arange(len(features)), -(-len(features) // CHUNK)):
                features[rows] = model.represent(self._images[rows]).numpy()
        return features if alone else collectives.from_main(torch.from_numpy(features), self._device).numpy()

    def _nearest(self, features: Features) -> NDArray[np.int32]:
        """Return the nearest other images (N, P) by features (N, F)."""
        rule, folder = self._schedule.config.neighbours, self._run.path / NEIGHBOUR_SEARCH
        if not self._on_disk(features.shape):
            return nearest_by_features(half_whitened(features), rule)
        # What a search that was killed has left may be of features that were rounded otherwise.
        shutil.rmtree(folder, ignore_errors=True)
        found = np.array(nearest_by_features_on_disk(folder, features, rule, whitened=True))
        shutil.rmtree(folder)
        return found

    def _on_disk(self, shape: tuple[int, ...]) -> bool:
        rule = self._schedule.config.neighbours
        return search_on_disk.is_needed(shape[0], search_on_disk.bytes_of_features(shape, rule), rule)


def half_whitened(features: Features) -> Features:
    """Return features (N, F) along their principal axes, each over the root of its deviation.

    A few directions hold most of what the contrastive loss leaves; so all count for more in the angle.
    """
    centred = features - features.mean(0)
    variances, axes = np.linalg.eigh((centred.T @ centred).astype(np.float64) / len(centred))
    found: Features = (centred @ axes.astype(np.float32)) / np.maximum(variances, 1e-12).astype(np.float32) ** 0.25
    return found
