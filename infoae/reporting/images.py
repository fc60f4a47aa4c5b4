"""Progress in images on standard error: a bar on a terminal, else a line every few seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

LINE_SECONDS = 5.0


@contextmanager
def progress(verb: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more images are done; the `done` ones at the start cost no time.

    Shows images/s, and the time left where `total` is known.
    """
    if sys.stderr.isatty():
        with _bar(verb, total, done) as advance:
            yield advance
    else:
        yield _lines(verb, total, done)


@contextmanager
def _bar(verb: str, total: int | None, done: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed or 0:,.0f} images/s")

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(verb, total=total, completed=done)
        yield lambda count: bar.advance(task, count)


def _lines(verb: str, total: int | None, done: int) -> Callable[[int], None]:
    start = last = time.monotonic()
    here = 0

    def advance(count: int) -> None:
        nonlocal here, last
        here += count
        now = time.monotonic()
        if now - last < LINE_SECONDS:
            return
        last = now
        rate = here / (now - start)
        line = f"{verb}: {done + here}{f' of {total}' if total else ''} images, {rate:,.0f} images/s"
        if total:
            line += f", ETA {timedelta(seconds=round(max(0, total - done - here) / rate))}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    return advance
