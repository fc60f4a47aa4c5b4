"""Categories beside what needs no training, against clusterings that are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import mutual_info_score

from infoae.augment import augmented
from infoae.config import Augment
from infoae.data import ImageSet
from infoae.evaluation import evaluate, health, trivial
from infoae.evaluation.trivial import Clustering, Trivial
from infoae.random_streams import Stream, generator
from tests.helpers.models import lively

Images = NDArray[np.uint8]

KINDS = 5
DIGITS = Trivial(Clustering(0.51, 0.61), Clustering(0.09, 0.88), predicted_by_pixels=0.89, predicted_by_thumbnail=0.63)
"""What MNIST's classes themselves come to."""


def kind_of(count: int) -> NDArray[np.int64]:
    return np.random.default_rng(7).integers(0, KINDS, count)


def noisy(values: NDArray[np.float64], deviation: float) -> Images:
    return (values + np.random.default_rng(1).normal(0, deviation, values.shape)).clip(0, 255).astype(np.uint8)


def layouts(count: int = 600) -> Images:
    """Colour images (count, 3, 16, 16), each in one of five layouts of light and dark."""
    each = np.random.default_rng(0).uniform(20, 235, (KINDS, 3, 2, 2)).repeat(8, 2).repeat(8, 3)
    return noisy(each[kind_of(count)], 8)


def textures(count: int = 600) -> Images:
    """Grey images (count, 1, 32, 32), each in one of five arrangements of pixels within every 8 x 8 of them."""
    random = np.random.default_rng(0)
    each = np.stack([random.permutation(np.repeat([40.0, 200.0], 32)).reshape(8, 8) for _ in range(KINDS)])
    return noisy(np.tile(each, (1, 4, 4))[kind_of(count), None], 30)


def test_categories_that_are_k_means_on_pixels_are_warned_of() -> None:
    images = layouts()
    categories = KMeans(KINDS, n_init=10, random_state=5).fit_predict(images.reshape(len(images), -1) / 255)
    found = trivial.compared(images, categories, KINDS, seed=3)
    assert found.pixels.agreement > 0.8  # one start of k-means may miss a kind
    assert found.predicted_by_pixels == found.predicted_by_thumbnail == pytest.approx(1)
    (warning,) = health.of_trivial(replace(found, colour=DIGITS.colour), None)
    assert warning.startswith(
        f"the categories are little else than k-means on pixels (agreement {found.pixels.agreement:.2f}, at most 1)"
    )


def test_the_same_k_means_agrees_wholly_and_from_another_seed_not_by_its_numbers() -> None:
    x = torch.tensor(layouts()) / 255
    points = trivial.principal_components(x, 0)(x)
    same, again = (trivial.k_means(points, points[:9], KINDS, seed=0) for _ in range(2))
    assert np.array_equal(same[0], again[0])
    assert np.array_equal(same[0][:9], same[1])
    assert trivial.compared(layouts(), same[0], KINDS).pixels.agreement == pytest.approx(1)
    assert trivial.agreement(same[0], (same[0] + 2) % KINDS) == pytest.approx(1)


def test_categories_of_mean_colour_agree_with_k_means_on_it() -> None:
    colours = np.array([[220, 60, 60], [60, 220, 60], [60, 60, 220], [60.0, 60, 60]])[kind_of(600) % 4]
    images = noisy(np.tile(colours[:, :, None, None], (1, 1, 16, 16)), 30)
    found = trivial.compared(images, kind_of(600) % 4, 4)
    assert found.colour.agreement == pytest.approx(1)
    values = trivial.colour(torch.tensor(images) / 255)
    assert values.shape == (600, 4)
    assert values[0] == pytest.approx([*(images[0] / 255).mean((1, 2)), (images[0] / 255).mean(0).std()], abs=1e-5)


def test_textures_are_not_told_by_thumbnails_and_layouts_are() -> None:
    for images, told in ((layouts(), 1.0), (textures(), 0.0)):
        found = trivial.compared(images, kind_of(600), KINDS)
        assert found.predicted_by_pixels == pytest.approx(1)
        assert found.predicted_by_thumbnail == pytest.approx(told, abs=0.05)


