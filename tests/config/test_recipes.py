from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import Config, recipes
from infoae.errors import UsageError


@pytest.mark.parametrize("name", recipes.available())
def test_every_recipe_is_valid_and_survives_a_round_trip(name: str) -> None:
    loaded = recipes.load(name)
    assert recipes.parse(recipes.dump(loaded), "dump") == loaded


def test_the_paper_recipe_is_what_the_paper_states() -> None:
    paper = recipes.load("mnist-paper")
    weights = paper.objective.weights
    assert (weights.reconstruction, weights.encoder_adversarial) == (1.0, 0.4)
    assert weights.classification_generated == weights.classification_encoded == 1.0
    assert weights.mutual_information == 0  # not in the paper
    assert (paper.model.num_categories, paper.model.noise_dim) == (10, 100)
    assert paper.model.critic_norm == "batch"
    assert paper.optim.critic_learning_rate == 2e-4  # the other rates are not the paper's, as the recipe says


def test_numbers_that_yaml_reads_as_text_are_numbers() -> None:
    assert isinstance(yaml.safe_load("2e-4"), str)  # the trap
    assert recipes.load("mnist", ["optim.learning_rate=2e-4"]).optim.learning_rate == 2e-4


def test_overrides_reach_keys_the_file_does_not_mention(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("seed: 3\n")
    loaded = recipes.load(path, ["objective.weights.reconstruction=0.5", "data.limit=null"])
    assert (loaded.seed, loaded.objective.weights.reconstruction, loaded.data.limit) == (3, 0.5, None)


def test_an_empty_file_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert recipes.load(path) == Config()


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.learning_rat=1", ["optim.learning_rat", "given 1", "did you mean optim.learning_rate?"]),
        ("objective.weights.reconstrution=2", ["did you mean objective.weights.reconstruction?"]),
        ("optim.learning_rate=-1", ["optim.learning_rate", "greater than 0", "given -1"]),
        ("train.batch_size=1", ["train.batch_size", "given 1"]),
        ("data.name=imagenet", ["data.name", "mnist", "imagenet"]),
        ("optim.decay_epochs=50", ["optim.decay_epochs 50", "train.epochs, which are only"]),
        (
            "train={adversarial_fraction: 0.1, micro_batch_size: 30}",
            ["adversarial_fraction 0.1 of micro_batch_size 30 is below 4 images"],
        ),
        ("train.precision=fp8", ["train.precision", "fp8"]),
        ("objective.weights.mutual_information=.nan", ["objective.weights.mutual_information"]),
        ("no_equals_sign", ["section.key=value", "no_equals_sign"]),
        ("a..b=1", ["section.key=value"]),
        ("seed.x=1", ["seed is not a section"]),
        ("seed=[1", ["not valid YAML"]),
    ],
)
def test_a_bad_override_is_one_line_with_key_value_and_help(override: str, parts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\n")
    with pytest.raises(UsageError) as caught:
        recipes.load(path, [override])
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message
    assert caught.value.exit_code == 2


def test_a_missing_file_names_the_recipes() -> None:
    with pytest.raises(UsageError, match=r"no recipe or readable file 'nowhere'.*mnist-paper"):
        recipes.load("nowhere")


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError):
        recipes.load(tmp_path / "c.yaml")


@given(st.text(max_size=80))
def test_any_text_is_a_config_or_one_clear_line(text: str) -> None:
    try:
        recipes.parse(text, "fuzz")
    except UsageError as error:
        assert str(error)


@given(
    st.dictionaries(
        st.sampled_from(["seed", "data", "train", "optim", "x"]),
        st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers(), max_size=2)),
    )
)
def test_any_mapping_is_a_config_or_one_clear_line(tree: dict[str, object]) -> None:
    try:
        recipes.parse(yaml.safe_dump(tree), "fuzz")
    except UsageError as error:
        assert str(error).startswith("fuzz: ")


def test_a_config_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValueError, match="frozen"):
        recipes.load("smoke").train.epochs = 5  # type: ignore[misc]


def test_every_key_is_described() -> None:
    """By its own words, or a section by those of its class."""
    schema = Config.model_json_schema()
    sections = schema["$defs"]
    fields = {f".{key}": field for key, field in schema["properties"].items()}
    for name, section in sections.items():
        fields |= {f"{name}.{key}": field for key, field in section["properties"].items()}
    assert len(fields) > 50

    def described(field: dict[str, str]) -> bool:
        return bool(field.get("description") or sections.get(field.get("$ref", "")[8:], {}).get("description"))

    assert [key for key, field in fields.items() if not described(field)] == []


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_the_learning_rate_follows_the_batch_by_the_rule_asked_for(rule: str, factor: float) -> None:
    settings = [f"optim.learning_rate_scaling={rule}", "train.batch_size=400", "optim.learning_rate=1e-3"]
    run_config = recipes.load("smoke", settings)
    assert run_config.learning_rates() == pytest.approx((1e-3 * factor, 2e-4 * factor))
