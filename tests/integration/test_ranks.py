"""Several ranks follow one: real processes over gloo, without Ray."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from infoae.config import Config, recipes
from infoae.config.methods import METHODS
from infoae.data import ImageSet
from infoae.runs.run import NEIGHBOURS, Run
from tests.helpers import ranks as script
from tests.helpers.inputs import write_shards
from tests.helpers.methods import tiny_config_of
from tests.helpers.ranks import FEATURES, OVER, SETTINGS, Start

MICRO = ("train.micro_batch_size=25",)  # two of a batch
REPRESENTED = (
    "objective.weights.contrastive=1",
    "model.projection_dim=8",
    "stages.representation_epochs=5",
    "train.epochs=7",
)
REFRESHED = (
    *OVER,
    "pseudo_labels.anchor_hops=1",
    "pseudo_labels.refresh_every=1",
    "stages.pseudo_label_epochs=1",
    "train.epochs=3",
)


def configured(*overrides: str) -> Config:
    return recipes.load("smoke", [*SETTINGS, *overrides])


@pytest.mark.parametrize(
    ("settings", "of_loss", "of_move"),
    [
        ((), 3e-3, 0.03),
        pytest.param(("train.adversarial_fraction=0.3",), 3e-3, 0.03, marks=pytest.mark.slow),
        ((*MICRO, "train.adversarial_fraction=0.5"), 3e-3, 0.03),
        (OVER, 3e-2, 0.25),
        pytest.param((*OVER, "stages.pseudo_label_epochs=1", "train.epochs=3"), 3e-2, 0.25, marks=pytest.mark.slow),
        pytest.param((*OVER, *MICRO, "model.critic_norm=spectral"), 3e-2, 0.25, marks=pytest.mark.slow),
        (REPRESENTED, 3e-2, 0.25),
        ((*OVER, *FEATURES), 3e-2, 0.25),
        pytest.param((*OVER, *FEATURES, *MICRO), 3e-2, 0.25, marks=pytest.mark.slow),
    ],
    ids=[
        "plain",
        "a subset is judged",
        "micro-batches",
        "over-categories",
        "pseudo-label epochs",
        "all in micro-batches",
        "representation",
        "features",
        "features in micro-batches",
    ],
)
def test_two_ranks_follow_one(start: Start, settings: tuple[str, ...], of_loss: float, of_move: float) -> None:
    """Over 20 steps of fp32 the losses agree to 3e-3 of their size, each weight tensor to 3 % of how far it moved.

    Adam divides a gradient by its size, so where a gradient is all but zero its rounding moves the weight. Steps of
    mutual information alone, from untrained weights, have such gradients: there a rounding grows some hundredfold in
    ten steps, and one process whose convolutions sum in another order is 1 % away after twenty. So the first six are
    strict.
    """
    run_config = configured(*settings)
    one, two = script.take_steps(run_config, Path()), start("steps", 2, run_config)

    first_gradients = one["gradients"][0]
    assert (two[0]["gradients"][0] - first_gradients).norm() < 1e-4 * first_gradients.norm()
    for index, (ours, theirs) in enumerate(zip(two[0]["losses"], one["losses"], strict=True)):
        tolerance = 1e-3 if index < 6 else of_loss
        accuracy = [step.pop("discriminator_accuracy", 0.0) for step in (ours, theirs)]
        judged = 100 * run_config.train.adversarial_fraction
        assert abs(accuracy[0] - accuracy[1]) <= 2 / judged  # an image that the critic is unsure of may change sides
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    for name in ("model", "average"):
        for key, expected in one[name].items():
            if key.endswith("num_batches_tracked"):  # counts forward passes, and decides nothing
                continue
            moved = (expected - one["initial"][key]).double().norm().item()
            difference = (two[0][name][key] - expected).double().norm().item()
            rounding = 1e-6 if key == "encoder.layers.2.running_mean" else 0
            assert difference <= of_move * moved + rounding, (name, key)

    for what in ("gradients", "buffers", "model"):  # the ranks themselves are equal to the last bit
        first, second = two[0][what], two[1][what]
        if what == "model":
            first, second = list(first.values()), list(second.values())
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), what

    if set(MICRO) <= set(settings):  # each side's gradients, with one the losses and running statistics
        assert max(two[0]["collectives"]) == 2

    images = [np.concatenate(rank["seen"]) for rank in two]
    assert sorted(np.concatenate(images).tolist()) == list(range(299))  # each image once an epoch, on one rank
    assert abs(len(images[0]) - len(images[1])) <= 6
    for step_one, *steps_two in zip(one["noise"], *(rank["noise"] for rank in two), strict=True):
        for whole, first, second in zip(step_one, *steps_two, strict=True):
            if whole is None:  # features have no augmented partner
                continue
            torch.testing.assert_close(torch.cat([first, second]), whole)
            assert not torch.equal(first[: len(second)], second[: len(first)])  # and no rank draws another's


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"infoae"}))  # which is tried in all its ways above
@pytest.mark.parametrize("micro_batch", [pytest.param("null", marks=pytest.mark.slow), "25"])
def test_two_ranks_follow_one_whatever_the_method(start: Start, method: str, micro_batch: str) -> None:
    config = tiny_config_of(method, "data.limit=299", f"train.micro_batch_size={micro_batch}")
    one, two = script.take_steps(config, Path(), 6), start("few steps", 2, config)
    script.assert_follows(two[0], one)
    for name, weight in two[0]["model"].items():
        assert torch.equal(weight, two[1]["model"][name]), name


def test_a_step_that_fails_on_one_rank_fails_on_all_before_any_update(start: Start) -> None:
    first, second = start("fail", 2, configured())
    assert first == second
    assert first.startswith("step 1: classification_generated = nan")


def test_ranks_of_different_precision_are_refused(start: Start) -> None:
    errors = start("precision", 2, configured())
    assert errors[0] == errors[1]
    assert "give --precision fp32" in errors[0]


def test_uneven_shares_count_by_their_samples(start: Start) -> None:
    """Of batches of three, one rank has a single image and the other two."""
    run_config = configured("train.batch_size=3", "data.limit=3")
    one, two = script.take_steps(run_config, Path(), 1), start("step", 2, run_config)
    assert [len(rank["seen"][0]) for rank in two] == [1, 2]
    assert two[0]["losses"][0] == pytest.approx(one["losses"][0], rel=1e-4, abs=1e-5)
    expected = one["gradients"][0]
    assert (two[0]["gradients"][0] - expected).norm() < 1e-3 * expected.norm()


def test_ranks_train_on_the_features_that_the_main_one_has_learnt(
    start: Start, tmp_path: Path, mnist: tuple[ImageSet, ImageSet]
) -> None:
    """One asks for a stop within the first stage, and all go on: they stay equal, and features as they were learnt."""
    write_shards(tmp_path / "shards", mnist[0].images[:299], 20, mnist[1])
    from_shards = ("data.name=shards", f"data.root={tmp_path / 'shards'}", "data.limit=null")
    learned = ("stages.representation_epochs=1", "neighbours.source=learned", "train.epochs=3")
    weights = ("objective.weights.contrastive=1", "objective.weights.classification_encoded=0")
    run_config = configured(*OVER, *from_shards, *learned, *weights, "model.projection_dim=8")
    first, second = start("run", 2, run_config)
    assert (first["finished"], first["steps"]) == ([False, True], [4, 4, 18])
    assert [name for name, value in first["model"].items() if not torch.equal(value, second["model"][name])] == []
    assert np.load(tmp_path / "run-2" / NEIGHBOURS)["neighbours"].shape == (299, 5)


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [((), 0.01), (OVER, 0.1), (REFRESHED, 0.3)],
    ids=["plain", "over-categories", "refreshed"],
)
def test_ranks_stop_together_and_resume_from_the_files_as_one_run(
    start: Start,
    tmp_path: Path,
    mnist: tuple[ImageSet, ImageSet],
    settings: tuple[str, ...],
    tolerance: float,
) -> None:
    """Steps of mutual information alone, from untrained weights, have gradients near rounding: the more of them, the
    more tolerance.
    """
    write_shards(tmp_path / "shards", mnist[0].images[:299], 20, mnist[1])
    from_shards = ("data.name=shards", f"data.root={tmp_path / 'shards'}", "data.limit=null")
    run_config = configured("model.critic_norm=spectral", *from_shards, *settings)
    (tmp_path / "alone").mkdir()
    one, ranks = script.complete_run(run_config, tmp_path / "alone"), start("run", 2, run_config)
    assert [result["finished"] for result in ranks] == [[False, True]] * 2
    steps = 6 * run_config.train.epochs
    assert [result["steps"] for result in ranks] == [[4, 4, steps]] * 2
    for key, expected in one["model"].items():
        difference = (ranks[0]["model"][key] - expected).double().norm()
        assert difference <= tolerance * expected.double().norm(), key
        assert torch.equal(ranks[0]["model"][key], ranks[1]["model"][key])
    lines = list(Run(tmp_path / "run-2").metrics())  # nothing is written twice
    assert [line["step"] for line in lines if "images_per_second" in line] == list(range(1, steps + 1))
    assert [line["step"] for line in lines if "evaluation/mutual_information" in line] == list(range(6, steps + 1, 6))
    if settings:
        folders = tmp_path / "alone", tmp_path / "run-2"
        neighbours = [np.load(folder / NEIGHBOURS)["neighbours"] for folder in folders]
        assert (neighbours[0] == neighbours[1]).all()
        assert not torch.equal(one["model"]["category_of"], torch.arange(20) % 10)  # merged, and equal above