@pytest.mark.parametrize("num_categories", [KINDS, trivial.FEW + 1])
def test_random_categories_agree_with_nothing_and_are_not_warned_of(num_categories: int) -> None:
    categories = np.random.default_rng(2).integers(0, num_categories, 600)
    found = trivial.compared(layouts(), categories, num_categories)
    values = (found.pixels.agreement, found.colour.agreement, found.predicted_by_pixels, found.predicted_by_thumbnail)
    assert values == pytest.approx((0, 0, 0, 0), abs=0.04)
    assert list(health.of_trivial(found, None)) == []


def test_information_of_k_means_is_that_between_images_and_their_twins() -> None:
    images = layouts()
    x = torch.tensor(images) / 255
    twins = augmented(x, Augment(), generator(4, Stream.EVALUATION)).clamp(0, 1)
    points, moved = (trivial.colour(each) for each in (x, twins))
    clusters = KMeans(KINDS, n_init=1, random_state=4).fit(points)
    first, second = clusters.labels_, clusters.predict(moved)
    expected = mutual_info_score(np.concatenate([first, second]), np.concatenate([second, first]))  # made symmetric
    assert trivial.compared(images, kind_of(600), KINDS, seed=4).colour.mutual_information == pytest.approx(expected)
    assert 0.1 < expected < np.log(KINDS)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_images_all_alike_are_compared_too(count: int) -> None:
    images = np.full((count, 3, 48, 48), 90, np.uint8)
    found = trivial.compared(images, np.arange(count) % 4, 4)
    assert (found.pixels.agreement, found.colour.agreement, found.predicted_by_pixels) == (0, 0, 0)
    collapsed = trivial.compared(layouts(), np.zeros(600, np.int64), 4)
    assert (collapsed.pixels.agreement, collapsed.predicted_by_thumbnail) == (0, 0)


@pytest.mark.parametrize(
    ("found", "score", "message"),
    [
        (replace(DIGITS, colour=Clustering(0.7, 0.9)), 2.2, "k-means on mean colour and brightness (agreement 0.70"),
        (replace(DIGITS, predicted_by_thumbnail=0.88), 2.2, "4 x 4 pixels predict them as well as all pixels do (0.88"),
        (DIGITS, 0.95, "no more than k-means on mean colour and brightness (0.95 nats against 0.88)"),
    ],
)
def test_what_looks_wrong_is_said(found: Trivial, score: float, message: str) -> None:
    (warning,) = health.of_trivial(found, score)
    assert message in warning


def test_good_categories_and_weak_ones_are_not_called_trivial() -> None:
    assert list(health.of_trivial(DIGITS, 2.17)) == []
    assert list(health.of_trivial(DIGITS, None)) == []
    photographs = Trivial(Clustering(0.08, 0.75), Clustering(0.07, 0.81), 0.14, 0.14)  # the classes of CIFAR-10
    assert list(health.of_trivial(photographs, 1.9)) == []


def test_an_evaluation_has_it_in_json_and_warns_where_images_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (120, 1, 28, 28), np.uint8)
    model, data = lively(), ImageSet(images, None)
    found = evaluate.evaluate(model, data)
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))["trivial"]
    assert set(content) == {"pixels", "colour", "predicted_by_pixels", "predicted_by_thumbnail"}
    assert set(content["pixels"]) == set(content["colour"]) == {"agreement", "mutual_information"}
    assert content["pixels"]["agreement"] == found.trivial.pixels.agreement == pytest.approx(0, abs=0.1)
    said = "no more than k-means"
    assert not any(said in warning for warning in found.warnings)
    monkeypatch.setattr(evaluate, "ENOUGH_IMAGES", 100)
    assert not any(said in warning for warning in evaluate.evaluate(model, data).warnings)  # of 100 pairs
    monkeypatch.setattr(evaluate, "IMAGES_PER_PAIR", 1)
    assert any(said in warning for warning in evaluate.evaluate(model, data).warnings)
    monkeypatch.setattr(model, "method", "catgan", raising=False)  # which nothing trains to know an image's twin
    assert not any(said in warning for warning in evaluate.evaluate(model, data).warnings)
