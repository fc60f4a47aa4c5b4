"""Over-categories and their merging, in the model and in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from infoae import config
from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.distributed.collectives import share
from infoae.errors import UsageError
from infoae.evaluation import evaluate
from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.step import Step
from infoae.trainer import Trainer
from tests.helpers.models import last_stage
from tests.helpers.settings import TINY


def with_over(tiny_config: Config, **settings: Any) -> Config:
    """`settings` are keys with __ for each dot."""
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    return recipes.replaced(tiny_config, {"model.num_over_categories": 20} | dotted, "test")


@pytest.fixture
def model(tiny_config: Config) -> InfoAE:
    torch.manual_seed(0)
    return InfoAE(with_over(tiny_config).model)


def test_categories_add_up_their_over_categories(model: InfoAE, mnist: tuple[ImageSet, ImageSet]) -> None:
    category_of = torch.arange(20) // 2
    model.merge(category_of, torch.ones(20))
    images = mnist[1].images[:9]
    over = model.classify_over(images)
    assert over.shape == (9, 20)
    torch.testing.assert_close(model.classify(images), over.reshape(9, 10, 2).sum(2))


@given(seed=st.integers(0, 1000))
def test_a_category_draws_its_over_categories_by_their_share(seed: int) -> None:
    random = np.random.default_rng(seed)
    net = InfoAE(config.Model(channels=1, image_size=8, width=2, num_categories=3, num_over_categories=7))
    category_of = np.concatenate([np.arange(3), random.integers(0, 3, 4)])
    frequency = random.random(7) + 0.05
    net.merge(torch.from_numpy(category_of), torch.from_numpy(frequency))
    u = torch.linspace(-1, 1, 3001)
    for category in range(3):
        chosen = net.choose_over(torch.full((3001,), category), u).numpy()
        assert set(category_of[chosen]) == {category}
        members = category_of == category
        expected = np.where(members, frequency, 0) / frequency[members].sum()
        np.testing.assert_allclose(np.bincount(chosen, minlength=7) / 3001, expected, atol=0.002)


def test_without_over_categories_a_category_is_its_own(tiny_config: Config) -> None:
    plain = InfoAE(tiny_config.model)
    assert plain.num_over_categories == 10
    categories = torch.arange(10)
    assert torch.equal(plain.choose_over(categories, torch.rand(10) * 2 - 1), categories)


def test_fewer_over_categories_than_categories_are_refused() -> None:
    with pytest.raises(UsageError, match="num_over_categories 5 is below 10 categories"):
        recipes.load("smoke", ["model.num_over_categories=5"])


@pytest.mark.parametrize(
    "generator", [set(), {"generator"}], ids=["mutual information", "mutual information and latents"]
)
def test_first_epochs_neither_draw_nor_judge_images(generator: set[str], make_trainer: Callable[..., Trainer]) -> None:
    weight, expected = float(bool(generator)), {"encoder", "classifier"} | generator
    overrides = ["model.channels=1", "model.image_size=28", f"objective.weights.latent_matching={weight}"]
    overrides += ["objective.pairs=neighbours", "stages.mutual_information_epochs=1", "neighbours.count=3"]
    trainer = make_trainer(recipes.load("smoke", [*TINY, *overrides]))
    run_networks = set[str]()

    def note(name: str, module: nn.Module, *_: object) -> None:
        if module.training:
            run_networks.add(name)

    for name, network in trainer.step.model.named_children():
        network.register_forward_hook(partial(note, name))
    before = {name: p.detach().clone() for name, p in trainer.step.model.named_parameters()}
    trainer.fit([], should_stop=lambda: trainer.done == 6)
    changed = {
        name.partition(".")[0] for name, p in trainer.step.model.named_parameters() if not torch.equal(p, before[name])
    }
    assert changed == run_networks | {"classifier"} == expected  # the heads are computed at once, not by their modules
    trainer.fit([])
    changed = {
        name.partition(".")[0] for name, p in trainer.step.model.named_parameters() if not torch.equal(p, before[name])
    }
    assert changed == {"encoder", "classifier", "decoder", "generator", "discriminator", "self_critic"}


@pytest.mark.slow
def test_only_epochs_that_trained_everything_are_scored(
    make_trainer: Callable[..., Trainer], tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However good the answers were before the decoder was trained, the best checkpoint is one that has it."""
    trainer = make_trainer(with_over(tiny_config, stages__mutual_information_epochs=2, train__epochs=4))
    measured, seen = evaluate.label_free, list[int]()

    def falling(*arguments: Any, **options: Any) -> evaluate.LabelFree:
        seen.append(trainer.done)
        return dataclasses.replace(measured(*arguments, **options), mutual_information=-float(len(seen)))

    monkeypatch.setattr(evaluate, "label_free", falling)
    trainer.fit([], should_stop=lambda: trainer.done == 12)
    saved = trainer.run.checkpoint("best")
    assert (saved.name, checkpoint.read(saved).score) == ("step-00000012", None)
    trainer.fit([])
    assert checkpoint.read(trainer.run.checkpoint("best")).step == 18
    lines = [line for line in trainer.run.metrics() if "evaluation/mutual_information" in line]
    assert ["evaluation/recovered" in line for line in lines] == [False, False, True, True]
    assert ["evaluation/diversity_latent" in line for line in lines] == [False, False, True, True]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "stages.mutual_information_epochs=2",
            "stages.mutual_information_epochs 2 and pseudo_label_epochs 0 leave none of 2 train.epochs",
        ),
        (
            "stages.pseudo_label_epochs=1",
            "stages.pseudo_label_epochs train on objective.weights.pseudo_label, which is 0",
        ),
        ("objective.weights.mutual_information=0", "objective.weights.mutual_information alone, which is 0"),
    ],
)
def test_stages_that_make_no_sense_are_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.load("smoke", ["stages.mutual_information_epochs=1", override])


