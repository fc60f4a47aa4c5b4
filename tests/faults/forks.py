"""Trying what may crash, hang or fill the memory: in a fork of this process, which is replaced when it ends."""

from __future__ import annotations

import json
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

SECONDS = 20
"""Of the processor, for one trial; 20 times as many of a clock, for other work may take the processor."""
BYTES = 2 * 1024**3
"""That a process may take for trials. Images of 64 megapixels, which are allowed, take half of that."""
ENDED = {"SIGPROF": f"more than {SECONDS} s", "SIGALRM": "it waits"}


def limit_memory() -> None:
    """Let this process take BYTES more than it has."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    most = int(status["VmData"].split()[0]) * 1024 + BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def outcomes(
    count: int, begin: Callable[[], object], trial: Callable[[int], str | None], seconds: float = SECONDS
) -> Iterator[tuple[int, str | None]]:
    """Yield each number below `count`, and what `trial` of it returned, or how the process of it ended.

    A process begins with `begin`, in an empty folder, and tries one number after the other until one ends it.
    """
    number = 0
    while number < count:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            _work(range(number, count), begin, trial, seconds, writing)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as lines:
            for line in lines:
                yield number, json.loads(line)
                number += 1
        status = os.waitpid(pid, 0)[1]
        if number < count:
            ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {status >> 8}"
            yield number, ENDED.get(ended, f"the process ended: {ended}")
            number += 1


def _work(
    numbers: range, begin: Callable[[], object], trial: Callable[[int], str | None], seconds: float, pipe: int
) -> NoReturn:
    """Be the process that tries."""
    code = 1
    try:
        with tempfile.TemporaryDirectory() as folder, os.fdopen(pipe, "w", encoding="utf-8") as told:
            os.chdir(folder)
            begin()
            limit_memory()
            for number in numbers:
                signal.setitimer(signal.ITIMER_PROF, seconds)  # which end the process, whatever it is in
                signal.setitimer(signal.ITIMER_REAL, 20 * seconds)
                found = trial(number)
                signal.setitimer(signal.ITIMER_PROF, 0)
                signal.setitimer(signal.ITIMER_REAL, 0)
                told.write(json.dumps(found) + "\n")
                told.flush()
        code = 0
    finally:
        os._exit(code)
