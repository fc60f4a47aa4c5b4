"""Training on shards that lie in an object store: a real server, which is killed, changed and asked by two at once."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from infoae import kept
from infoae.config import Data
from infoae.data import ImageSet, load, object_store
from infoae.data.shards import Shards
from infoae.distributed import local_group
from infoae.errors import InfoAEError
from infoae.runs.run import Run
from tests.helpers.commands import call, run
from tests.helpers.inputs import write_shards
from tests.helpers.s3 import S3Server
from tests.helpers.settings import SMALL

SETTINGS = [part for setting in (*SMALL, "data.limit=null") for part in ("--set", setting)]
SHARD_BYTES = 25 * 784 + 128


@pytest.fixture
def digits(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> Path:
    """300 training images in 12 shards, more than are mixed at a time, and 500 test images."""
    write_shards(tmp_path / "digits", mnist[0].images, 12, mnist[1])
    return tmp_path / "digits"


def train(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return call("train", "--config", "smoke", *SETTINGS, *arguments, cwd=cwd, **environment)


def newest(folder: Path) -> dict[str, bytes]:
    """Return all files of tensors of a run's newest checkpoint."""
    found = {file.name: file.read_bytes() for file in Run(folder).checkpoint("newest").glob("*.safetensors")}
    assert found
    return found


def metrics(folder: Path) -> list[dict[str, float]]:
    """Return all measures of a run that are no times."""
    times = ("seconds", "images_per_second", "data_wait")
    return [{name: value for name, value in line.items() if name not in times} for line in Run(folder).metrics()]


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


class Broken:
    """A training from the store that something ends, and the same from a folder, which nothing does."""

    def __init__(
        self,
        server: S3Server,
        mnist: tuple[ImageSet, ImageSet],
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        epochs: int,
    ) -> None:
        write_shards(folder / "digits", mnist[0].images, 24, mnist[1])
        monkeypatch.setattr(kept, "MAX_CACHE_BYTES", 1)  # all is copied in each epoch anew
        self.address, self._folder, self._last = server.put(folder / "digits", "digits"), folder, str(epochs)
        whole = self._train(str(folder / "digits"), "folder")
        assert whole.returncode == 0, whole.stderr
        self.run = Run(folder / "runs" / "store")

    def train(self, meanwhile: Callable[[], object]) -> str:
        """Train from the store until it is lost, and return its last word."""
        with ThreadPoolExecutor(1) as thread:
            done = thread.submit(meanwhile)
            lost = self._train(self.address, "store")
            done.result()
        assert lost.returncode == 1, lost.stderr
        return last_line(lost.stderr)

    def go_on(self) -> None:
        """Resume it, and see that it becomes what the other is."""
        again = call("train", "--resume", "store", cwd=self._folder)
        assert again.returncode == 0, again.stderr
        assert newest(self.run.path) == newest(self._folder / "runs" / "folder")

    def _train(self, source: str, name: str) -> subprocess.CompletedProcess[str]:
        return train("--data", source, "--name", name, "--epochs", self._last, cwd=self._folder)


