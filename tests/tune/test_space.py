"""Search spaces: what is refused before anything trains, and which values come out."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import recipes
from infoae.config.methods import METHODS, methods_of
from infoae.errors import UsageError
from infoae.tune import space
from tests.helpers.methods import RECIPES

BASE = recipes.load("mnist")
RATE = "optim.learning_rate"


@pytest.mark.parametrize("recipe", recipes.available())
def test_the_default_space_is_of_the_method_and_holds_its_recipes(recipe: str) -> None:
    base = recipes.load(recipe)
    found = space.load(space.default(base), base)
    current = space.current(base, found)
    assert current is not None
    if base.method == "infoae":
        weights = base.objective.weights
        assert current == {
            "alpha": weights.reconstruction,
            "beta": weights.classification_generated,
            "gamma": weights.encoder_adversarial,
        }


def test_every_space_is_the_default_of_a_method_or_of_infoae() -> None:
    others = set(METHODS) - {"infoae"}
    assert set(space.spaces()) == {"lambdas", "lambdas-features", "neighbours", "paper"} | others


def test_a_sweep_on_features_varies_what_features_allow() -> None:
    base = recipes.load("photos-features")
    found = space.load(space.default(base), base)
    assert {key for dimension in found.values() for key in dimension.keys} == {
        "objective.weights.reconstruction",
        "objective.weights.classification_generated",
        "objective.weights.encoder_adversarial",
    }
    with pytest.raises(UsageError, match="classification_encoded needs a gradient"):
        space.load("lambdas", base)


@pytest.mark.parametrize("method", METHODS)
def test_a_space_of_another_method_is_refused_with_key_and_methods(method: str) -> None:
    base = recipes.load(RECIPES[method])
    for name in METHODS:
        of_other = space.default(recipes.load(RECIPES[name]))
        keys = {key for each in space.load(of_other, recipes.load(RECIPES[name])).values() for key in each.keys}
        foreign = [key for key in keys if method not in methods_of(key)]
        if not foreign:
            continue
        with pytest.raises(UsageError) as error:
            space.load(of_other, base)
        assert any(f"does not have {key} (of {', '.join(methods_of(key))}" in str(error.value) for key in foreign)
        assert f"{of_other}.yaml: " in str(error.value)
        assert "\n" not in str(error.value)


def test_the_papers_space_holds_what_its_recipe_has() -> None:
    base = recipes.load("mnist-paper")
    found = space.current(base, space.load("paper", base))
    assert found is not None
    assert found["batch"] == base.train.batch_size
    assert found["fakes"] == base.objective.self_critic_fakes


def test_a_value_reaches_every_key_of_its_dimension_and_no_other() -> None:
    found = space.load("lambdas", BASE)
    made = space.configured(BASE, found, {"alpha": 0.5, "beta": 2.5, "gamma": 0.25})
    weights = made.objective.weights
    assert (weights.reconstruction, weights.encoder_adversarial) == (0.5, 0.25)
    assert (weights.classification_generated, weights.classification_encoded) == (2.5, 2.5)
    original = space.current(BASE, found)
    assert original is not None
    back = space.configured(made, found, original)
    assert back == BASE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim.lr: {low: 1, high: 2}", "unknown key optim.lr (given 1); did you mean optim.learning_rate?"),
        ("alpha: {low: 0.1, high: 1}", "unknown key alpha"),
        (f"{RATE}: {{low: -1, high: 1}}", "optim.learning_rate: Input should be greater than 0 (given -1)"),
        (f"{RATE}: {{low: 2, high: 1}}", "low 2 must be below high 1"),
        (f"{RATE}: {{low: 1, high: .inf}}", "finite number (given inf)"),
        (f"{RATE}: {{low: 1, high: .nan}}", "finite number"),
        (f"{RATE}: {{low: 1}}", "give low and high, or choices"),
        (f"{RATE}: {{}}", "give low and high, or choices"),
        (f"{RATE}: {{low: 1, high: 2, choices: [1]}}", "not both"),
        (f"{RATE}: {{low: 1, high: 2, distribution: normal}}", "'uniform' or 'loguniform' (given 'normal')"),
        (f"{RATE}: {{low: 1, high: 2, steps: 4}}", "steps: Extra inputs are not permitted"),
        (f"{RATE}: 0.1", "give low and high, or choices, not 0.1"),
        ("objective.weights.reconstruction: {low: 0, high: 1, distribution: loguniform}", "low above 0, not 0"),
        ("model.width: {low: 4, high: 8.5}", "valid integer"),
        ("model.critic_norm: {choices: [batch, spectrl]}", "(given 'spectrl')"),
        ("model.critic_norm: {choices: []}", "at least 1 item"),
        ("model.critic_norm: {choices: [batch, batch]}", "a choice is given twice"),
        ("model.critic_norm: {low: 1, high: 2}", "Input should be 'batch'"),
        ("objective.weights: {choices: [1]}", "objective.weights: Input should be a valid dictionary"),
        ("seed.x: {choices: [1]}", "seed is not a section"),
        ("x: {keys: [seed], choices: [1]}\ny: {keys: [seed], choices: [2]}", "seed is set by both x and y"),
        ("data.limit: {choices: [10]}", "cannot be swept: scores on different images cannot be compared"),
        ("features.size: {low: 32, high: 64}", "cannot be swept: scores on different features cannot be compared"),
        ("k: {keys: [model.num_categories], choices: [10]}", "cannot be swept"),
        ("method: {choices: [infoae, aae]}", "cannot be swept: each has settings of its own"),
        ("train.epochs: {low: 1, high: 9}", "cannot be swept"),
        ("train.patience: {low: 1, high: 9}", "cannot be swept"),
        ("a/b: {keys: [seed], choices: [1]}", "should match pattern"),
        ("{}", "at least 1 item"),
        ("[1]", "not a mapping"),
        ("", "not a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_space_is_one_line_that_says_what(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        space.parse(text, "space.yaml", BASE)
    assert message in str(error.value)
    assert str(error.value).startswith("space.yaml")
    assert "\n" not in str(error.value)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
keys = st.sampled_from([RATE, "model.width", "seed", "objective.weights.reconstruction", "data.download"])
parts = st.fixed_dictionaries(
    {},
    optional={
        "low": scalars | st.floats(1e-6, 10),
        "high": scalars | st.floats(1e-6, 100),
        "distribution": st.sampled_from(["uniform", "loguniform", "normal", 3]),
        "choices": st.lists(scalars, max_size=3) | scalars,
        "points": scalars | st.integers(2, 4),
        "keys": st.lists(keys, max_size=2) | scalars,
    },
)


@given(st.dictionaries(keys | st.text(max_size=5), parts | scalars, max_size=3))
def test_any_mapping_is_a_space_whose_values_are_valid_or_one_line(tree: dict[str, object]) -> None:
    try:
        found = space.parse(yaml.safe_dump(tree), "space.yaml", BASE)
    except UsageError as error:
        assert "\n" not in str(error)
        return
    for number in range(3):
        space.configured(BASE, found, space.draw(found, 0, number))
    space.configured(BASE, found, next(space.grid(found)))


@given(st.text(max_size=200))
def test_any_text_is_a_space_or_one_line(text: str) -> None:
    with pytest.raises(UsageError) as error:
        space.parse(text, "space.yaml", BASE)
    assert "\n" not in str(error.value)


def test_draws_fill_the_range_and_depend_on_seed_and_number_alone() -> None:
    text = f"{RATE}: {{low: 1.0e-5, high: 1.0e-1, distribution: loguniform}}\nmodel.width: {{low: 4, high: 7}}"
    found = space.parse(text, "space.yaml", BASE)
    drawn = [space.draw(found, 0, number) for number in range(300)]
    rates = [float(values[RATE]) for values in drawn]
    assert 1e-5 <= min(rates) < 2e-5 < 5e-2 < max(rates) <= 1e-1
    assert 0.4 < sum(rate < 1e-3 for rate in rates) / 300 < 0.6  # half of the orders of magnitude, half of the draws
    assert {values["model.width"] for values in drawn} == {4, 5, 6, 7}  # both ends
    assert {type(values["model.width"]) for values in drawn} == {int}
    assert space.draw(found, 0, 7) == drawn[7]
    assert space.draw(found, 1, 7) != drawn[7]


def test_a_grid_is_every_combination_spaced_by_the_distribution() -> None:
    text = (
        f"{RATE}: {{low: 1.0e-4, high: 1.0e-2, distribution: loguniform}}\n"
        "model.width: {low: 4, high: 8, points: 2}\nmodel.critic_norm: {choices: [batch, none]}"
    )
    combinations = list(space.grid(space.parse(text, "space.yaml", BASE)))
    assert len(combinations) == len({tuple(values.items()) for values in combinations}) == 3 * 2 * 2
    rates = sorted({float(values[RATE]) for values in combinations})
    assert all(math.isclose(*pair) for pair in zip(rates, (1e-4, 1e-3, 1e-2), strict=True))
    assert {values["model.width"] for values in combinations} == {4, 8}


def test_current_values_outside_the_space_are_no_first_trial() -> None:
    found = space.load("lambdas", BASE)
    assert space.current(recipes.load("mnist", ["objective.weights.encoder_adversarial=9"]), found) is None
    assert space.current(recipes.load("mnist", ["objective.weights.classification_encoded=0.5"]), found) is None


def test_a_file_that_is_missing_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'none\.yaml' \(No such file or directory\); there are .*lambdas"):
        space.load("none.yaml", BASE)
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a UTF-8 YAML file"):
        space.load(tmp_path / "b.yaml", BASE)
