"""The Fréchet distance against closed forms and scipy, and what its features make of real images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from infoae import data
from infoae.config import Data
from infoae.evaluation import frechet


def rows_with(mean: np.ndarray, covariance: np.ndarray, count: int) -> np.ndarray:
    """Rows of exactly this mean and covariance."""
    values = np.random.default_rng(0).normal(size=(count, len(mean)))
    values -= values.mean(0)
    values = values @ np.linalg.inv(np.linalg.cholesky(np.cov(values, rowvar=False))).T
    return np.asarray(values @ np.linalg.cholesky(covariance).T + mean)


def test_the_distance_of_independent_normals_is_that_of_means_and_deviations() -> None:
    """For diagonal covariances, |m - n|^2 + sum (sqrt s - sqrt t)^2."""
    m, n = np.array([1.0, 2.0, 0.0]), np.array([0.0, 2.0, -1.0])
    s, t = np.array([1.0, 4.0, 0.25]), np.array([9.0, 1.0, 0.25])
    found = frechet.distance(rows_with(m, np.diag(s), 50), rows_with(n, np.diag(t), 80))
    assert found == pytest.approx(((m - n) ** 2).sum() + ((np.sqrt(s) - np.sqrt(t)) ** 2).sum(), rel=1e-9)


@settings(max_examples=30)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_the_distance_is_that_of_scipys_matrix_root(dimensions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    first, second = (
        random.normal(size=(40, dimensions)) @ random.normal(size=(dimensions, dimensions)) for _ in range(2)
    )
    s, t = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    apart = first.mean(0) - second.mean(0)
    expected = apart @ apart + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet.distance(first, second) == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert frechet.distance(first, first) == pytest.approx(0, abs=1e-9 * np.trace(s))


def test_one_row_has_no_distance() -> None:
    assert np.isnan(frechet.distance(np.zeros((1, 3)), np.zeros((9, 3))))


def test_real_digits_are_near_each_other_and_far_from_blurred_ones_and_noise() -> None:
    train, test = data.load(Data(limit=2000), "train"), data.load(Data(), "test")
    real = torch.tensor(test.images[:2000]).float() / 255
    from_real = frechet.features(real)
    others = {
        "real": torch.tensor(train.images).float() / 255,
        "blurred": torch.nn.functional.avg_pool2d(real, 5, 1, 2),
        "noise": torch.rand(real.shape, generator=torch.Generator().manual_seed(0)),
    }
    distances = {name: frechet.distance(frechet.features(images), from_real) for name, images in others.items()}
    assert 3 * distances["real"] < distances["blurred"] < distances["noise"]


def test_the_features_tell_digits_apart() -> None:
    test = data.load(Data(), "test")
    assert test.labels is not None
    with torch.inference_mode():
        answers = frechet._network()(torch.tensor(test.images[:2000]).float() / 255).argmax(1).numpy()
    assert (answers == test.labels[:2000]).mean() > 0.97


def test_colour_and_other_sizes_have_features() -> None:
    assert frechet.features(torch.rand(3, 3, 32, 40)).shape == (3, frechet.FEATURES)
