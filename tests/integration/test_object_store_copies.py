"""The copies of an object store's shards: how many, made when and by whom, of several processes too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from infoae import kept
from infoae.config import Data
from infoae.data import load
from infoae.data.shards import Shards
from infoae.distributed import local_group
from infoae.errors import InfoAEError
from tests.helpers.s3 import S3Server
from tests.helpers.shard_runs import fresh
from tests.helpers.waiting import wait_until

SHARD_BYTES = 25 * 784 + 128


def test_copies_take_no_more_than_they_may_and_the_longest_unused_go(
    server: S3Server, digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, images = server.put(digits, "digits"), load(Data(name="shards", root=digits), "train").images
    most = 3 * (SHARD_BYTES + 100)
    monkeypatch.setattr(kept, "MAX_CACHE_BYTES", most)
    shards = Shards(f"{address}/train")
    for number in (0, 1, 2, 0, 3):
        np.testing.assert_array_equal(fresh(shards)[25 * number : 25 * number + 25], images[25 * number :][:25])
    reads = server.num_reads()
    fresh(shards)[np.array([0, 50, 75])]
    assert server.num_reads() == reads  # but for 1, which went, all are there
    rows = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(shards[rows], images[rows])
    wait_until(lambda: sum(entry.num_bytes for entry in kept.entries()) <= most)
    assert {source for source, _ in kept.by_source(kept.entries())} == {address}
    assert len(kept.entries()) <= 3


READ = "import sys\nfrom infoae.data.shards import Shards\nprint(Shards(sys.argv[1])[:].sum())"


def test_two_processes_copy_each_shard_once(server: S3Server, digits: Path) -> None:
    address = f"{server.put(digits, 'digits')}/train"
    command = [sys.executable, "-c", READ, address]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    sums = {each.communicate(timeout=200)[0].strip() for each in both}
    assert sums == {str(load(Data(name="shards", root=digits), "train").images.sum())}
    headers, copies = 2, 1
    assert set(server.num_reads().values()) == {headers + copies}
    assert len(kept.entries()) == 12


def test_what_is_read_next_is_copied_meanwhile(server: S3Server, digits: Path) -> None:
    shards = Shards(f"{server.put(digits, 'digits')}/train")
    order = np.array_split(np.arange(300), 30)
    shards.expect(order, 0)
    wait_until(lambda: len(kept.entries()) == 9)  # as many as are mixed at a time, and the one that is read
    for number in range(1, 30):
        shards.expect(order, number)
    wait_until(lambda: len(kept.entries()) == 12)
    server.stop()
    assert len(shards[:]) == 300


def test_a_process_that_was_forked_has_its_copies_made_by_another(server: S3Server, digits: Path) -> None:
    shards = Shards(f"{server.put(digits, 'digits')}/train")

    def read(rows: slice) -> int:
        return 0 if local_group.is_first() else len(shards[rows])

    local_group.run(2, lambda: read(slice(50)))
    assert len(kept.entries()) == 2
    server.write("digits/train/00003.npy", (digits / "train" / "00004.npy").read_bytes())
    with pytest.raises(InfoAEError, match=r"digits/train/00003\.npy has changed since this command began"):
        local_group.run(2, lambda: read(slice(75, 100)))


def test_a_fork_while_copies_are_made_leaves_no_lock_behind(server: S3Server, digits: Path) -> None:
    shards = Shards(f"{server.put(digits, 'digits')}/train")
    server.pause(2)
    shards.expect(np.array_split(np.arange(300), 30), 0)
    time.sleep(0.5)
    found = local_group.run(2, lambda: shards[:200].sum())
    assert found == shards[:200].sum()
