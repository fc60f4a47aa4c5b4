"""The progress bar of every command, on standard error: live on a terminal, plain lines in a log.

No torch here, and rich only where there is a terminal: the run-time half of deploy starts with it.
"""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

from infoae.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


NARROWEST = 12
"""Characters that a bar keeps beside a long note."""


class Bar:
    """How far a job is: `done` of `total` units, how fast, and how long is left; used as a context manager.

    On a terminal there is a bar, with `say` above it; elsewhere `advance` says so itself every LINE_SECONDS. Writes to
    the sys.stderr of when it is made, whatever that is redirected to later.
    """

    LINE_SECONDS: ClassVar[float] = 5.0

    def __init__(self, label: str, unit: str, total: int | None = None, done: int = 0) -> None:
        """Begin with `done` units that cost no time; `total` is None where it is not known."""
        self.label, self.total, self.done = label, total, done
        self._unit, self._earlier = unit, done
        self._started = self._last_line = time.monotonic()
        self._stderr = sys.stderr
        self._live = _live(self._stderr, unit) if self._stderr.isatty() else None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    @property
    def is_live(self) -> bool:
        """Whether there is a bar, so that nobody needs lines."""
        return self._live is not None

    def advance(self, count: int) -> None:
        """Count more units as done, and show it at the mean rate so far."""
        self.done += count
        elapsed = time.monotonic() - self._started
        per_second = (self.done - self._earlier) / elapsed if elapsed else 0.0
        slow = 0 < per_second < 1
        rate = f"{60 * per_second:,.1f} {self._unit}/min" if slow else f"{per_second:,.0f} {self._unit}/s"
        self.show(rate)
        if self.line_is_due():
            of_total = f" of {self.total}" if self.total else ""
            line = f"{self.label}: {self.done}{of_total} {self._unit}, {rate}"
            if self.total and per_second:
                left = timedelta(seconds=round(max(0, self.total - self.done) / per_second))
                line += f", ETA {left}"
            self.say(line)

    def show(self, rate: str = "", note: str = "") -> None:
        """Draw the bar as things are now, with `rate` and `note` after it; in a log, do nothing."""
        if self._live is None:
            return
        fields: dict[str, Any] = {"label": self.label, "rate": rate, "note": self._fitting(printable(note), rate)}
        if self._task is None:
            self._task = self._live.add_task("", total=self.total, completed=self.done, **fields)
        else:
            self._live.update(self._task, total=self.total, completed=self.done, **fields)

    def _fitting(self, note: str, rate: str) -> str:
        """Return as much of a note as the terminal has room for beside the rest: rich would shorten all columns."""
        assert self._live is not None
        count = f"{self.total}/{'?' if self.total is None else self.total}"
        columns = (self.label, "━" * NARROWEST, count, self._unit, rate, str(timedelta()))
        room = self._live.console.width - sum(len(column) + 1 for column in columns)
        return note if len(note) <= room else f"{note[: max(0, room - 1)]}…"

    def line_is_due(self) -> bool:
        """Whether a log should have a line again; if so, the next one is due LINE_SECONDS from now."""
        now = time.monotonic()
        if self.is_live or now - self._last_line < self.LINE_SECONDS:
            return False
        self._last_line = now
        return True

    def say(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        text = printable(text)
        if self._live is None:
            print(text, file=self._stderr, flush=True)
        else:
            self._live.console.print(text, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _live(stderr: TextIO, unit: str) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.fields[label]}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(file=stderr),
    )
