"""A real S3 server on this machine: moto's, in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Self

from pyarrow import fs

BUCKET = "bucket"


class Store:
    """moto's S3 server in a process of its own, which keeps its objects in files of a folder. `peak` is its memory."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        self._folder, self.peak = folder, 0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        objects = self._folder / "objects"
        objects.mkdir()
        command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)]
        with (self._folder / "server.log").open("wb") as log:
            # Larger objects than a few MB are files, which have no name.
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"TMPDIR": str(objects)})
        self._wait()
        self.system = fs.S3FileSystem(endpoint_override=os.environ["AWS_ENDPOINT_URL"], allow_bucket_creation=True)
        self.system.create_dir(BUCKET)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._ended.set()
        self._process.kill()
        self._process.wait()

    def pause(self, seconds: float) -> None:
        """Have it answer nothing for so long."""
        os.kill(self._process.pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self._process.pid, signal.SIGCONT)

    def reads(self) -> Counter[str]:
        """Return how often the content of each object was asked for, by its path in the bucket."""
        log = (self._folder / "server.log").read_text(encoding="utf-8")
        return Counter(re.findall(rf'"GET /{BUCKET}/([^ ?]+) HTTP', log))

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
                connection.request("GET", "/moto-api/data.json")
                connection.getresponse().read()
                return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise SystemExit(f"the S3 server does not start: see {self._folder / 'server.log'}") from None
                time.sleep(0.1)

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            self.peak = max(self.peak, taken(self._process.pid))


def taken(pid: int) -> int:
    """Return the bytes of memory of a process that are no pages of files, 0 if it has gone."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
    return 0
