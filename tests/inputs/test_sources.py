"""Folders, globs, lists and mixtures: one entry for each image, in order, and a reason for what cannot be had."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError
from infoae.inputs.blocks import BLOCK_BYTES, Encoded, in_blocks, key_of
from infoae.inputs.sources import open_sources
from tests.helpers.inputs import IMAGE, PIXELS, png, read


def test_folders_are_walked_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.png", "a.png", "b/c/x", ".hidden.png", ".git/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(1))
    keys, images, errors = read(tmp_path)
    assert keys == [f"{tmp_path}/{name}" for name in ("a.png", "b/10.png", "b/2.png", "b/c/x")]
    assert errors == [None] * 4
    assert np.array_equal(images[:, 0], PIXELS[[1, 1, 1, 1]])


def test_linked_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    (tmp_path / "top/a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "top/a/1.png").write_bytes(png(0))
    (tmp_path / "elsewhere/2.png").write_bytes(png(1))
    (tmp_path / "top/a/up").symlink_to(tmp_path / "top")
    (tmp_path / "top/b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "top/a")
    (tmp_path / "top/gone.png").symlink_to(tmp_path / "nowhere")
    keys, _, errors = read(tmp_path / "top")
    assert len(keys) == len(set(keys)) < 10
    assert {f"{tmp_path}/top/a/1.png", f"{tmp_path}/top/b/2.png"} <= set(keys)
    assert errors[keys.index(f"{tmp_path}/top/gone.png")] == "No such file or directory"


def test_names_that_are_not_utf8_stay_apart_and_printable(tmp_path: Path) -> None:
    for name in (b"\xff.png", b"\xfe.png", "é\n.png".encode()):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(png(0))
    keys, _, errors = read(tmp_path)
    assert sorted(keys) == sorted(f"{tmp_path}/{name}" for name in ("\\xff.png", "\\xfe.png", "é\n.png"))
    assert errors == [None] * 3


@given(st.binary(max_size=30))
def test_any_name_becomes_text(name: bytes) -> None:
    key_of(os.fsdecode(name)).encode()


def test_the_output_is_no_input(tmp_path: Path) -> None:
    for name in ("1.png", "result.csv"):
        (tmp_path / name).write_bytes(png(0))
    (source,) = open_sources([str(tmp_path)], IMAGE, exclude=tmp_path / "result.csv")
    assert [key for block in source.blocks(9) for key in block.keys] == [f"{tmp_path}/1.png"]


def test_names_are_not_looked_up_where_nothing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        (tmp_path / name).write_bytes(png(0))
    looked_up, realpath = set(), os.path.realpath

    def counted(path: str) -> str:
        looked_up.add(path)
        return realpath(path)

    monkeypatch.setattr(os.path, "realpath", counted)
    assert len(read(tmp_path)[0]) == 3
    assert looked_up == {str(tmp_path)}


def test_links_to_nothing_are_rows(tmp_path: Path) -> None:
    links = [tmp_path / name for name in ("a.png", "b.npz", "c.parquet", "d.tar")]
    for link in links:
        link.symlink_to(tmp_path / "nowhere")
    keys, _, errors = read(*links)
    assert keys == [str(link) for link in links]
    assert errors[0] == "No such file or directory"
    assert all("cannot be opened" in str(error) for error in errors[1:])


def test_globs_and_order_of_mixed_inputs(tmp_path: Path) -> None:
    for name in ("2.png", "1.png", "1.jpg"):
        (tmp_path / name).write_bytes(png(int(name[0])))
    np.save(tmp_path / "x.npy", PIXELS[:2])
    keys, images, _ = read(tmp_path / "2.png", tmp_path / "x.npy", f"{tmp_path}/*.png")
    assert keys == [f"{tmp_path}/{name}" for name in ("2.png", "x.npy#0", "x.npy#1", "1.png", "2.png")]
    assert np.array_equal(images[:, 0], PIXELS[[2, 0, 1, 1, 2]])


def test_what_does_not_exist(tmp_path: Path) -> None:
    for given_ in ("absent.png", "*.png", "no/such/folder"):
        with pytest.raises(InfoAEError, match="no such file, and no file matches"):
            read(tmp_path / given_)


def test_a_list_on_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a b.png").write_bytes(png(3))
    lines = f"{tmp_path}/a b.png\r\n\n{tmp_path}/absent\n{tmp_path}".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    keys, images, errors = read("-")
    assert keys == [f"{tmp_path}/a b.png", f"{tmp_path}/absent", str(tmp_path)]
    assert errors == [None, "No such file or directory", "a folder, not a file"]
    assert np.array_equal(images[0, 0], PIXELS[3])
    with pytest.raises(InfoAEError, match="give - once"):
        read("-", "-")


CONTENTS = [bytes(length * BLOCK_BYTES // 32) for length in range(41)]


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 9))
def test_blocks_lose_nothing_and_stay_small(sizes: list[int], size: int) -> None:
    items: list[tuple[str, Encoded]] = [(str(n), CONTENTS[length]) for n, length in enumerate(sizes)]
    blocks = list(in_blocks(items, size))
    assert [key for block in blocks for key in block.keys] == [key for key, _ in items]
    for block in blocks:
        held = [len(image) for image in block.images if isinstance(image, bytes)]
        assert len(block) <= size
        assert sum(held[:-1]) < BLOCK_BYTES


def test_an_unreadable_folder_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "1.png").write_bytes(png(0))
    scandir = os.scandir

    def refuse(path: str) -> object:  # root may read everything, so the refusal is played
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    keys, _, errors = read(tmp_path)
    assert keys == [f"{tmp_path}/1.png", f"{tmp_path}/closed"]
    assert errors == [None, "cannot list the folder: Permission denied"]


def test_an_error_travels_between_processes() -> None:
    import pickle

    assert str(pickle.loads(pickle.dumps(UnreadableImageError("why")))) == "why"  # noqa: S301
