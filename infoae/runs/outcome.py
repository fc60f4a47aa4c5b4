"""What the last command that trained a run came to, and which workers it lost: status.json, for `infoae status`.

How far a run is stands in metrics.jsonl and its checkpoints alone. What is written here is for people: that it cannot
be written ends no training.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from infoae.errors import InfoAEError, UnavailableError, one_line
from infoae.files import write_json
from infoae.runs.run import STATUS, Run
from infoae.runs.storage import Storage


class Outcome(BaseModel):
    """What status.json says."""

    model_config = ConfigDict(extra="ignore", frozen=True)  # of a later infoae, too

    state: Literal["training", "ended", "stopped", "failed"]
    """Training is also what a command says that was killed; ended is finished, or stopped by Ctrl-C and saved."""
    host: str
    pid: int
    """Of the command, on `host`."""
    started: str
    """As all times here: ISO 8601, UTC."""
    changed: str
    """When this was written."""
    error: str | None = None
    """What ended a command that failed."""
    restarts: int = 0
    """After lost workers or machines."""
    lost: str | None = None
    """What was lost last, and when."""


def read(run: Run) -> Outcome | None:
    """Return what is known, None of runs of earlier versions. Raises InfoAEError if the file is damaged."""
    path = run.path / STATUS
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): remove it, it is made again") from None


@contextmanager
def recorded(run: Run, storage: Storage | None = None) -> Iterator[None]:
    """Write down, here and in the storage, that this command trains the run, and what that comes to."""
    outcome = Outcome(state="training", host=socket.gethostname(), pid=os.getpid(), started=_now(), changed=_now())
    _write(run, storage, outcome)
    try:
        yield
    except KeyboardInterrupt:
        _change(run, storage, state="stopped")
        raise
    except Exception as error:
        what = str(error) if isinstance(error, InfoAEError) else f"{type(error).__name__}: {one_line(error)}"
        _change(run, storage, state="failed", error=what)
        raise
    _change(run, storage, state="ended")


def restarted(run: Run, storage: Storage | None, restarts: int, lost: str) -> None:
    """Write down that something was lost, and how often training was started again."""
    _change(run, storage, restarts=restarts, lost=f"{lost}, {_now()}")


def _change(run: Run, storage: Storage | None, **values: object) -> None:
    with suppress(InfoAEError):
        if (outcome := read(run)) is not None:
            _write(run, storage, outcome.model_copy(update=values | {"changed": _now()}))


def _write(run: Run, storage: Storage | None, outcome: Outcome) -> None:
    with suppress(OSError):
        write_json(run.path / STATUS, outcome.model_dump(exclude_none=True))
    if storage is not None:
        with suppress(UnavailableError):
            storage.push_file(run, STATUS)


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
