"""Names of folders and places in them, for whatever people call their categories."""

from __future__ import annotations

import unicodedata
from os.path import splitext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.placing.names import Places, folders, safe

TEXT = st.text() | st.text(alphabet='a. /\\:*CONcon1"\0\n()2é́', max_size=12)
WINDOWS = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(10))}


def is_safe(name: str) -> bool:
    """What Windows, macOS and Linux ask of a name, as their manuals have it."""
    return (
        0 < len(name.encode("utf-8")) <= 200
        and not any(letter in name for letter in '/\\:*?"<>|')
        and not any(ord(letter) < 32 or ord(letter) == 127 for letter in name)
        and name[0] not in ". "
        and name[-1] not in ". "
        and name.split(".")[0].rstrip().lower() not in WINDOWS
    )


@given(TEXT)
def test_any_name_becomes_safe_and_a_safe_one_stays(name: str) -> None:
    assert is_safe(safe(name))
    assert safe(safe(name)) == safe(name)


@pytest.mark.parametrize("name", ["cat", "Café", "cat (2)", "a.b", "猫", "_", "connie", "x-1 & y"])
def test_a_plain_name_stays(name: str) -> None:
    assert safe(name) == name


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("a/b", "a_b"),
        ("..", "_"),
        (".hidden", "_hidden"),
        ("CON", "_CON"),
        ("nul.txt", "_nul.txt"),
        ("dot.", "dot"),
        ("", "_"),
        ("a\0b", "a_b"),
        ("\ud800", "_"),
        ("é" * 150, "é" * 100),
        ("dog\u202egpj", "dog_gpj"),
    ],
)
def test_what_is_refused_somewhere_is_replaced(name: str, becomes: str) -> None:
    assert safe(name) == becomes


def alike(name: str) -> str:
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


@given(st.sets(TEXT), st.randoms())
def test_each_category_has_a_folder_of_its_own_on_any_file_system_and_in_any_order(
    names: set[str], order: object
) -> None:
    made = folders(names)
    assert made.keys() == names
    assert len({alike(folder) for folder in made.values()} | {"unsure"}) == len(names) + 1
    assert all(is_safe(folder) or len(folder.encode()) <= 255 for folder in made.values())
    shuffled = list(names)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert folders(shuffled) == made


def test_the_one_whose_name_is_safe_keeps_it() -> None:
    assert folders(["a:b", "a_b", "a/b", "unsure", "A_B"]) == {
        "A_B": "A_B",
        "a_b": "a_b (2)",
        "a/b": "a_b (3)",
        "a:b": "a_b (4)",
        "unsure": "unsure (2)",
    }


FILE = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)


@given(st.lists(FILE | st.sampled_from(["1.jpg", "1.JPG", "1 (2).jpg", "x" * 255, "x" * 251 + ".jpg"])))
def test_no_two_files_share_a_place(names: list[str]) -> None:
    places = Places()
    taken = [places.take(name) for name in names]
    assert len({alike(name) for name in taken}) == len(names)
    assert all(len(name.encode()) <= 255 for name in taken)
    suffixes = [[splitext(name)[1] for name in some] for some in (taken, names)]  # noqa: PTH122
    assert suffixes[0] == suffixes[1]
    assert taken[:1] == names[:1]


def test_the_number_stands_before_the_suffix() -> None:
    places = Places(["1 (2).jpg"])
    assert [places.take("1.jpg") for _ in range(3)] == ["1.jpg", "1 (3).jpg", "1 (4).jpg"]
