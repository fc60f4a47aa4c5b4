"""An object store that is none, refuses or is out of reach, before a training and in the middle of it."""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from infoae import kept
from infoae.data import ImageSet, object_store
from infoae.runs.run import Run
from tests.helpers.commands import call
from tests.helpers.inputs import write_shards
from tests.helpers.s3 import S3Server
from tests.helpers.shard_runs import newest, train
from tests.helpers.waiting import wait_until


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


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2]


@pytest.mark.slow
def test_a_short_outage_is_waited_for_and_after_a_long_one_the_run_goes_on(
    server: S3Server, mnist: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(server, mnist, tmp_path, monkeypatch, epochs=2)
    trained = broken.run

    def outages() -> None:
        wait_until(lambda: (trained.path / "metrics.jsonl").exists())
        server.stop()
        time.sleep(4)
        server.start()
        wait_until(lambda: any(trained.checkpoints.glob("step-*")))
        server.stop()
        monkeypatch.setattr(object_store, "RETRY_SECONDS", 2.0)

    said = broken.train(outages)
    assert re.search(rf"{broken.address}/train/\d+\.npy cannot be reached: ", said)
    assert max(line.get("data_wait", 0.0) for line in trained.metrics()) > 0.5
    server.start()
    broken.go_on()


@pytest.mark.slow
def test_credentials_that_end_in_the_middle_of_a_run_leave_what_was_done(
    server: S3Server, mnist: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Broken(server, mnist, tmp_path, monkeypatch, epochs=4)
    trained = broken.run

    def end() -> None:
        wait_until(lambda: any(trained.checkpoints.glob("step-*")))
        server.stop()
        filled = 1 + sum(path.is_file() for path in (tmp_path / "digits").rglob("*"))
        server.start(INITIAL_NO_AUTH_ACTION_COUNT=str(filled))

    said = broken.train(end)
    assert re.search(rf"{broken.address}/train/\d+\.npy refuses these credentials \(", said)
    server.stop()
    server.start()
    broken.go_on()
