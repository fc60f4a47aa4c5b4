"""A program: it copies a run to a storage as a worker does, and says when it begins and when it has ended.

python -m tests.faults.uploading RUN-FOLDER STORAGE
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from infoae.runs.run import Run
from infoae.runs.storage import Storage
from infoae.runs.uploads import Uploads


def main(folder: str, uri: str) -> None:
    """Copy it once; the seconds that this takes are what is said at the end."""
    with Uploads(Storage(uri), Run(Path(folder))) as uploads:
        print("begins", flush=True)  # noqa: T201
        started = time.perf_counter()
        uploads.push()
    print(time.perf_counter() - started, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
