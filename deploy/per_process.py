"""What does not survive a fork: threads, and with them every pool and every session that has some.

A server that loads the model before it starts its workers (gunicorn --preload, multiprocessing) forks a process whose
pools have no threads: whoever hands them work waits for ever.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that is made now, and anew in each process forked from this one when it is first asked for."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made = {os.getpid(): make()}

    def get(self) -> T:
        """Return the value of this process."""
        process = os.getpid()
        # No lock: a thread of the parent might have held it. Two threads may make one each; the first to store counts.
        return self._made.get(process) or self._made.setdefault(process, self._make())
