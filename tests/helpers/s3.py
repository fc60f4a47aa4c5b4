"""A server that speaks S3: moto's, in a process of its own, which can be killed and started again."""

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
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import quote

BUCKET = "bucket"

AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
"""What the server takes for anybody's, unless it is told to look."""

# Filled before it listens: one that is back has what it had.
PROGRAM = """
import sys
from pathlib import Path
from urllib.parse import quote
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server
from werkzeug.test import Client

address, port, bucket, folder = sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
app = DomainDispatcherApplication(create_backend_app)
client = Client(app)
client.put(f"/{bucket}")
for path in folder.rglob("*"):
    if path.is_file():
        client.put(quote(f"/{bucket}/{path.relative_to(folder)}"), data=path.read_bytes())
make_server(address, port, app, threaded=True).serve_forever()
"""


class S3Server:
    """A server on a port of this machine with one bucket, which holds what was put there whenever it runs.

    It listens at one `address` of this machine alone.
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self._address = address
        with socket.socket() as probe:
            probe.bind((address, 0))
            self.port: int = probe.getsockname()[1]
        self._log, self._objects = folder / "s3-server.log", folder / "s3-objects"
        self._objects.mkdir()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a command is told to use it."""
        return {
            "AWS_ENDPOINT_URL": f"http://{self._address}:{self.port}",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def start(self, **settings: str) -> None:
        """Start it, with what it held when it was stopped."""
        arguments = [self._address, str(self.port), BUCKET, str(self._objects)]
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *arguments]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | settings)
        end = time.monotonic() + 60
        while True:
            try:
                self._ask("GET", "/moto-api/data.json")
                break
            except (OSError, HTTPException):
                assert self._process.poll() is None, self._log.read_text()
                assert time.monotonic() < end, "the server does not answer"
                time.sleep(0.1)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self, seconds: float) -> None:
        """Let it answer nothing for so long; returns at once."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        threading.Timer(seconds, os.kill, (self._process.pid, signal.SIGCONT)).start()

    def put(self, folder: Path, path: str) -> str:
        """Copy a folder into the bucket, and return its address there."""
        for file in folder.rglob("*"):
            if file.is_file():
                self.write(f"{path}/{file.relative_to(folder)}", file.read_bytes())
        return f"s3://{BUCKET}/{path}"

    def write(self, path: str, content: bytes) -> None:
        """Put one object into the bucket, in place of an earlier one."""
        kept = self._objects / path
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
        self._ask("PUT", quote(f"/{BUCKET}/{path}"), content)

    def num_reads(self) -> Counter[str]:
        """Return how often the content of each object was asked for, by its path in the bucket."""
        return Counter(re.findall(rf'"GET /{BUCKET}/([^ ?]+) HTTP', self._log.read_text()))

    def _ask(self, method: str, path: str, content: bytes | None = None) -> None:
        connection = HTTPConnection(self._address, self.port, timeout=30)
        connection.request(method, path, content, {"Authorization": AUTHORIZATION})
        answer = connection.getresponse()
        said = answer.read()
        connection.close()
        assert answer.status == 200, said
