"""Outliers: scores against their formula, and strangers among pictures of a kind."""

from __future__ import annotations

import numpy as np
import pytest

from infoae.sorting import outliers


def test_statistics_are_of_the_grey_and_of_waves_by_their_periods() -> None:
    right = np.cos(2 * np.pi * 6 * np.arange(32) / 32)
    waves = (128 + 100 * np.broadcast_to(right, (32, 32))).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    found = outliers.statistics(np.stack([waves, noise]))
    assert found.shape == (2, 25)
    for row, picture in zip(found, (waves, noise), strict=True):
        assert row[:7] == pytest.approx(np.percentile(picture, [0, 5, 25, 50, 75, 95, 100]), abs=0.01)
        assert row[7:9] == pytest.approx([picture.mean(), np.log(1 + picture.std())], rel=1e-4)
    assert found[0, 9:].argmax() == 5  # six periods
    assert np.ptp(found[1, 9:]) < 3 < np.ptp(found[0, 9:])
    light = noise - noise.mean()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, 33) / 33)
    spectrum = np.abs(np.fft.fft2(light * np.outer(window, window))) ** 2
    period = np.minimum(np.arange(32), 32 - np.arange(32))
    ring = [spectrum[y, x] for y in range(32) for x in range(17) if round(np.hypot(period[y], x)) == 4]
    assert found[1, 12] == pytest.approx(np.log(1 + np.mean(ring)), rel=1e-4)


def test_a_score_is_that_of_two_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of so many pictures that what Ledoit and Wolf add to the covariance is little."""
    rng = np.random.default_rng(0)
    latents = rng.normal(size=(4000, 3)) @ rng.normal(size=(3, 3))
    latents[7] += 30
    values = rng.normal(size=(4000, 2))
    monkeypatch.setattr(outliers, "in_parts", lambda *_: values)
    found = outliers.scores(np.zeros((4000, 32, 32), np.uint8), latents)

    logarithms = np.zeros(4000)
    for vectors in (latents, values):
        centred = vectors - vectors.mean(axis=0)
        inverse = np.linalg.inv(centred.T @ centred / 4000)
        logarithms += np.log(np.einsum("ni,ij,nj->n", centred, inverse, centred)) / 2
    median = np.median(logarithms)
    expected = 0.6745 * (logarithms - median) / np.median(abs(logarithms - median))
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert found.argmax() == 7


def test_few_pictures_and_pictures_all_the_same_have_no_outliers() -> None:
    rng = np.random.default_rng(0)
    few = outliers.FEW - 1
    assert not outliers.scores(rng.integers(0, 256, (few, 32, 32), np.uint8), rng.normal(size=(few, 3))).any()
    assert not outliers.scores(np.full((200, 32, 32), 9, np.uint8), np.ones((200, 3))).any()
