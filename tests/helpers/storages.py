"""Places that a run is stored in: a folder, and a bucket of moto's server, which speaks S3 in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infoae.runs.storage import Storage


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[Storage]:
    """Yield an empty storage of a kind, folder or s3."""
    if kind == "folder":
        yield Storage(str(folder / "store"))
        return
    pytest.importorskip("moto")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "s3.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        until = time.monotonic() + 120
        while not _answers(port):
            assert server.poll() is None, (folder / "s3.log").read_text()
            assert time.monotonic() < until, "the server does not answer"
            time.sleep(0.2)
        options = f"scheme=http&endpoint_override=127.0.0.1:{port}&region=us-east-1&allow_bucket_creation=true"
        yield Storage(f"s3://key:secret@bucket/runs?{options}")
    finally:
        server.kill()
        server.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5):
            return True
    except OSError:
        return False
