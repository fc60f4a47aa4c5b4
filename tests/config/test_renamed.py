"""Keys of version 0.1: each sets what it is called now, and says so."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from infoae.config import Config, recipes, renamed
from infoae.errors import Notice, UsageError
from infoae.tune import space

VALUES: dict[str, Any] = {
    "information.pairs": "neighbours",
    "information.search": "approximate",
    "information.merging": "distinctness",
    "information.agreement": 0.65,
    "information.agreement_walks": 0.65,
    "information.blur": 0.5,
    "information.epochs": 2,
    "information.consensus_epochs": 1,
    "objective.weights.information": 0.5,
    "objective.weights.consensus": 0.5,
    "train.game_part": 0.5,
}


def value_of(config: Config, key: str) -> Any:
    found: Any = config
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("old", renamed.RENAMED)
def test_an_old_key_sets_the_new_one_in_a_file_and_in_a_command(old: str) -> None:
    new, value = renamed.RENAMED[old], VALUES.get(old, 7)
    recipe = "smoke" if old == "information.pairs" else "mnist"  # which compares neighbours by itself
    assert value_of(recipes.load(recipe), new) != value
    section, _, name = old.rpartition(".")
    tree: dict[str, Any] = yaml.safe_load(recipes.available()[recipe].read_text(encoding="utf-8"))
    inside = tree
    for part in new.split(".")[:-1]:
        inside = inside.setdefault(part, {})
    inside.pop(new.rpartition(".")[2], None)
    inside = tree
    for part in section.split("."):
        inside = inside.setdefault(part, {})
    inside[name] = value
    with pytest.warns(Notice, match=f"{old} is now {new}"):
        assert value_of(recipes.parse(yaml.safe_dump(tree), "file"), new) == value
    with pytest.warns(Notice, match=f"{old} is now {new}"):
        assert value_of(recipes.load(recipe, [f"{old}={value}"]), new) == value
    assert value_of(recipes.replaced(recipes.load(recipe), {old: value}, "test"), new) == value


def test_the_old_name_of_a_value_is_known_under_the_old_key_alone() -> None:
    for then, now in (("information", "mutual_information"), ("cut", "distinctness")):
        with pytest.warns(Notice):
            assert recipes.load("mnist", [f"information.merging={then}"]).pseudo_labels.merging == now
    with pytest.raises(UsageError, match=r"pseudo_labels\.merging"):
        recipes.load("mnist", ["pseudo_labels.merging=information"])


def test_where_both_names_are_given_the_current_one_counts() -> None:
    tree = {"train": {"game_part": 0.5, "adversarial_fraction": 0.75}, "information": {"epochs": 3}}
    before = copy.deepcopy(tree)
    assert renamed.rename(tree) == ["information.epochs", "train.game_part"]
    assert tree == {"train": {"adversarial_fraction": 0.75}, "stages": {"mutual_information_epochs": 3}} != before


@pytest.mark.parametrize(
    "tree", [{"information": 3}, {"train": [1]}, {"information": {"typo": 1}}, {"objective": None}]
)
def test_what_is_no_old_section_stays_for_validation_to_name(tree: dict[str, Any]) -> None:
    before = copy.deepcopy(tree)
    assert renamed.rename(tree) == []
    assert tree == before
    with pytest.raises(UsageError):
        recipes.parse(yaml.safe_dump(tree), "file")


def test_a_key_that_never_was_in_a_section_of_then_gets_the_name_of_today() -> None:
    with pytest.raises(UsageError, match=r"unknown key information\.epoch \(given 3\); did you mean stages\.mutual"):
        recipes.load("mnist", ["information.epoch=3"])


def test_a_search_space_may_name_old_keys() -> None:
    text = "part: {keys: [train.game_part], low: 0.2, high: 0.9}"
    found = space.parse(text, "file", recipes.load("smoke"))
    assert found["part"].keys == ["train.adversarial_fraction"]


def test_the_page_of_renamed_keys_has_all_of_them() -> None:
    from tests.helpers.paths import ROOT

    page = (ROOT / "docs" / "config-keys.md").read_text(encoding="utf-8")
    for old, new in renamed.RENAMED.items():
        assert any(f"`{old}`" in line and f"`{new}`" in line for line in page.splitlines()), old
