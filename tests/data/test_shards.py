from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infoae import data, planning
from infoae.config import Config, Data, recipes
from infoae.data import ImageSet, ShardSet
from infoae.data.sampler import batches
from infoae.data.shards import MIXED_SHARDS, Shards
from infoae.errors import InfoAEError, UsageError
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.inputs import write_shards
from tests.helpers.settings import SMALL


def test_shards_are_indexed_as_one_array(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (23, 2, 3, 3), dtype=np.uint8)
    for index, part in enumerate(np.array_split(images, 20)):
        np.save(tmp_path / f"{index:02}.npy", part)
    shards = Shards(tmp_path)
    assert (shards.shape, len(shards), len(shards.sizes)) == (images.shape, 23, 20)
    for rows in (np.array([22, 0, 7, 7, 3]), np.arange(23), slice(5), slice(4, 19), np.array([], np.int64)):
        np.testing.assert_array_equal(shards[rows], images[rows])


@given(st.integers(0, 5), st.lists(st.integers(1, 9), min_size=1, max_size=40), st.integers(2, 20))
def test_each_image_of_many_shards_is_seen_once_among_few_of_them(seed: int, sizes: list[int], batch_size: int) -> None:
    count = sum(sizes)
    order = np.concatenate(batches(seed, 1, count, batch_size, sizes))
    assert sorted(order.tolist()) == list(range(count))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[order]
    seen = [shard_of.tolist().index(shard) for shard in range(len(sizes))]
    last = [count - 1 - shard_of[::-1].tolist().index(shard) for shard in range(len(sizes))]
    for position in range(count):
        assert sum(first <= position <= end for first, end in zip(seen, last, strict=True)) <= MIXED_SHARDS


def test_the_order_of_shards_differs_by_epoch() -> None:
    sizes = [3] * 30
    assert (
        np.concatenate(batches(0, 0, 90, 10, sizes)).tolist() != np.concatenate(batches(0, 1, 90, 10, sizes)).tolist()
    )


@pytest.mark.parametrize("num_shards", [3, 20])
def test_training_on_shards_is_training_on_the_array(
    num_shards: int, tmp_path: Path, tiny_config: Config, mnist: tuple[ImageSet, ImageSet]
) -> None:
    train, test = mnist
    write_shards(tmp_path / "data", train.images, num_shards, test)
    shards = data.load_training(Data(name="shards", root=tmp_path / "data"))
    assert isinstance(shards, ShardSet)

    def trained(name: str, images: ImageSet | ShardSet) -> Trainer:
        run = Run.create(tmp_path, name, "test", tiny_config)
        trainer = Trainer(run, tiny_config, images, torch.device("cpu"), torch.float32)
        if num_shards > MIXED_SHARDS:
            trainer.shard_sizes = shards.images.sizes  # the same order; few shards are mixed as an array is
        trainer.fit([])
        return trainer

    one, other = trained("memory", train), trained("shards", shards)
    states = [trainer.step.model.state_dict() for trainer in (one, other)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    scores = [[line for line in trainer.run.metrics() if "evaluation/recovered" in line] for trainer in (one, other)]
    assert len(scores[0]) == 2
    assert [s["evaluation/mutual_information"] for s in scores[0]] == [
        s["evaluation/mutual_information"] for s in scores[1]
    ]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.data())
def test_the_first_rows_of_shards_are_shards(sizes: list[int], drawn: st.DataObject) -> None:
    images = np.arange(sum(sizes) * 4, dtype=np.uint8).reshape(-1, 2, 2)
    with tempfile.TemporaryDirectory() as folder:
        for index, part in enumerate(np.split(images, np.cumsum(sizes)[:-1])):
            np.save(Path(folder) / f"{index}.npy", part)
        count = drawn.draw(st.integers(1, len(images)))
        first = Shards(Path(folder)).first(count)
        assert len(first) == sum(first.sizes) == first.shape[0] == count
        assert all(size <= whole for size, whole in zip(first.sizes, sizes, strict=False))
        rows = np.array(drawn.draw(st.lists(st.integers(0, count - 1))), np.int64)
        np.testing.assert_array_equal(first[rows], images[rows, None])
        np.testing.assert_array_equal(first[:], images[:count, None])


@pytest.mark.parametrize("limit", [None, 250])
def test_held_out_images_are_the_last_and_not_trained_on(
    limit: int | None, tmp_path: Path, mnist: tuple[ImageSet, ImageSet]
) -> None:
    train, test = mnist
    write_shards(tmp_path, train.images, 7, test)
    loaded = data.load_training(Data(name="shards", root=tmp_path, limit=limit, held_out=60))
    kept = (limit or 300) - 60
    assert isinstance(loaded, ShardSet if limit is None else ImageSet)
    assert loaded.held_out is not None
    np.testing.assert_array_equal(loaded.images[:], train.images[:kept])
    np.testing.assert_array_equal(loaded.held_out, train.images[kept : kept + 60])
    with pytest.raises(UsageError, match=r"data\.held_out 400 leave none of (300|250) images to train on"):
        data.load_training(Data(name="shards", root=tmp_path, limit=limit, held_out=400))


