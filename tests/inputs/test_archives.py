"""Arrays, Parquet and tar as inputs: every image in order, and a reason where a container breaks off."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae.errors import InfoAEError
from tests.helpers.inputs import PIXELS, idx, png, read, write_tar


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "packed.npz", "x-images-idx3-ubyte", "x.idx3-ubyte.gz", "x.idx"])
@pytest.mark.parametrize("axes", [3, 4])
def test_arrays(tmp_path: Path, name: str, axes: int) -> None:
    pixels = PIXELS if axes == 3 else PIXELS[:, None]
    path = tmp_path / name
    if name.endswith(".npy"):
        np.save(path, pixels)
    elif name.endswith(".npz"):
        save = np.savez_compressed if "packed" in name else np.savez
        save(path, labels=np.arange(50), images=pixels)
    else:
        path.write_bytes(gzip.compress(idx(pixels)) if name.endswith(".gz") else idx(pixels))
    keys, images, errors = read(path)
    assert keys == [f"{path}#{row}" for row in range(50)]
    assert np.array_equal(images[:, 0], PIXELS)
    assert errors == [None] * 50


def test_the_choice_among_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, train=PIXELS[:5], test=PIXELS[5:8], other=np.zeros(3))
    with pytest.raises(InfoAEError, match="train, test, other: choose one with --column"):
        read(path)
    with pytest.raises(InfoAEError, match="no array 'x': it has train, test, other"):
        read(path, column="x")
    assert len(read(path, column="test")[0]) == 3
    np.savez(path, digits=PIXELS[:5], other=np.zeros(3))
    assert len(read(path)[0]) == 5


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 32, 32), np.uint8), r"has shape \(3, 32, 32\): \(N, 1, 28, 28\) is needed"),
        (np.zeros((3, 28, 28, 3), np.uint8), "has shape"),
        (np.zeros((3, 28, 28), np.float32), "holds float32: give uint8"),
        (np.asfortranarray(np.zeros((3, 28, 28), np.uint8)), "Fortran order"),
        (np.array([{}, {}]), "holds object: give uint8"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(InfoAEError, match=message):
        read(tmp_path / "x.npy")


def test_idx_of_another_type_is_refused(tmp_path: Path) -> None:
    content = bytearray(idx(PIXELS))
    content[2] = 0x0D
    (tmp_path / "x.idx").write_bytes(content)
    with pytest.raises(InfoAEError, match=r"x\.idx holds float32: give uint8"):
        read(tmp_path / "x.idx")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.idx", "x.parquet", "x.tar"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 9, b"\1" * 100])
def test_a_damaged_container_is_one_row_among_the_others(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "1.png").write_bytes(png(1))
    keys, images, errors = read(tmp_path / name, tmp_path / "1.png")
    assert keys == [f"{tmp_path}/{name}", f"{tmp_path}/1.png"]
    assert np.array_equal(images[:, 0], PIXELS[1:2])
    assert "cannot be opened: " in str(errors[0])
    assert "\n" not in str(errors[0])
    assert errors[1] is None


@pytest.mark.parametrize("kind", ["npy", "packed.npz", "idx.gz", "tar", "tgz"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.8])
def test_a_container_that_breaks_off_says_so(tmp_path: Path, kind: str, part: float) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, PIXELS)
    elif kind == "packed.npz":
        np.savez_compressed(path, PIXELS)
    elif kind == "idx.gz":
        path.write_bytes(gzip.compress(idx(PIXELS)))
    else:
        write_tar(path, {f"{index:02d}.png": png(index) for index in range(50)}, "w:gz" if kind == "tgz" else "w")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    if kind == "packed.npz":  # a zip's table of contents is at its end
        assert read(path)[0] == [str(path)]
        return
    keys, images, errors = read(path)
    assert keys[-1] == str(path)
    assert errors[:-1] == [None] * (len(keys) - 1)
    assert "unreadable after" in str(errors[-1])
    assert 5 < len(images) < 50
    assert np.array_equal(images[:, 0], PIXELS[: len(images)])


def test_a_damaged_array_in_a_zip(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, PIXELS)
    content = bytearray(path.read_bytes())
    content[20_000] ^= 1
    path.write_bytes(content)
    keys, _, errors = read(path)
    assert keys[-1] == str(path)
    assert "Bad CRC-32" in str(errors[-1])


@pytest.mark.parametrize("nested", [False, True])
def test_parquet(tmp_path: Path, nested: bool) -> None:
    path = tmp_path / "x.parquet"
    images = [png(index) for index in range(50)]
    values = [
        None if index == 3 else {"bytes": image, "path": "?"} if nested else image for index, image in enumerate(images)
    ]
    parquet.write_table(pa.table({"label": list(range(50)), "image": values}), path, row_group_size=20)
    keys, pixels, errors = read(path)
    assert keys == [f"{path}#{row}" for row in range(50)]
    assert [row for row, error in enumerate(errors) if error] == [3]
    assert np.array_equal(pixels[:, 0], np.delete(PIXELS, 3, axis=0))


def test_the_choice_among_parquet_columns(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"a": [png(0)], "b": [png(1)], "c": [1]}), path)
    for column in (None, "c", "d"):
        with pytest.raises(InfoAEError, match=r"choose with --column .*: a, b"):
            read(path, column=column)
    assert np.array_equal(read(path, column="b")[1][0, 0], PIXELS[1])


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.tar.xz"])
def test_webdataset_shards(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    members: dict[str, bytes] = {}
    for index in range(20):
        members |= {f"s/{index:03d}.png": png(index), f"s/{index:03d}.cls": b"1", f"s/{index:03d}.json": b"{}"}
    write_tar(
        path,
        members | {"s/bad.jpg": b"no"},
        {"r": "w:gz", "z": "w:gz"}.get(name[-1], "w") if "xz" not in name else "w:xz",
    )
    keys, images, errors = read(path)
    assert keys == [f"{path}#s/{index:03d}.png" for index in range(20)] + [f"{path}#s/bad.jpg"]
    assert errors == [None] * 20 + ["not an image of a known format"]
    assert np.array_equal(images[:, 0], PIXELS[:20])


def test_links_in_a_tar_are_rows(tmp_path: Path) -> None:
    """tar packs the second name of a file as a link, and a stream cannot go back to the first."""
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        (tmp_path / "1.png").write_bytes(png(1))
        archive.add(tmp_path / "1.png", "1.png")
        kinds = (tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE)
        for name, kind in zip(("2.png", "3.png", "4.png", "folder.png", "label.txt"), kinds, strict=True):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "1.png"
            archive.addfile(member)
    keys, images, errors = read(path)
    assert keys == [f"{path}#{number}.png" for number in (1, 2, 3, 4)]
    assert len(images) == 1
    assert errors[1] == errors[2]
    assert "a link to 1.png: pack the images themselves" in str(errors[1])
    assert errors[3] == "not a regular file"


def test_a_damaged_header_inside_a_tar_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    write_tar(path, {f"{index:02d}.png": png(index) for index in range(50)})
    content = bytearray(path.read_bytes())
    start = content.index(b"20.png")
    content[start : start + 200] = b"?" * 200
    path.write_bytes(content)
    keys, images, errors = read(path)
    assert len(images) == 20
    assert keys[-1] == str(path)
    assert "unreadable after 19.png" in str(errors[-1])
