"""Joint distributions of answers, against sums over images one at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from infoae.config import Config
from infoae.data import ImageSet
from infoae.model import InfoAE
from infoae.pseudolabels import joint


@pytest.fixture
def model(tiny_config: Config) -> InfoAE:
    torch.manual_seed(0)
    settings = {"num_over_categories": 20, "num_heads": 2}
    return InfoAE(tiny_config.model.model_copy(update=settings))


def test_the_joint_distribution_is_the_mean_of_products_of_two_answers() -> None:
    answers, others = torch.rand(2, 7, 2, 3, generator=torch.Generator().manual_seed(0)).softmax(-1)
    found = joint.of_answers(answers, others)
    assert found.shape == (2, 3, 3)
    for head in range(2):
        expected = np.zeros((3, 3))
        for one, other in zip(answers[:, head].numpy(), others[:, head].numpy(), strict=True):
            expected += (np.outer(one, other) + np.outer(other, one)) / 14
        np.testing.assert_allclose(found[head], expected, rtol=1e-6)


def test_the_joint_distribution_of_pairs_is_symmetric_and_sums_to_one(
    model: InfoAE, mnist: tuple[ImageSet, ImageSet]
) -> None:
    answers = model.classify_heads(mnist[1].images[:50])
    found = joint.of_partners(model, answers, mnist[1].images[50:100])
    assert found.shape == (2, 20, 20)
    for each in found:
        np.testing.assert_allclose(each, each.T)
        assert each.sum() == pytest.approx(1)


def test_partners_are_augmented_in_the_same_way_for_the_same_seed(
    model: InfoAE, mnist: tuple[ImageSet, ImageSet]
) -> None:
    seen: list[Tensor] = []

    def classify(images: Tensor) -> Tensor:
        seen.append(images)
        return images.mean((2, 3))

    images = mnist[1].images[:20]
    answers = [joint.classify_augmented(model, images, seed, classify) for seed in (0, 0, 1)]
    assert answers[0].shape == (20, 1)
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])
    for augmented in seen:
        assert 0 <= augmented.min() < augmented.max() <= 1
        assert not torch.equal(augmented, model.to_input(images))
