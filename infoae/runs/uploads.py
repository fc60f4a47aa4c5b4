"""A run's copies to its storage while it is trained: by a thread beside the steps, which wait for none."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType

from infoae.runs.run import CHECKPOINTS, METRICS, STATE_FILES, Run
from infoae.runs.storage import Storage


class Uploads:
    """Copies the run as it is at each `push`, one at a time. Of those that wait for their turn the newest counts.

    As a context it ends when the last is stored, or with what went wrong.
    """

    def __init__(self, storage: Storage, run: Run) -> None:
        self._storage, self._run = storage, run
        self._scratch = Path(tempfile.mkdtemp(prefix=f".{run.name}-uploads-", dir=run.path.parent))
        self._lock = threading.Lock()
        self._waiting: Run | None = None
        self._running: Future[None] | None = None
        self._number = 0

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Wait for the last copy. Raises what went wrong with it, unless an error is on its way already."""
        try:
            if self._running is not None and (failed := self._running.exception()) is not None and error is None:
                raise failed
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def push(self) -> None:
        """Have the run copied as it is now. Raises UnavailableError if an earlier copy failed."""
        snapshot = self._snapshot()
        with self._lock:
            if self._running is not None and not self._running.done():
                replaced, self._waiting = self._waiting, snapshot
                if replaced is not None:
                    shutil.rmtree(replaced.path.parent)
                return
        if self._running is not None:
            self._running.result()
        self._running = Future()
        threading.Thread(target=self._upload, args=(snapshot, self._running), daemon=True).start()

    def _upload(self, snapshot: Run, running: Future[None]) -> None:
        """Copy `snapshot`, and then whatever has come to wait meanwhile."""
        try:
            while True:
                self._storage.push(snapshot)
                shutil.rmtree(snapshot.path.parent)
                with self._lock:
                    if self._waiting is None:
                        running.set_result(None)
                        return
                    snapshot, self._waiting = self._waiting, None
        except BaseException as error:
            running.set_exception(error)

    def _snapshot(self) -> Run:
        """Return the run as it is now, of links: training goes on, and removes checkpoints."""
        self._number += 1
        copy = Run(self._scratch / str(self._number) / self._run.name)
        copy.path.mkdir(parents=True)
        for name in STATE_FILES:
            if (self._run.path / name).exists():
                # Metrics alone are written to, the others are replaced.
                (shutil.copyfile if name == METRICS else os.link)(self._run.path / name, copy.path / name)
        if self._run.checkpoints.exists():
            for folder in self._run.checkpoints.glob("step-*"):
                shutil.copytree(folder, copy.path / CHECKPOINTS / folder.name, copy_function=os.link)
        return copy
