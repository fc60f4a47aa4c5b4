"""Classes from a table: found by any of a picture's names, and refused where they are not one for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from infoae.errors import InfoAEError
from infoae.inputs.classes import rules
from infoae.inputs.sources import open_sources
from tests.helpers.inputs import IMAGE, png, write_tar


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.png", "photos/x/b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    write_tar(tmp_path / "x.tar", {"a.png": png(1), "x/b.png": png(2)})
    return tmp_path


def classes(*inputs: str, labels: str = "labels.csv") -> list[str]:
    sources = open_sources(inputs, IMAGE)
    keys = [[key for block in source.blocks(9) for key in block.keys] for source in sources]
    found = zip(rules(labels, sources), keys, strict=True)
    return [class_of(key) for class_of, some in found if class_of is not None for key in some]


@pytest.mark.parametrize("given", ["photos", "x.tar"])
@pytest.mark.parametrize(
    ("table", "of"),
    [
        ("path,label\nphotos/a.png,ant\nphotos/x/b.png,bee\n", ["photos"]),
        ("path,label\na.png,ant\nx/b.png,bee\n", ["photos", "x.tar"]),
        ("label,other,path\nant,1,x.tar#a.png\nbee,2,x.tar#x/b.png\n", ["x.tar"]),
        ("\ufeffpath,label\r\n{here}/photos/a.png,ant\r\n{here}/photos/x/b.png,bee\r\n", ["photos"]),
        ('path,label\n"a.png","ant"\nx/b.png,bee\na.png,ant\n', ["photos", "x.tar"]),
    ],
)
def test_found_by_key_by_path_and_by_name_below_what_was_given(
    given: str, table: str, of: list[str], folder: Path
) -> None:
    Path("labels.csv").write_text(table.format(here=folder), encoding="utf-8", newline="")
    if given in of:
        assert classes(given) == ["ant", "bee"]
        assert classes(str(folder / given)) == ["ant", "bee"] or "x.tar#" in table
    else:
        with pytest.raises(InfoAEError, match=r"labels\.csv has no label for "):
            classes(given)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,label\na.png,1\n", "has no column path: path and label are needed"),
        (b"", "has no column path"),
        (b"path,label\na.png\n", "line 2 of labels .*: one path and its one label"),
        (b"path,label\na.png,1\na.png,2\n", "line 3 of labels .*: one path and its one label"),
        (b"path,label\n\xff\xfe,1\n", "cannot be read: "),
        (b'path,label\n"' + b"a" * 200_000 + b'",1\n', "cannot be read: field larger than field limit"),
        (b"path,label\na.png,1\n", r"has no label for photos/x/b\.png: .* as here or as x/b\.png"),
    ],
)
def test_a_wrong_table_is_one_line(content: bytes, message: str) -> None:
    Path("labels.csv").write_bytes(content)
    with pytest.raises(InfoAEError, match=message) as caught:
        classes("photos")
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_a_table_that_is_none_names_what_can_be_given() -> None:
    with pytest.raises(InfoAEError, match="labels photos: give folders, or a CSV file with the columns path and label"):
        classes("photos", labels="photos")
