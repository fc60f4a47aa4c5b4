"""Every kind of input: one entry for each image, in order, and a reason in place of what cannot be had."""

from __future__ import annotations

import gzip
import io
import os
import struct
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from infoae.data.convert import UnreadableImageError
from infoae.deploy.batch import decode
from infoae.deploy.bundle import ImageSpec
from infoae.deploy.sources import BLOCK_BYTES, Encoded, in_blocks, key_of, open_sources
from infoae.errors import InfoAEError

IMAGE = ImageSpec(channels=1, height=28, width=28)
PIXELS = np.random.default_rng(0).integers(0, 256, (50, 28, 28), np.uint8)


def png(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[index]).save(buffer, "PNG")
    return buffer.getvalue()


def read(
    *inputs: str | Path, column: str | None = None, size: int = 7
) -> tuple[list[str], np.ndarray, list[str | None]]:
    """Everything in `inputs`: keys, the pixels of the readable ones, and what is wrong with the others."""
    keys: list[str] = []
    images, errors = [np.empty((0, 1, 28, 28), np.uint8)], []
    sources = open_sources([str(given) for given in inputs], IMAGE, column=column)
    for source in sources:
        for block in source.blocks(size):
            assert 0 < len(block) <= size
            decoded = decode(block, IMAGE)
            keys += decoded.keys
            images.append(decoded.images)
            errors += decoded.errors
    counts = [source.count() for source in sources]
    if None not in counts and not any("unreadable after" in str(error) for error in errors):
        assert sum(filter(None, counts)) == len(keys)
    return keys, np.concatenate(images), errors


def idx(images: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, images.ndim) + struct.pack(f">{images.ndim}I", *images.shape) + images.tobytes()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


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
        (np.zeros((3, 32, 32), np.uint8), r"has shape \(3, 32, 32\): this model takes \(N, 1, 28, 28\)"),
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


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.idx", "x.parquet", "x.tar"])
@pytest.mark.parametrize("content", [b"", b"nonsense" * 9, bytes(100)])
def test_damaged_containers_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    if name == "x.tar" and content == bytes(100):
        pytest.skip("zeros are how a tar archive ends")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InfoAEError, match=f"{name}") as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


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
        with pytest.raises(InfoAEError, match="cannot read"):
            read(path)
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
