"""Places that a run is stored in: a folder, and a bucket of a server that speaks S3."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infoae.runs.storage import Storage
from tests.helpers.s3 import BUCKET, S3Server


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[Storage]:
    """Yield an empty storage of a kind, folder or s3."""
    if kind == "folder":
        yield Storage(str(folder / "store"))
        return
    server = S3Server(folder)
    server.start()
    try:
        options = f"scheme=http&endpoint_override=127.0.0.1:{server.port}&region=us-east-1"
        yield Storage(f"s3://key:secret@{BUCKET}/runs?{options}")
    finally:
        server.stop()
