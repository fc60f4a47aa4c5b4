"""Progress goes to standard error: lines in a log, a bar on a terminal."""

from __future__ import annotations

import io
import re
import sys

import pytest

from infoae.reporting.bars import Bar
from infoae.reporting.images import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Bar, "LINE_SECONDS", 0.0)
    with progress("classify", 100, 20) as advance:
        advance(30)
    with progress("classify", None) as advance:
        advance(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    first, second = captured.err.splitlines()
    assert first.startswith("classify: 50 of 100 images, ")
    assert first.endswith("images/s, ETA 0:00:00")
    assert second.startswith("classify: 1 images, ")


def test_no_line_more_often_than_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("classify", 100) as advance:
        for _ in range(100):
            advance(1)
    assert capsys.readouterr().err == ""


def test_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with progress("classify", 100, 20) as advance:
        advance(30)
    assert "50/100" in terminal.getvalue()
    assert "images/s" in terminal.getvalue()


@pytest.mark.parametrize("columns", [65, 80, 200])
def test_a_long_note_leaves_what_is_done_and_the_time_that_is_left(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with Bar("epoch 12/30", "steps", 8000) as bar:
        bar.done = 4321
        bar.show("1,234 images/s", "reconstruction 12.456 mutual information -2.317 classification 0.701 " * 2)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    last = [line for line in plain.splitlines() if "epoch" in line][-1]
    assert re.search(r"epoch 12/30 .*4321/8000 steps 1,234 images/s -:--:-- ", last)
    assert ("reconstruction" in last) == (columns > 65)


def test_what_is_slow_is_counted_by_the_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 40.0, 40.0])
    monkeypatch.setattr("infoae.reporting.bars.time.monotonic", lambda: next(times))
    with Bar("trying recipes", "recipes", 6) as bar:
        bar.advance(2)
    assert capsys.readouterr().err == "trying recipes: 2 of 6 recipes, 3.0 recipes/min, ETA 0:01:20\n"
