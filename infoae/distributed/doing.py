"""What this process does at the moment, for a thread beside it that tells others: they find whoever is stuck."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

SLOW = 10
"""Times as long as another wait may last: a rank's part of a step, and waits of the first, which sets up much."""


@dataclass(frozen=True)
class Doing:
    """One thing that a process does."""

    what: str
    waits: bool
    """For other ranks, or for the device."""
    patience: float
    """How long it may last, in the longest that a wait may; infinite for an evaluation and the like."""
    since: float
    """In seconds of time.monotonic()."""

    @property
    def seconds(self) -> float:
        """How long it has lasted."""
        return time.monotonic() - self.since


_now = Doing("what comes before its first step", waits=False, patience=math.inf, since=time.monotonic())
_stepped = False


def now() -> Doing:
    """Return what this process does; any thread may ask."""
    return _now


@contextmanager
def step(number: int) -> Iterator[None]:
    """Say within that step `number` is computed, counted from 1."""
    global _now, _stepped
    _now = Doing(f"step {number}", waits=False, patience=SLOW, since=time.monotonic())
    yield
    _now = Doing(f"what follows step {number}", waits=False, patience=math.inf, since=time.monotonic())
    _stepped = True


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say within that this process waits for `what`, in which other ranks or the device have a part."""
    global _now
    before = _now
    text = before.what if before.waits else f"{before.what}, waiting for {what}"
    _now = Doing(text, waits=True, patience=1 if _stepped else SLOW, since=time.monotonic())
    try:
        yield
    finally:
        _now = replace(before, since=time.monotonic())
