"""What counts as an input is the same in a folder, a tar and a zip, and every file is a row or counted."""

from __future__ import annotations

import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoae.data.selection import container_kind, told, why_passed_over
from infoae.data.shards import Shards
from infoae.inputs.sources import open_sources
from tests.helpers.inputs import IMAGE, PIXELS, png, write_tar

STEMS = st.text("aB1_~- é", min_size=1, max_size=4).map(str.strip).filter(bool)
ENDINGS = st.sampled_from(
    ["", ".png", ".PNG", ".heic", ".jxl", ".jpg~", ".bak", ".dat", ".txt", ".TXT", ".cls", ".json", ".npy", ".db"]
)
DOTS = st.sampled_from(["", "", "", ".", "._"])
PARTS = st.builds(lambda dot, stem, ending: dot + stem + ending, DOTS, STEMS, ENDINGS)
NAMES = st.lists(st.lists(PARTS, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8)


def gathered(path: Path) -> tuple[list[str], Counter[str]]:
    """The names of the inputs below `path`, and how many files were passed over."""
    keys: list[str] = []
    passed_over: Counter[str] = Counter()
    for source in open_sources([str(path)], IMAGE):
        for block in source.blocks(3):
            keys += [key[len(str(path)) + 1 :] for key in block.keys]
            passed_over += block.passed_over
    return keys, passed_over


@settings(max_examples=40)
@given(NAMES)
def test_one_rule_in_folders_tars_and_zips(names: list[str]) -> None:
    names = sorted({name for name in names if not any(other.startswith(f"{name}/") for other in names)})
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in names:
            (root / "files" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "files" / name).write_bytes(png(0))
        write_tar(root / "x.tar", {name: png(0) for name in names})
        write_tar(root / "y.tar", {f"./{name}": png(0) for name in names})  # as `tar c .` calls them
        with zipfile.ZipFile(root / "x.zip", "w") as archive:
            for name in names:
                archive.writestr(name, png(0))
        inputs = [name for name in names if why_passed_over(name) is None]
        for path in (root / "x.tar", root / "x.zip"):
            keys, passed_over = gathered(path)
            assert keys == inputs
            assert len(keys) + passed_over.total() == len(names)
        assert [key.removeprefix("./") for key in gathered(root / "y.tar")[0]] == inputs
        keys, passed_over = gathered(root / "files")
        assert sorted(keys) == inputs
        hidden = {tuple(part for part in name.split("/")) for name in names if why_passed_over(name) == "hidden"}
        # What lies in a hidden folder is one with it.
        first = [next(i for i, part in enumerate(parts) if part.startswith(".")) for parts in hidden]
        places = {parts[: i + 1] for parts, i in zip(hidden, first, strict=True)}
        assert passed_over.total() == len(places) + sum(why_passed_over(name) not in (None, "hidden") for name in names)


@pytest.mark.parametrize("name", ["0001", "x.heif", "x.JPG", "x.jpg.bak", "x.unheard-of", "a/b/c", "./a.png", "x.gif"])
def test_what_might_be_an_image_counts(name: str) -> None:
    assert why_passed_over(name) is None
    assert container_kind(name) is None


def test_containers_in_a_folder_are_opened_and_those_in_an_archive_counted(tmp_path: Path) -> None:
    folder = tmp_path / "all"
    (folder / "deep").mkdir(parents=True)
    (folder / "1.png").write_bytes(png(1))
    (folder / "x.npy").write_bytes(b"")
    write_tar(folder / "deep/a.tar", {"2.png": png(2), "b.tar": b"", "c.npz": b"", "d.zip": b""})
    (folder / "bad.parquet").write_bytes(b"")
    keys, passed_over = gathered(folder)
    assert keys == ["1.png", "bad.parquet", "deep/a.tar#2.png"]
    assert passed_over == {"arrays": 2, ".tar": 1, ".zip": 1}
    assert told(passed_over) == "1 .tar, 1 .zip, 2 arrays"


def test_a_folder_linked_twice_is_counted(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/1.png").write_bytes(png(1))
    for name in ("a", "b"):
        (tmp_path / "top").mkdir(exist_ok=True)
        (tmp_path / "top" / name).symlink_to(tmp_path / "real")
    keys, passed_over = gathered(tmp_path / "top")
    assert keys == ["a/1.png"]
    assert passed_over == {"linked folders met before": 1}


def test_hidden_files_are_no_shards(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", PIXELS[:5])
    (tmp_path / "._0.npy").write_bytes(b"Mac OS X")
    assert len(Shards(tmp_path)) == 5