def test_a_limit_and_the_test_split_are_read_into_memory(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> None:
    train, test = mnist
    write_shards(tmp_path, train.images, 7, test)
    limited = data.load_training(Data(name="shards", root=tmp_path, limit=50))
    assert isinstance(limited, ImageSet)
    np.testing.assert_array_equal(limited.images, train.images[:50])
    loaded = data.load(Data(name="shards", root=tmp_path), "test")
    np.testing.assert_array_equal(loaded.images, test.images)
    assert loaded.labels is not None
    assert test.labels is not None
    assert loaded.labels.tolist() == test.labels.tolist()
    (tmp_path / "test_labels.npy").unlink()
    assert data.load(Data(name="shards", root=tmp_path), "test").labels is None


def test_memory_stays_flat_on_more_data_than_its_bound(tmp_path: Path) -> None:
    """An epoch over 600 MB in 60 shards: two groups of 8 shards are mapped at most, 160 MB."""
    shard = np.zeros((1000, 1, 100, 100), np.uint8)
    for index in range(60):
        shard[:] = index
        np.save(tmp_path / f"{index:02}.npy", shard)
    program = (
        "import resource, sys\nfrom pathlib import Path\nfrom infoae.data.shards import Shards\n"
        "from infoae.data.sampler import batches\nshards = Shards(Path(sys.argv[1]))\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "before, total = peak(), 0\n"
        "for rows in batches(0, 0, len(shards), 100, shards.sizes): total += int(shards[rows][:, 0, 0, 0].sum())\n"
        "print(total, peak() - before)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=120, check=True
    )
    total, growth = result.stdout.split()
    assert int(total) == 1000 * sum(range(60))
    assert float(growth) < 200


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (lambda folder: (folder / "0.npy").rename(folder / "0.txt"), "no shards in .*uint8 images"),
    "floats": (lambda folder: np.save(folder / "1.npy", np.zeros((3, 1, 28, 28))), "1.npy holds float64 .*uint8"),
    "flat": (lambda folder: np.save(folder / "1.npy", np.zeros((3, 784), np.uint8)), "1.npy holds uint8 .3, 784."),
    "other size": (
        lambda folder: np.save(folder / "1.npy", np.zeros((3, 1, 32, 32), np.uint8)),
        r"1.npy has images \(1, 32, 32\), 0.npy has \(1, 28, 28\)",
    ),
    "truncated": (lambda folder: os.truncate(folder / "0.npy", 1000), "0.npy cannot be read"),
    "empty": (lambda folder: (folder / "1.npy").touch(), "1.npy cannot be read"),
    "no npy": (lambda folder: (folder / "1.npy").write_text("hello"), "1.npy cannot be read"),
    "objects": (lambda folder: np.save(folder / "1.npy", np.array([{}]), allow_pickle=True), "1.npy cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_shards_that_are_none_are_one_clear_line(damage: str, tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.zeros((3, 1, 28, 28), np.uint8))
    act, message = DAMAGES[damage]
    act(tmp_path)
    with pytest.raises(InfoAEError, match=message) as caught:
        Shards(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_shard_that_goes_away_while_training_is_one_clear_line(tmp_path: Path) -> None:
    np.save(tmp_path / "0.npy", np.zeros((3, 1, 28, 28), np.uint8))
    shards = Shards(tmp_path)
    (tmp_path / "0.npy").unlink()
    with pytest.raises(InfoAEError, match=r"0\.npy cannot be read"):
        shards[:2]


def test_labels_must_fit_the_test_images(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> None:
    write_shards(tmp_path, mnist[0].images, 2, mnist[1])
    np.save(tmp_path / "test_labels.npy", np.arange(-1, 499))
    with pytest.raises(InfoAEError, match="holds -1: classes are 0 and up"):
        data.load(Data(name="shards", root=tmp_path), "test")
    np.save(tmp_path / "test_labels.npy", np.zeros(3, np.int64))
    with pytest.raises(InfoAEError, match=r"test_labels.npy holds int64 \(3,\).*500"):
        data.load(Data(name="shards", root=tmp_path), "test")
    with pytest.raises(UsageError, match=r"shards needs the folder it lies in: --data-root DIR$"):
        data.load_training(Data(name="shards"))


def test_test_images_of_another_shape_are_refused_before_training(
    tmp_path: Path, mnist: tuple[ImageSet, ImageSet]
) -> None:
    write_shards(tmp_path, mnist[0].images, 2, ImageSet(mnist[1].images[..., :20, :20], mnist[1].labels))
    with pytest.raises(UsageError, match=r"test images of shards are \(500, 1, 20, 20\), those to train on are"):
        planning.planned("smoke", ["data.name=shards", f"data.root={tmp_path}"], tmp_path / "runs", None)


def test_the_command_trains_on_shards_and_resumes_from_another_folder(
    tmp_path: Path, mnist: tuple[ImageSet, ImageSet]
) -> None:
    write_shards(tmp_path / "digits", mnist[0].images, 12, mnist[1])
    (tmp_path / "elsewhere").mkdir()
    settings = [part for setting in SMALL for part in ("--set", setting)]

    def infoae(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from infoae.cli.main import main; main()", "train", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)

    options = ("--data", "shards", "--data-root", "digits", "--name", "r", "--epochs", "1", "--json")
    first = infoae(tmp_path, "--config", "smoke", *settings, *options)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["step"] == 6
    assert recipes.load(tmp_path / "runs" / "r" / "config.yaml").data.root == tmp_path / "digits"
    again = infoae(tmp_path / "elsewhere", "--resume", str(tmp_path / "runs" / "r"), "--epochs", "2", "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["step"] == 12
    (tmp_path / "digits" / "train" / "00003.npy").write_bytes(b"")
    broken = infoae(tmp_path, "--resume", "r", "--epochs", "3")
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
    assert "00003.npy cannot be read" in broken.stderr