@pytest.mark.parametrize("stop_after", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (6, 8))])
def test_a_run_with_neighbours_resumes_bit_equal(
    stop_after: int, make_trainer: Callable[..., Trainer], tiny_config: Config
) -> None:
    run_config = with_over(
        tiny_config, objective__pairs="neighbours", stages__mutual_information_epochs=1, neighbours__count=3
    )
    unbroken = make_trainer(run_config, "unbroken")
    unbroken.fit([])
    stopped = make_trainer(run_config, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(run_config, "stopped")
    resumed.resume()
    resumed.fit([])
    for trained in ("model", "average"):
        models = [t.step.model if trained == "model" else t.step.evaluated_model() for t in (unbroken, resumed)]
        expected, result = (m.state_dict() for m in models)
        assert [name for name in expected if not torch.equal(expected[name], result[name])] == []


@pytest.mark.slow
def test_merging_is_kept_in_the_checkpoint_and_in_both_models(
    make_trainer: Callable[..., Trainer], tiny_config: Config
) -> None:
    trainer = make_trainer(with_over(tiny_config))
    trainer.fit([])
    loaded = InfoAE.of_run(Run.open(trainer.run.path), "newest")
    merged = trainer.step.evaluated_model()
    assert torch.equal(loaded.category_of, merged.category_of)
    assert torch.equal(loaded.category_of, trainer.step.model.category_of)
    assert sorted(loaded.category_of.unique().tolist()) == list(range(10))
    assert not torch.equal(loaded.category_of, torch.arange(20) % 10)


def test_runs_without_over_categories_hold_nothing_of_them(tiny_config: Config) -> None:
    assert not [name for name in InfoAE(tiny_config.model).state_dict() if "category" in name or "chosen" in name]


def test_training_asks_for_over_categories_as_generating_does(model: InfoAE, tiny_config: Config) -> None:
    """Categories alike, an over-category by its share: one that no image has is not asked for."""
    category_of, frequency = torch.arange(20) // 2, torch.tensor([3.0, 1.0]).repeat(10)
    frequency[5] = 0
    model.merge(category_of, frequency)
    run_config = with_over(tiny_config)
    step = Step(model, run_config, torch.device("cpu"), torch.float32)
    images = torch.zeros(20_000, 1, 28, 28, dtype=torch.uint8)
    batch = step.draw(images, 0, last_stage(run_config), share(20_000))
    assert torch.equal(batch.c, model.choose_over(category_of[batch.c], batch.u[:, 0]))
    expected = torch.tensor([0.075, 0.025]).repeat(10)
    expected[4:6] = torch.tensor([0.1, 0])
    torch.testing.assert_close(torch.bincount(batch.c, minlength=20) / 20_000, expected, atol=0.006, rtol=0)


def test_categories_are_asked_for_as_often_as_the_prior_says(tiny_config: Config) -> None:
    proportions = [5.0, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    model = InfoAE(tiny_config.model.model_copy(update={"prior": proportions}))
    drawn = model.draw_categories(30_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=10) / 30_000
    torch.testing.assert_close(shares, torch.tensor(proportions) / 15, rtol=0, atol=0.01)
    assert "prior" not in model.state_dict()


def test_an_estimated_prior_follows_the_merge_and_is_kept(tiny_config: Config) -> None:
    settings = {"num_categories": 3, "num_over_categories": 6, "prior": "estimated"}
    model = InfoAE(tiny_config.model.model_copy(update=settings))
    assert torch.bincount(model.draw_categories(3000, torch.Generator()), minlength=3).min() > 900
    model.merge(torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([30.0, 20, 10, 25, 5, 10]))
    torch.testing.assert_close(model.prior, torch.tensor([0.6, 0.3, 0.1]))
    drawn = model.draw_categories(30_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(drawn) / 30_000, model.prior, rtol=0, atol=0.01)
    again = InfoAE(tiny_config.model.model_copy(update=settings))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.prior, model.prior)


def test_an_estimated_prior_of_a_number_that_was_found_is_kept(tiny_config: Config) -> None:
    settings = {"num_categories": "auto", "num_over_categories": 6, "prior": "estimated"}
    model = InfoAE(tiny_config.model.model_copy(update=settings))
    model.merge(torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([30.0, 20, 10, 25, 5, 10]))
    again = InfoAE(tiny_config.model.model_copy(update=settings))
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.prior, torch.tensor([0.6, 0.3, 0.1]))


@pytest.mark.slow
def test_training_with_an_estimated_prior_goes_on_bit_equal(
    make_trainer: Callable[..., Trainer], tiny_config: Config
) -> None:
    unbalanced = recipes.replaced(with_over(tiny_config), {"model.prior": "estimated"}, "test")
    whole = make_trainer(unbalanced, "whole")
    whole.fit([])
    assert whole.step.model.prior.std() > 0.01
    stopped = make_trainer(unbalanced, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == 8)
    resumed = make_trainer(unbalanced, "stopped")
    resumed.resume()
    resumed.fit([])
    expected, found = (trainer.step.model.state_dict() for trainer in (whole, resumed))
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.prior=estimated", "prior estimated needs num_over_categories"),
        ("model.prior=[3, 2, 1]", "prior has 3 proportions for num_categories 10"),
        ("model.prior=[1, 2, 1, 1, 1, 1, 1, 1, 1, 1]", "from the commonest category to the rarest"),
        ("model.prior=[1, 1, 1, 1, 1, 1, 1, 1, 1, 0]", "greater than 0"),
    ],
)
def test_a_prior_that_fits_nothing_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        recipes.load("smoke", [override])
