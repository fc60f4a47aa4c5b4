"""What is trained, scored and tested on: images, with the features of a frozen encoder where one was given."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infoae import data
from infoae.config import Config, Data
from infoae.data import ImageSet, ShardSet
from infoae.data.shards import FEATURES, read_features
from infoae.errors import UsageError
from infoae.features.encoder import FrozenEncoder, GivenFeatures, opened
from infoae.inputs.cache import ready
from infoae.inputs.feature_store import features_of
from infoae.runs import images
from infoae.runs.run import Run


def load_training(config: Config, source: Data | None = None) -> ImageSet | ShardSet:
    """Return the images to train on; `source` is `ready(config)` if that is known. Raises InfoAEError."""
    source = ready(config) if source is None else source
    return with_features(config, source, data.load_training(source))


def load_both(config: Config) -> tuple[ImageSet | ShardSet, ImageSet]:
    """Return the images to train on, and those to test on. Raises InfoAEError."""
    source = ready(config)
    train, test = data.load_training(source), data.load(source, "test")
    return with_features(config, source, train, len(test)), tests_with_features(config, source, test)


def load_tests(run: Run, data_root: Path | None = None) -> ImageSet:
    """Return the images that a run is tested on; `data_root` is where they lie if they have moved. InfoAEError."""
    config = run.config()
    source = ready(config, data_root)
    return tests_with_features(config, source, images.of_tests(run, source))


def with_features(
    config: Config, source: Data, train: ImageSet | ShardSet, num_tests: int | None = None
) -> ImageSet | ShardSet:
    """Return training images with their features. Raises InfoAEError."""
    if config.features.encoder is None:
        return train
    held_out, count = train.held_out, len(train)
    every = count + (0 if held_out is None else len(held_out))
    rows = _prepared(source, "train", every)
    encoder = opened(config.features)
    if rows is None and isinstance(encoder, GivenFeatures):
        rows = _given(encoder, source, every, len(data.load(source, "test")) if num_tests is None else num_tests)[0]
    if rows is not None:
        return replace(train, features=rows[:count], held_out_features=None if held_out is None else rows[count:every])
    assert isinstance(encoder, FrozenEncoder)
    return replace(
        train,
        features=features_of(train.images, encoder, source.described()),
        held_out_features=None if held_out is None else features_of(held_out, encoder, source.described()),
    )


def tests_with_features(config: Config, source: Data, test: ImageSet) -> ImageSet:
    """Return test images with their features. Raises InfoAEError."""
    if config.features.encoder is None:
        return test
    rows, encoder = _prepared(source, "test", len(test)), opened(config.features)
    if rows is None and isinstance(encoder, FrozenEncoder):
        rows = features_of(test.images, encoder, source.described())
    elif rows is None and isinstance(encoder, GivenFeatures):
        rows = _given(encoder, source, 0, len(test))[1]
    return replace(test, features=rows)


def _prepared(source: Data, split: data.Split, count: int) -> NDArray[np.float32] | None:
    """Return the features that lie beside shards, where infoae has prepared both."""
    path = None if source.root is None else source.root / FEATURES[split]
    return None if path is None or source.name != "shards" or not path.exists() else read_features(path, count)


def _given(
    encoder: GivenFeatures, source: Data, num_train: int, num_tests: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the rows of training and of test images, which come after them. Raises UsageError for another number."""
    count, needed = len(encoder.rows), num_train + num_tests
    if count < needed or (num_train and source.limit is None and count != needed):
        of = f"{num_train:,} images to train on and then {num_tests:,} to test on"
        raise UsageError(f"{encoder.name} has {count:,} rows: {source.described()} needs one for each of {of}")
    return encoder.rows[:num_train], encoder.rows[count - num_tests :]
