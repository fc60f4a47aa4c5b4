"""A kind of images is a recipe of numbers: what it sets, and what wins over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from infoae.config import Augment, Config, recipes
from infoae.config.augment import KINDS
from infoae.errors import UsageError

OF_THEN: dict[str, Any] = {
    "degrees": 10.0,
    "translate": 0.1,
    "scale": 0.1,
    "shear": 0.1,
    "crop": 0.0,
    "blur": 0.0,
    "elastic": 0.0,
}
SWITCHES = {"kind", "colour", "outside"}  # which change nothing by themselves


def numbers(augment: Augment) -> dict[str, Any]:
    """What of it changes images."""
    return {key: value for key, value in augment.model_dump().items() if key not in SWITCHES and value}


def test_strokes_are_the_default_and_what_there_was_before_there_were_kinds() -> None:
    assert Augment() == Augment(kind="strokes") == Augment(**OF_THEN)
    assert numbers(Augment()) == {key: value for key, value in OF_THEN.items() if value}


def test_each_kind_sets_its_own_and_nothing_of_strokes() -> None:
    assert numbers(Augment(kind="none")) == {}
    assert numbers(Augment(kind="objects")).keys() == {
        "crop", "flip", "brightness", "contrast", "saturation", "hue", "grey",
    }  # fmt: skip
    assert numbers(Augment(kind="textures")).keys() == {"degrees", "crop", "flip"}
    assert numbers(Augment(kind="sound")).keys() == {"time_shift", "time_mask", "frequency_mask"}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_given_wins_and_what_is_stored_is_read_as_it_is(kind: Any) -> None:
    given = Augment(kind=kind, degrees=33.0, crop=0.0)
    assert (given.degrees, given.crop) == (33.0, 0.0)
    stored = Config(augment=given)
    assert recipes.parse(recipes.dump(stored), "stored") == stored
    without = given.model_dump(exclude={"kind"})
    assert Augment.model_validate(without).model_dump(exclude={"kind"}) == without


def test_a_kind_that_is_set_begins_the_section_anew(tmp_path: Path) -> None:
    """The numbers of a recipe or of a stored run were chosen for its own images; --set beside it wins, in any order."""
    assert recipes.load("mnist-best").augment == Augment(elastic=2.0)
    objects = Augment(kind="objects")
    assert recipes.load("mnist-best", ["augment.kind=objects"]).augment == objects
    stored = tmp_path / "config.yaml"
    stored.write_text(recipes.dump(recipes.load("mnist-best")), encoding="utf-8")
    assert recipes.load(stored, ["augment.kind=objects"]).augment == objects
    for settings in (["augment.kind=objects", "augment.crop=0.1"], ["augment.crop=0.1", "augment.kind=objects"]):
        assert recipes.load(stored, settings).augment == Augment(kind="objects", crop=0.1)
    assert recipes.load(stored, ["augment.crop=0.1"]).augment == Augment(elastic=2.0, crop=0.1)


def test_a_kind_in_a_file_sets_what_the_file_does_not() -> None:
    assert recipes.parse("augment: {kind: textures, elastic: 1.0}", "own").augment == Augment(
        degrees=180.0, translate=0.0, scale=0.0, shear=0.0, crop=0.3, flip=0.5, outside="mirror", elastic=1.0,
        kind="textures",
    )  # fmt: skip


def test_sweeps_can_vary_the_kind() -> None:
    base = recipes.load("mnist-best")
    found = recipes.replaced(base, {"augment.blur": 1.0, "augment.kind": "sound"}, "trial").augment
    assert found == Augment(kind="sound", blur=1.0)


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("augment.kind=photos", ["augment.kind", "'objects'", "given 'photos'"]),
        ("augment.kind=[objects]", ["augment.kind", "'objects'"]),
        ("augment.hue=0.6", ["augment.hue", "0.5", "given 0.6"]),
        ("augment.time_mask=1", ["augment.time_mask", "less than 1"]),
        ("augment.color=1", ["did you mean augment.colour?"]),
    ],
)
def test_what_is_wrong_is_one_line(setting: str, parts: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        recipes.load("mnist", [setting])
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


def test_another_method_refuses_the_one_key_that_was_given() -> None:
    with pytest.raises(UsageError, match=r"method aae does not have augment\.kind \(of infoae\): leave that out"):
        recipes.load("aae", ["augment.kind=objects"])
