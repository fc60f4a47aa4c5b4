from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoae import data
from infoae.config import Data
from infoae.data import bundled_mnist
from infoae.data.idx import parse_idx
from infoae.errors import InfoAEError, UsageError


def idx(values: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def test_the_bundled_mnist_is_the_real_one() -> None:
    train, test = data.load(Data(), "train"), data.load(Data(), "test")
    assert train.images.shape == (60000, 1, 28, 28)
    assert test.images.shape == (10000, 1, 28, 28)
    assert train.images.dtype == test.images.dtype == np.uint8
    assert train.labels is not None
    assert test.labels is not None
    assert np.bincount(test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(train.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert train.images.mean() == pytest.approx(0.1307 * 255, abs=0.02)  # the field's usual constant


def test_the_limit_shortens_the_training_images_only() -> None:
    assert len(data.load(Data(limit=7), "train")) == 7
    assert len(data.load(Data(limit=7), "test")) == 10000


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed", "not gzip"])
def test_damaged_bundled_files_are_one_clear_line(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = idx(np.zeros(10, np.uint8))
    if damage == "truncated":
        path.write_bytes(gzip.compress(content)[:-9])
    elif damage == "changed":
        path.write_bytes(gzip.compress(content))
    elif damage == "not gzip":
        path.write_bytes(b"hello")
    monkeypatch.setattr(bundled_mnist, "files", lambda _: tmp_path)
    with pytest.raises(InfoAEError, match=r"t10k-labels-idx1-ubyte.gz .*reinstall infoae"):
        bundled_mnist.read("t10k-labels-idx1-ubyte")


def test_the_licence_lies_beside_the_files_with_the_same_hashes() -> None:
    text = (Path(data.__file__).parent / "mnist" / "LICENSE.md").read_text()
    assert "CC BY-SA 3.0" in text
    for name, digest in bundled_mnist.MD5.items():
        assert f"| {name} | {digest} |" in text


@given(st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 255))
def test_idx_round_trip(shape: list[int], value: int) -> None:
    values = np.full(shape, value, np.uint8)
    np.testing.assert_array_equal(parse_idx(idx(values)), values)


@given(st.binary(max_size=40))
def test_any_bytes_are_idx_or_a_reason(content: bytes) -> None:
    try:
        values = parse_idx(content)
    except ValueError as error:
        assert str(error)
    else:
        assert idx(values) == content


def test_idx_files_of_other_types_or_lengths_are_refused() -> None:
    good = idx(np.zeros((2, 3), np.uint8))
    for bad, reason in [
        (good[:-1], "promises 6"),
        (good + b"x", "promises 6"),
        (b"\0\0\x0d\x01" + good[4:], "float32"),
    ]:
        with pytest.raises(ValueError, match=reason):
            parse_idx(bad)


def write_fashion_mnist(root: Path, count: int) -> np.ndarray:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    return images


def test_a_torchvision_data_set_is_read_from_its_folder(tmp_path: Path) -> None:
    images = write_fashion_mnist(tmp_path, 12)
    loaded = data.load(Data(name="fashion-mnist", root=tmp_path, limit=5), "train")
    np.testing.assert_array_equal(loaded.images, images[:5, None])
    assert loaded.labels is not None
    assert loaded.labels.tolist() == [0, 1, 2, 3, 4]


def test_cifar10_becomes_channels_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    from torchvision import datasets

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.arange(2 * 3072, dtype=np.uint32).astype(np.uint8).reshape(2, 3072)
    (folder / "test_batch").write_bytes(pickle.dumps({"data": pixels, "labels": [3, 4]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["x"] * 10}))
    digest = {
        name: hashlib.md5((folder / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in ("test_batch", "batches.meta")
    }
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [["test_batch", digest["test_batch"]]])
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": digest["batches.meta"]})
    loaded = data.load(Data(name="cifar10", root=tmp_path), "test")
    np.testing.assert_array_equal(loaded.images, pixels.reshape(2, 3, 32, 32))


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "emnist", "usps", "svhn", "cifar10"])
def test_data_that_is_not_there_says_how_to_get_it(name: Any, tmp_path: Path) -> None:
    with pytest.raises(InfoAEError, match=rf"{name} under .*--download") as caught:
        data.load(Data(name=name, root=tmp_path / "none"), "train")
    assert "\n" not in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with pytest.raises(UsageError, match="--data-root"):
        data.load(Data(name=name), "train")


def test_a_truncated_torchvision_file_is_one_clear_line(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, 12)
    path = tmp_path / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InfoAEError, match="fashion-mnist under"):
        data.load(Data(name="fashion-mnist", root=tmp_path), "train")


@pytest.mark.parametrize("images", [b"\0\0\x01\x03" + bytes(40), b"\0\0\x08\x09" + bytes(40), b"\0", b""])
def test_a_torchvision_file_of_another_kind_is_one_clear_line(images: bytes, tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, 12)
    (tmp_path / "FashionMNIST/raw/train-images-idx3-ubyte").write_bytes(images)
    with pytest.raises(InfoAEError, match=r"fashion-mnist under .* cannot be read: "):
        data.load(Data(name="fashion-mnist", root=tmp_path), "train")


def test_torchvision_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path, 12)
    (tmp_path / "FashionMNIST/raw/train-labels-idx1-ubyte").write_bytes(idx(np.arange(11, dtype=np.uint8)))
    with pytest.raises(InfoAEError, match="has 12 images and 11 labels"):
        data.load(Data(name="fashion-mnist", root=tmp_path), "train")