@pytest.mark.slow
def test_a_short_outage_is_waited_for_and_after_a_long_one_the_run_goes_on(
    server: S3Server, mnist: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(server, mnist, tmp_path, monkeypatch, epochs=2)
    trained = broken.run

    def outages() -> None:
        wait_for(lambda: (trained.path / "metrics.jsonl").exists())
        server.stop()
        time.sleep(4)
        server.start()
        wait_for(lambda: any(trained.checkpoints.glob("step-*")))
        server.stop()
        monkeypatch.setattr(object_store, "RETRY_SECONDS", 2.0)

    said = broken.train(outages)
    assert re.search(rf"{broken.address}/train/\d+\.npy cannot be reached: ", said)
    assert max(line.get("data_wait", 0.0) for line in trained.metrics()) > 0.5
    server.start()
    broken.go_on()


def wait_for(there: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


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


def fresh(shards: Shards) -> Shards:
    """Return the same shards, of which none is open."""
    shards._opened.cache_clear()
    return shards


@pytest.mark.parametrize(
    ("address", "message", "code"),
    [
        ("s3://nowhere/digits", "s3://nowhere/digits/train: no such bucket or path", 2),
        ("s3://bucket/none", "no shards in s3://bucket/none/train: .npy files", 1),
        ("s3://key:secret@bucket/digits", "an address with a key in it", 2),
        ("s3://bucket/digits?regoin=x", "regoin is no option of such an address", 2),
        ("ftp://bucket/digits", "ftp://bucket/digits: give s3://bucket/path", 2),
    ],
)
@pytest.mark.usefixtures("server")
def test_a_place_that_is_none_is_one_line(address: str, message: str, code: int, tmp_path: Path) -> None:
    told = train("--data", address, cwd=tmp_path)
    assert told.returncode == code
    assert message in told.stderr
    assert "secret" not in told.stderr
    assert told.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_refused_credentials_and_a_server_out_of_reach_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3Server(tmp_path)
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 2.0)
    try:
        server.start(INITIAL_NO_AUTH_ACTION_COUNT="1")  # making the bucket
        refused = train("--data", "s3://bucket/digits", cwd=tmp_path, **server.environment)
    finally:
        server.stop()
    assert refused.returncode == 1
    assert "s3://bucket/digits/decoding.json refuses these credentials (" in refused.stderr
    gone = train("--data", "s3://bucket/digits", cwd=tmp_path, **server.environment)
    assert gone.returncode == 1
    assert "s3://bucket/digits/decoding.json cannot be reached: " in gone.stderr
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(object_store, "ANSWER_SECONDS", 2.0)
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        told = train(
            "--data", "s3://bucket/digits", cwd=tmp_path, **server.environment | {"AWS_ENDPOINT_URL": endpoint}
        )
    assert told.returncode == 1
    assert "s3://bucket/digits/decoding.json cannot be reached: " in told.stderr
    assert [each.stderr.count("\n") for each in (refused, gone, told)] == [1, 1, 1]


class Expired(BaseHTTPRequestHandler):
    """What S3 answers to a token that has expired; to HEAD without a body."""

    BODY = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"

    def do_GET(self) -> None:
        self.send_response(400)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(self.BODY)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(self.BODY)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_token_that_has_expired_ends_it_at_once(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Expired) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "old"}
        started = time.monotonic()
        told = train("--data", "s3://bucket/digits", cwd=tmp_path, **environment, **keys)
        server.shutdown()
    assert told.returncode == 1
    assert "s3://bucket/digits/decoding.json refuses these credentials (" in told.stderr
    assert told.stderr.count("\n") == 1
    assert time.monotonic() - started < object_store.RETRY_SECONDS


@pytest.mark.slow
def test_credentials_that_end_in_the_middle_of_a_run_leave_what_was_done(
    server: S3Server, mnist: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(server, mnist, tmp_path, monkeypatch, epochs=4)
    trained = broken.run

    def end() -> None:
        wait_for(lambda: any(trained.checkpoints.glob("step-*")))
        server.stop()
        filled = 1 + sum(path.is_file() for path in (tmp_path / "digits").rglob("*"))
        server.start(INITIAL_NO_AUTH_ACTION_COUNT=str(filled))

    said = broken.train(end)
    assert re.search(rf"{broken.address}/train/\d+\.npy refuses these credentials \(", said)
    server.stop()
    server.start()
    broken.go_on()


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
    wait_for(lambda: sum(entry.num_bytes for entry in kept.entries()) <= most)
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
    wait_for(lambda: len(kept.entries()) == 9)  # as many as are mixed at a time, and the one that is read
    for number in range(1, 30):
        shards.expect(order, number)
    wait_for(lambda: len(kept.entries()) == 12)
    server.stop()
    assert len(shards[:]) == 300


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
        done = run("train", "--config", "smoke", *SETTINGS, *given, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert newest(tmp_path / "runs" / "folder") == newest(tmp_path / "runs" / "store")
    reads = server.num_reads()
    command, workers, header, copy = 1, 2, 1, 1
    assert {reads[f"digits/train/{number:05}.npy"] for number in range(12)} == {header * (command + workers) + copy}


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
