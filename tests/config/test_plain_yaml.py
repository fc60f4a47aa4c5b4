from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from infoae.config import Config, plain_yaml, recipes
from infoae.config.validation import _section
from infoae.errors import UsageError

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**39), 10**39) | st.floats(allow_nan=False) | TEXT,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXT, inside, max_size=3),
    max_leaves=8,
)


def keys(section: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a configuration, and what it takes."""
    found: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        inside = _section(field.annotation)
        found |= {prefix + name: field} if inside is None else keys(inside, f"{prefix}{name}.")
    return found


KEYS = keys(Config)
NUMBERS = [key for key, field in KEYS.items() if "int" in str(field.annotation) or "float" in str(field.annotation)]
# Each is no number, or none that any key takes; some PyYAML reads as numbers or as what is no JSON.
WRONG = {
    "a date": "2020-01-01",
    "a time": "1:30",
    "underscores": "1_000",
    "a word of YAML 1.1": "yes",
    "true": "true",
    "quoted": "'3'",
    "5,000 digits": "9" * 5000,
    "a huge float": "1e999",
    "infinity": ".inf",
    "minus infinity": "-.inf",
    "not a number": ".nan",
    "10^21": "1" + "0" * 21,
    "negative": "-5",
    "a list in lists": "[" * 100,
    "a mapping in mappings": "{a: " * 100,
    "a tag": "!!int 3",
    "an object": "!!python/object/apply:os.system [ls]",
    "binary": "!!binary aGVsbG8=",
    "an alias": "[&a 3, *a]",
    "a key twice": "{a: 1, a: 2}",
    "a key that is a list": "{[a]: 1}",
    "control characters": "\x1b[31m",
    "newlines": '"a\\nb\\x1b[31m"',
    "long": "x" * 100_000,
}


def test_there_are_keys_of_numbers() -> None:
    assert len(NUMBERS) > 50


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_every_key_of_a_number_refuses_it_in_one_line_with_its_name(wrong: str) -> None:
    for key in NUMBERS:
        if key.endswith("learning_rate") and wrong == WRONG["10^21"]:
            continue
        with pytest.raises(UsageError) as caught:
            recipes.parse("", "file", [f"{key}={wrong}"])
        message = str(caught.value)
        assert key in message
        assert message.isprintable()
        assert len(message) < 600


def test_every_number_has_an_upper_limit() -> None:
    for key in NUMBERS:
        if key.endswith("learning_rate"):  # which asks for no memory, and whose losses say so when it is too high
            continue
        huge = "1" + "0" * 30
        given = f"[{huge}]" if key == "model.prior" else huge
        with pytest.raises(UsageError, match=rf"{key}(\.0)?: .*(less than|at most)"):
            recipes.parse("", "file", [f"{key}={given}"])


@given(JSON)
@example({"\x85": ["\u2028", "a\u2029b"]})
def test_what_is_written_is_read(value: Any) -> None:
    assert plain_yaml.read(plain_yaml.write(value), "test") == value


@given(st.text(max_size=20))
def test_quoted_text_is_that_text_on_one_line(text: str) -> None:
    line = plain_yaml.quoted(text)
    assert line.isprintable()
    assert plain_yaml.read(line, "test") == text


@given(st.floats() | st.integers(-(10**39), 10**39))
def test_numbers_as_python_writes_them_are_those_numbers(number: float) -> None:
    text = {math.inf: ".inf", -math.inf: "-.inf"}.get(number, str(number)).replace("nan", ".nan")
    found = plain_yaml.read(text, "test")
    assert found == number or (found != found and number != number)  # NaN is no number, itself neither
    assert type(found) is type(number)


@given(st.text(st.sampled_from("aé:{}[],&*!|>'\"%@`#-?\n\t 0."), max_size=40))
def test_plain_documents_mean_what_pyyaml_reads_but_for_what_is_refused(text: str) -> None:
    try:
        found = plain_yaml.read(text, "test")
    except UsageError as error:
        assert str(error).isprintable()
        return
    expected = yaml.load(text, yaml.BaseLoader)  # noqa: S506 (all of it as text)
    assert as_text(found) == as_text(expected)


def as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [as_text(item) for item in value]
    if isinstance(value, dict):
        return {key: as_text(item) for key, item in value.items()}
    if value in (None, "", "~"):
        return None
    try:
        return float(value)
    except ValueError:
        return value


def test_a_path_is_what_was_given_whatever_yaml_reads_in_it() -> None:
    for path in ("123", "~x", "null", "/a #b", "[a", "a: b", "2020-01-01", "é\x1b", "'"):
        loaded = recipes.load("smoke", [recipes.override("data.root", path)])
        assert str(loaded.data.root) == path
        assert recipes.parse(recipes.dump(loaded), "dump") == loaded


def test_a_file_without_end_is_no_configuration() -> None:
    with pytest.raises(UsageError, match="more characters than"):
        recipes.load("/dev/zero")


def test_several_documents_are_refused() -> None:
    with pytest.raises(UsageError, match="2 YAML documents"):
        plain_yaml.read("a: 1\n---\nb: 2\n", "file")
