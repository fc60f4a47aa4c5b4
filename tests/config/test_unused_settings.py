"""Settings that change nothing are named, and those of the recipes all change something."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from infoae.cli.app import app
from infoae.config import recipes
from infoae.config.unused_settings import _USES, unused
from infoae.model import InfoAE
from infoae.step import Step
from tests.helpers.models import last_stage


def _keys(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield prefix + key


@pytest.mark.parametrize("recipe", recipes.available())
def test_every_setting_of_a_recipe_changes_something(recipe: str) -> None:
    tree = yaml.safe_load(recipes.available()[recipe].read_text(encoding="utf-8"))
    of_larger_batches = {"optim.reference_batch", "train.micro_batch_size"}  # than the recipe's own
    assert list(unused(recipes.load(recipe), set(_keys(tree)) - of_larger_batches)) == []


def test_what_is_known_to_be_idle_at_times_are_settings() -> None:
    valid = set(_keys(recipes.load("mnist").model_dump(mode="json")))
    sections = {key.partition(".")[0] + "." for key in valid}
    assert {key for use in _USES for key in use.keys} <= valid | sections


@pytest.mark.parametrize(
    ("recipe", "settings", "idle_setting", "named"),
    [
        ("mnist-paper", [], "neighbours.blur=2", "objective.weights.mutual_information"),
        (
            "mnist",
            ["objective.pairs=twins", "pseudo_labels.anchor_hops=0"],
            "neighbours.blur=2",
            "objective.pairs",
        ),
        (
            "mnist",
            ["pseudo_labels.anchor_hops=0"],
            "pseudo_labels.propagation_agreement=0.9",
            "pseudo_labels.anchor_hops",
        ),
        ("mnist", [], "optim.reference_batch=64", "optim.learning_rate_scaling"),
        ("mnist", [], "train.micro_batch_size=400", "train.batch_size of several micro-batches"),
        ("mnist", [], "data.root=/tmp", "data.name"),
        ("mnist", [], "model.encoder_blocks=2", "model.encoder residual"),
        ("mnist-paper", [], "augment.degrees=0", "objective.weights.mutual_information"),
    ],
)
def test_a_setting_that_changes_nothing_is_named_with_what_it_needs(
    recipe: str, settings: list[str], idle_setting: str, named: str
) -> None:
    (sentence,) = unused(recipes.load(recipe, [*settings, idle_setting]), [idle_setting])
    assert named in sentence
    options = [part for setting in (*settings, idle_setting) for part in ("--set", setting)]
    result = CliRunner().invoke(app, ["config", "validate", recipe, *options])
    assert result.exit_code == 0
    assert f"warning: {sentence}" in result.stderr


@pytest.mark.parametrize("setting", ["augment.degrees=90", "model.num_heads=3", "optim.reference_batch=7"])
def test_what_is_said_to_change_nothing_changes_no_step(setting: str) -> None:
    images = torch.randint(256, (6, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    small = ["model.image_size=8", "model.channels=1", "model.width=4", "model.hidden_dim=8"]
    losses = []
    for settings in ([], [setting]):
        config = recipes.load("mnist-paper", [*small, *settings])
        torch.manual_seed(0)
        step = Step(InfoAE(config.model), config, torch.device("cpu"), torch.float32)
        losses.append([step(images, index, last_stage(config)).metrics() for index in range(3)])
    assert list(unused(config, [setting]))
    assert losses[0] == losses[1]
