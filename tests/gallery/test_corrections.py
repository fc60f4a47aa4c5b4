"""corrections.json: what is read, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infoae.errors import InfoAEError
from infoae.gallery.corrections import Corrections, read

GOOD: dict[str, Any] = {
    "format": 1,
    "run": "r",
    "step": 3,
    "num_categories": 5,
    "names": {"0": "cats "},
    "merges": [[1, 2]],
    "splits": [3],
    "not_this": [{"path": "a.png", "category": 4}],
    "examples": {"a.png": 0},
}


def test_what_the_page_saves_is_read(tmp_path: Path) -> None:
    file = tmp_path / "corrections.json"
    file.write_text(json.dumps(GOOD))
    found = read(file)
    assert (found.names, found.merges, found.splits) == ({0: "cats"}, ((1, 2),), (3,))
    assert (found.not_this[0].path, found.not_this[0].category, found.examples) == ("a.png", 4, {"a.png": 0})
    assert Corrections.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format: Input should be 1"),
        ({"merges": [[1]]}, "two or more"),
        ({"merges": [[1, 2], [2, 3]]}, "each category in one"),
        ({"splits": [1]}, "category 1 is to be merged and to be split"),
        ({"names": {"5": "x"}}, "category 5 of 5, which are 0 to 4"),
        ({"names": {"0": "a\nb"}}, "is no name"),
        ({"names": {"0": " "}}, "names.0"),
        ({"examples": {"a.png": 4}}, "of category 4 and not to be"),
        ({"examples": {"a.png": -1}}, "examples.a.png"),
        ({"what": 1}, "what: Extra"),
        ({"not_this": [{"path": "a", "category": 9}]}, "category 9 of 5"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    file = tmp_path / "corrections.json"
    file.write_text(json.dumps(GOOD | changes))
    with pytest.raises(InfoAEError, match=reason) as caught:
        read(file)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{file} is no corrections.json")


def test_no_json_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_bytes(b"\xff{")
    with pytest.raises(InfoAEError, match=r"bad\.json is no corrections\.json"):
        read(tmp_path / "bad.json")
    with pytest.raises(InfoAEError, match=r"cannot read .*missing"):
        read(tmp_path / "missing.json")
