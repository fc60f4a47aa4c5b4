"""Parquet columns, archives and lists as other programs write them."""

from __future__ import annotations

import io
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae.errors import InfoAEError
from tests.helpers.inputs import PIXELS, png, read, write_tar

IMAGES = [png(index) for index in range(12)]


def column(kind: str) -> Any:
    plain = pa.array(IMAGES)
    if kind == "fixed":
        size = max(map(len, IMAGES))
        return pa.array([image.ljust(size, b"\0") for image in IMAGES], pa.binary(size))
    if kind == "dictionary":
        return plain.dictionary_encode()
    return plain.cast({"view": pa.binary_view(), "large": pa.large_binary(), "plain": pa.binary()}[kind])


@pytest.mark.parametrize("kind", ["plain", "large", "view", "fixed", "dictionary"])
@pytest.mark.parametrize("nested", [False, True])
def test_columns_of_bytes_of_every_kind(tmp_path: Path, kind: str, nested: bool) -> None:
    values = column(kind)
    names = pa.array([f"{index}.png" for index in range(12)])
    image = pa.StructArray.from_arrays([values, names], ["bytes", "path"]) if nested else values
    rows = 12 if nested and kind == "view" else 5  # pyarrow does not cut those itself
    parquet.write_table(pa.table({"image": image, "label": range(12)}), tmp_path / "x.parquet", row_group_size=rows)
    keys, images, errors = read(tmp_path / "x.parquet")
    assert keys == [f"{tmp_path}/x.parquet#{row}" for row in range(12)]
    assert errors == [None] * 12
    assert np.array_equal(images[:, 0], PIXELS[:12])


@pytest.mark.parametrize("all_missing", [False, True])
def test_a_path_stands_for_bytes_that_are_missing(tmp_path: Path, all_missing: bool) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/1.png").write_bytes(png(1))
    rows = [
        {"bytes": None, "path": "files/1.png"},
        {"bytes": None, "path": str(tmp_path / "files/1.png")},
        {"bytes": None, "path": "gone.png"},
        {"bytes": None, "path": "https://example.org/1.png"},
        {"bytes": None, "path": None},
        {"bytes": None if all_missing else png(2), "path": "?"},
    ]
    parquet.write_table(pa.table({"image": rows}), tmp_path / "x.parquet")
    _, images, errors = read(tmp_path / "x.parquet")
    assert np.array_equal(images[:, 0], PIXELS[[1, 1] if all_missing else [1, 1, 2]])
    assert errors[:2] == [None, None]
    assert errors[2] == "No such file or directory"
    assert errors[3] == "no image, but an address: https://example.org/1.png"
    assert errors[4] == "no image: null"


def test_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/", b"")
        for index in range(5):
            archive.writestr(f"a/{index}.png", png(index))
        link = zipfile.ZipInfo("a/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "0.png")
        archive.writestr("__MACOSX/a/._0.png", b"Mac")
    content = bytearray(path.read_bytes())
    content[content.index(b"a/2.png") + 20] ^= 0xFF
    path.write_bytes(content)
    keys, images, errors = read(path)
    assert keys == [f"{path}#a/{name}.png" for name in (0, 1, 2, 3, 4, "link")]
    assert np.array_equal(images[:, 0], PIXELS[[0, 1, 3, 4]])  # one damaged member is one row
    assert errors[2]
    assert "a link to 0.png" in str(errors[5])


def test_an_encrypted_member_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.png", png(1))
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(content)
    assert read(path)[2] == ["encrypted"]


def plain_tar(first: int, last: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for index in range(first, last):
            info = tarfile.TarInfo(f"{index:02}.png")
            info.size = len(png(index))
            archive.addfile(info, io.BytesIO(png(index)))
    return file.getvalue()


@pytest.mark.parametrize("name", ["x.tar.zst", "x.tzst", "misnamed.tar"])
@pytest.mark.parametrize("cut", [False, True])
def test_tar_and_zstandard(tmp_path: Path, name: str, cut: bool) -> None:
    content = pa.compress(plain_tar(0, 40), "zstd", asbytes=True)
    (tmp_path / name).write_bytes(content[: len(content) // 2] if cut else content)
    _, images, errors = read(tmp_path / name)
    assert np.array_equal(images[:, 0], PIXELS[: len(images)])
    assert (len(images) < 40 and bool(errors[-1])) if cut else errors == [None] * 40


def test_archives_that_follow_each_other_are_read_to_the_last(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(plain_tar(0, 5) + plain_tar(5, 9))
    _, images, errors = read(tmp_path / "x.tar")
    assert np.array_equal(images[:, 0], PIXELS[:9])
    assert errors == [None] * 9


@pytest.mark.parametrize("blocks", range(1, 40, 3))
def test_a_tar_cut_at_any_block_says_so(tmp_path: Path, blocks: int) -> None:
    """Between two members as well, where it looks like an archive that ends."""
    (tmp_path / "x.tar").write_bytes(plain_tar(0, 20)[: 512 * blocks])
    _, _, errors = read(tmp_path / "x.tar")
    assert errors[-1]


@pytest.mark.parametrize("name", ["plain", "new\nline", "quote\"'", "é"])
def test_a_list_ended_by_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / f"{name}.png").write_bytes(png(3))
    listed = f"{tmp_path}/{name}.png\0{tmp_path}/absent".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(listed)))
    keys, images, errors = read("-", null=True)
    assert keys == [f"{tmp_path}/{name}.png", f"{tmp_path}/absent"]
    assert errors == [None, "No such file or directory"]
    assert np.array_equal(images[0, 0], PIXELS[3])


def test_channels_last_get_a_hint(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS[..., None])
    with pytest.raises(InfoAEError, match=r"its channels are last: save images.transpose\(0, 3, 1, 2\)"):
        read(tmp_path / "x.npy")


def test_members_of_heic_are_rows_and_hidden_ones_are_not(tmp_path: Path) -> None:
    members = {"0.heic": b"\0\0\0\x18ftypheic" + bytes(12), "a.png": png(0), ".cache/thumb.png": png(1)}
    write_tar(tmp_path / "x.tar", members)
    keys, images, errors = read(tmp_path / "x.tar")
    assert keys == [f"{tmp_path}/x.tar#0.heic", f"{tmp_path}/x.tar#a.png"]
    assert len(images) == 1
    assert errors[0]
