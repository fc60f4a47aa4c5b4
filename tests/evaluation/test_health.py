from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from infoae.config import Config
from infoae.config.methods import METHODS, methods_of
from infoae.evaluation import health
from infoae.pseudolabels import merging
from infoae.reporting.training import TrainingProgress
from infoae.trainer import Moment
from tests.helpers.synthetic import kinds

GOOD = {
    "balance": 0.99,
    "least_told_apart": 0.95,
    "most_divided": 0.4,
    "heads_agreeing": 1.0,
    "pseudo_labelled": 0.97,
    "categories_unused": 0.0,
    "recovered": 0.99,
    "diversity_pixels": 0.7,
    "discriminator_accuracy": 0.85,
    "loss/encoder_adversarial": 2.0,
}


def test_categories_that_are_the_things_are_not_suspicious() -> None:
    joint = kinds(10, 3, 0.9)
    assert list(health.of_categories(joint, np.arange(30) // 3)) == []
    assert list(health.of_categories(np.eye(10) / 10, np.arange(10))) == []  # nothing merged, nothing to split


def test_two_things_in_one_category_and_one_thing_in_two_are_noticed() -> None:
    joint = kinds(10, 3, 0.9)
    too_few = merging.merge(joint, 9)[0]
    (warning,) = health.of_categories(joint, too_few)
    assert "may hold two things, 50% of it the second" in warning
    split = np.arange(30) // 3
    split[0] = 10
    (warning,) = health.of_categories(joint, split)
    assert warning.startswith("categories 0 and 10 may be one thing")
    assert "more pairs" not in warning
    (warning,) = health.of_categories(np.ones((6, 6)) / 36, np.arange(6))
    assert "and so may 14 more pairs" in warning


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("balance", 0.7, "far larger than others"),
        ("categories_unused", 3.0, "hardly an image is given: 3"),
        ("least_told_apart", 0.5, "two categories may be one thing"),
        ("most_divided", 0.9, "a category may hold two things"),
        ("heads_agreeing", 0.3, "a category is shared by 30% of them"),
        ("pseudo_labelled", 0.4, "40% of the images were given one"),
        ("recovered", 0.5, "only 50% of generated images come back"),
        ("diversity_pixels", 0.1, "much alike"),
        ("discriminator_accuracy", 0.999, "lower optim.critic_learning_rate"),
        ("discriminator_accuracy", 0.5, "at chance"),
        ("loss/encoder_adversarial", 9.0, "believes none"),
    ],
)
def test_each_measure_out_of_bounds_is_said_with_what_to_try(name: str, value: float, message: str) -> None:
    assert list(health.of_measures(GOOD, "infoae")) == list(health.of_measures({}, "infoae")) == []
    (warning,) = health.of_measures(GOOD | {name: value}, "infoae")
    assert message in warning


BAD = [
    {"balance": 0.5},
    {"categories_unused": 3.0},
    {"least_told_apart": 0.1},
    {"most_divided": 1.0},
    {"heads_agreeing": 0.1},
    {"recovered": 0.1},
    {"diversity_pixels": 0.1},
    {"discriminator_accuracy": 1.0},
    {"discriminator_accuracy": 0.5},
    {"loss/encoder_adversarial": 9.0},
]


def keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else (prefix + key,)


def proposed(warning: str) -> list[str]:
    """The settings that a warning names, all of them real."""
    found = re.findall(r"[a-z_]+(?:\.[a-z_]+)+", warning)
    assert set(found) <= set(keys(Config().model_dump()))
    return found


@pytest.mark.parametrize("method", METHODS)
def test_only_settings_of_the_method_are_proposed(method: str) -> None:
    for measures in BAD:
        (warning,) = health.of_measures(measures, method)
        assert [key for key in proposed(warning) if method not in methods_of(key)] == [], warning
        assert not warning.endswith((": ", "; ")), warning


def test_each_method_is_told_of_its_own_weights() -> None:
    told = {method: set(proposed(" ".join(health.of_measures(BAD[1] | BAD[5], method)))) for method in METHODS}
    weights = "objective.weights"
    assert told == {
        "infoae": {
            f"{weights}.mutual_information",
            "stages.mutual_information_epochs",
            f"{weights}.latent_matching",
        },
        "infogan": {f"{weights}.category_information"},
        "aae": {f"{weights}.category_adversarial"},
        "catgan": set(),
        "pixelgan-ae": {f"{weights}.category_adversarial"},
    }


def test_what_is_proposed_about_a_number_of_categories_is_of_the_method_that_finds_it() -> None:
    kept = {1: 0.0, 2: 0.7, 3: 1.09, 4: 1.1}
    (warning, *_) = health.of_number(kept)
    assert proposed(warning) == ["model.num_over_categories"]
    assert methods_of("model.num_over_categories") == ("infoae",)


def test_training_of_another_method_warns_with_its_settings(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress("aae") as progress:
        for epoch in range(1, 5):
            moment = Moment(epoch, 4, epoch, 4, 0, 100.0)
            progress.stepped(moment)
            progress.logged(moment, {"discriminator_accuracy": 1.0})
            progress.evaluated(moment, {"evaluation/mutual_information": 2.0}, torch.zeros(1, 1, 8, 8))
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warning.endswith("so little is learnt from it: lower optim.critic_learning_rate")


def test_a_side_that_keeps_winning_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    samples = torch.zeros(1, 1, 8, 8)
    with TrainingProgress() as progress:
        for epoch, right in enumerate([1.0, 1.0, 0.9, 1.0, 1.0, 1.0, 1.0, 1.0], start=1):
            moment = Moment(epoch, 8, epoch, 8, 0, 100.0)
            progress.stepped(moment)
            progress.logged(moment, {"discriminator_accuracy": right, "loss/encoder_adversarial": 1.0})
            progress.evaluated(moment, {"evaluation/mutual_information": 2.0}, samples)
    lines = [line for line in capsys.readouterr().err.splitlines() if "done" in line or "warning" in line]
    said = [number for number, line in enumerate(lines) if line.startswith("warning: the discriminator tells 100%")]
    assert said == [7]  # after the seventh epoch, the fourth in a row


def test_what_stays_wrong_is_said_after_four_epochs_and_a_bad_vote_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    samples = torch.zeros(1, 1, 8, 8)
    with TrainingProgress() as progress:
        for epoch in range(1, 7):
            measures = {"mutual_information": 1.0, "balance": 0.5, "categories_unused": 3}
            measures |= {"heads_agreeing": 0.2, "pseudo_labelled": 0.9} if epoch == 2 else {}
            metrics = {f"evaluation/{name}": float(value) for name, value in measures.items()}
            progress.evaluated(Moment(epoch, 6, epoch, 6, 0, 100.0), metrics, samples)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "epoch 1/6 done: mutual information 1, balance 0.500, categories unused 3"
    epochs = [sum("done" in line for line in lines[:number]) for number, line in enumerate(lines) if "warning" in line]
    assert epochs == [2, 4]
    assert "shared by 20% of them" in next(line for line in lines if "warning" in line)
