"""Settings of trainings that end in a second, and the small data that they train on."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from infoae import data
from infoae.config import Data
from infoae.data import ImageSet
from tests.helpers.inputs import write_shards

SMALL_MNIST = "INFOAE_TESTS_SMALL_MNIST"


def small_mnist() -> Path:
    """Return a folder of the first 300 training and 500 test images of MNIST, for all processes of these tests.

    Ten thousand test images would take ten times as long to evaluate as such a training takes.
    """
    if SMALL_MNIST not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="infoae-tests-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        train, test = (data.load(Data(), split) for split in ("train", "test"))
        assert test.labels is not None
        write_shards(folder, train.images[:300], 1, ImageSet(test.images[:500], test.labels[:500]))
        os.environ[SMALL_MNIST] = str(folder)
    return Path(os.environ[SMALL_MNIST])


# Without the data, for trainings on other images
SMALL = (
    "model.width=4",
    "model.hidden_dim=16",
    "model.latent_dim=8",
    "train.batch_size=50",
    "train.epochs=2",
    "train.log_every=1",
    "train.precision=fp32",
    "train.device=cpu",
    "train.processes=1",  # by default as many as CPUs are free, and with them the order of sums changes
)
TINY = ("data.name=shards", f"data.root={small_mnist()}", "data.limit=300", *SMALL)

WITH_HEADS = (
    *TINY,
    "model.channels=1",
    "model.image_size=28",
    "model.num_over_categories=20",
    "model.num_heads=3",
    "stages.mutual_information_epochs=1",
    "objective.weights.pseudo_label=1",
)
