"""Training on shards that lie in an object store, a real server, is training on those of a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from infoae import kept
from infoae.config import Data
from infoae.data import load
from infoae.data.shards import Shards
from infoae.errors import InfoAEError
from infoae.runs.run import Run
from tests.helpers.commands import call, run
from tests.helpers.s3 import S3Server
from tests.helpers.shard_runs import SHARD_SETTINGS, fresh, metrics, newest, train


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_training_from_it_is_training_from_the_folder_bit_by_bit(
    processes: int, server: S3Server, digits: Path, tmp_path: Path
) -> None:
    address = server.put(digits, "some/digits")
    given = ("--set", f"train.processes={processes}", "--epochs")
    folder = train("--data", str(digits), "--name", "folder", *given, "2", cwd=tmp_path)
    assert folder.returncode == 0, folder.stderr
    begun = train("--data", address, "--name", "store", *given, "1", cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    assert Run.open("store", tmp_path / "runs").config().data.described() == f"shards in {address}"
    shutil.rmtree(tmp_path / "cache")  # as on another machine
    resumed = call("train", "--resume", "store", "--epochs", "2", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    one, other = tmp_path / "runs" / "folder", tmp_path / "runs" / "store"
    assert newest(one) == newest(other)
    assert metrics(one)[-6:] == metrics(other)[-6:]


def test_a_shard_that_changed_is_refused_by_its_name(server: S3Server, digits: Path, tmp_path: Path) -> None:
    address = server.put(digits, "digits")
    begun = train("--data", address, "--name", "r", "--epochs", "1", cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    shards = Shards(f"{address}/train")
    changed = np.load(digits / "train" / "00003.npy")
    changed[7, 0, 0, 0] ^= 1
    np.save(digits / "changed.npy", changed)
    server.write("digits/train/00003.npy", (digits / "changed.npy").read_bytes())
    resumed = call("train", "--resume", "r", "--epochs", "2", cwd=tmp_path)
    assert resumed.returncode == 1
    assert f"shard train/00003.npy of {address} has changed since run r began" in resumed.stderr
    assert resumed.stderr.count("\n") == 1
    np.testing.assert_array_equal(shards[75:100], np.load(digits / "train" / "00003.npy"))  # there is a copy
    shutil.rmtree(kept.cache_folder())
    assert len(shards[:75]) == 75
    with pytest.raises(InfoAEError, match=r"s3://bucket/digits/train/00003\.npy has changed since this command began"):
        Shards.__getitem__(fresh(shards), slice(75, 100))


def test_convert_writes_to_the_store_what_it_writes_to_a_folder(server: S3Server, tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", np.random.default_rng(0).integers(0, 256, (60, 16, 16), np.uint8))
    given = ("convert", "pictures.npy", "--size", "16", "--channels", "1", "--out")
    assert call(*given, "folder", cwd=tmp_path).returncode == 0
    told = call(*given, "s3://bucket/new", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "next: infoae train --data s3://bucket/new\n" in told.stderr
    for split in ("train", "test"):
        images = load(Data(name="shards", root=tmp_path / "folder"), split).images
        np.testing.assert_array_equal(load(Data(name="shards", uri="s3://bucket/new"), split).images, images)
    again = call(*given, "s3://bucket/new", cwd=tmp_path)
    assert again.returncode == 1
    assert "s3://bucket/new holds 00000.npy and more in train" in again.stderr
    refused = call(*given, "file:///sys/new", cwd=tmp_path)
    assert refused.stderr.startswith("error: file:///sys/new/unfinished refuses these credentials (")
    server.write("new/unfinished", b"")
    half = train("--data", "s3://bucket/new", cwd=tmp_path)
    assert half.returncode == 1
    assert "s3://bucket/new is not whole: infoae convert did not end there" in half.stderr
    assert call(*given, "s3://bucket/new", cwd=tmp_path).returncode == 0
    assert len(load(Data(name="shards", uri="s3://bucket/new"), "train").images) == 54
    assert not list(kept.cache_folder().glob(".upload*"))


@pytest.mark.slow
def test_workers_of_a_cluster_share_one_copy_and_train_as_from_the_folder(
    server: S3Server, digits: Path, tmp_path: Path
) -> None:
    address = server.put(digits, "digits")
    for name, place in (("folder", str(digits)), ("store", address)):
        given = ("--data", place, "--name", name, "--epochs", "1", "--workers-per-node", "2")
        done = run("train", "--config", "smoke", *SHARD_SETTINGS, *given, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert newest(tmp_path / "runs" / "folder") == newest(tmp_path / "runs" / "store")
    reads = server.num_reads()
    command, workers, header, copy = 1, 2, 1, 1
    assert {reads[f"digits/train/{number:05}.npy"] for number in range(12)} == {header * (command + workers) + copy}
