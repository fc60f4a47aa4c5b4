from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from infoae import InfoAE
from infoae.config import Model
from infoae.data import ImageSet
from infoae.runs.run import Run


@pytest.fixture(scope="module")
def model(finished_run: Run) -> InfoAE:
    return InfoAE.load(finished_run.path)


def test_every_call_has_the_stated_shape_and_range(model: InfoAE, mnist: tuple[ImageSet, ImageSet]) -> None:
    images = mnist[1].images[:7]
    latents = model.encode(images)
    assert latents.shape == (7, 8)
    probabilities = model.classify(images)
    assert probabilities.shape == (7, 10)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(7))
    for drawn in (model.decode(latents), model.decode(latents.numpy()), model.generate(3, 7)):
        assert drawn.shape == (7, 1, 28, 28)
        assert drawn.min() >= 0
        assert drawn.max() <= 1
    line = model.interpolate(images[:2], images[2:4], steps=5)
    assert line.shape == (2, 5, 1, 28, 28)
    torch.testing.assert_close(line[:, 0], model.decode(model.encode(images[:2])), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(line[:, -1], model.decode(model.encode(images[2:4])), rtol=1e-4, atol=1e-5)


def test_arrays_and_tensors_of_every_kind_give_the_same_answer(model: InfoAE, mnist: tuple[ImageSet, ImageSet]) -> None:
    images = mnist[1].images[:5]
    expected = model.classify(images)
    same: list[Any] = [
        images[:, 0],
        torch.tensor(images),
        images / 255,
        (images / 255).astype(np.float32),
        torch.tensor(images) / 255,
    ]
    for given in same:
        torch.testing.assert_close(model.classify(given), expected, rtol=1e-5, atol=1e-6)


def test_any_number_of_images_gives_the_answer_each_has_alone(model: InfoAE, mnist: tuple[ImageSet, ImageSet]) -> None:
    images = np.concatenate([mnist[1].images] * 3)[:1203]
    answers = model.classify(images)
    assert answers.shape == (1203, 10)
    torch.testing.assert_close(
        answers[[0, 999, 1000, 1202]], model.classify(images[[0, 999, 1000, 1202]]), rtol=1e-4, atol=1e-6
    )
    assert model.classify(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 1, 32, 32), np.uint8), r"must be \(B, 1, 28, 28\), not \(2, 1, 32, 32\)"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"must be \(B, 1, 28, 28\)"),
        (np.zeros((28, 28), np.uint8), r"must be \(B, 1, 28, 28\)"),
        (np.full((1, 28, 28), 255.0), r"must lie in \[0, 1\]"),
        (np.full((1, 28, 28), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((1, 28, 28), np.int64), "must be uint8"),
    ],
)
def test_images_of_another_kind_are_refused(model: InfoAE, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.encode(images)


def test_latents_and_categories_out_of_range_are_refused(model: InfoAE) -> None:
    with pytest.raises(ValueError, match=r"\(B, 8\)"):
        model.decode(torch.zeros(2, 9))
    with pytest.raises(ValueError, match=r"0\.\.9, not 10"):
        model.generate(10, 1)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        model.generate(1, -1)


def test_generation_follows_its_seed(model: InfoAE) -> None:
    assert torch.equal(model.generate(1, 4, seed=5), model.generate(1, 4, seed=5))
    assert not torch.equal(model.generate(1, 4, seed=5), model.generate(1, 4, seed=6))


def test_noise_may_have_fewer_values_than_there_are_over_categories() -> None:
    config = Model(channels=1, image_size=8, width=4, latent_dim=6, noise_dim=3, num_over_categories=20)
    assert InfoAE(config).eval().generate(4, 7).shape == (7, 1, 8, 8)


def test_using_a_model_leaves_it_in_the_mode_it_was_in(model: InfoAE, mnist: tuple[ImageSet, ImageSet]) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.classify(mnist[1].images[:4])
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.eval()


def test_as_many_over_categories_as_categories_keep_the_numbers_that_the_vote_gave_them() -> None:
    config = Model(channels=1, image_size=8, width=4, num_categories=4, num_over_categories=4)
    model, loaded = InfoAE(config), InfoAE(config)
    model.merge(torch.tensor([2, 0, 3, 1]), torch.ones(4))
    loaded.load_state_dict(model.state_dict())
    assert loaded.category_of.tolist() == [2, 0, 3, 1]
    assert loaded.choose_over(torch.arange(4), torch.zeros(4)).tolist() == [1, 3, 0, 2]
