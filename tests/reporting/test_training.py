"""How training and a sweep go, on a terminal and in a log."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
import torch

from infoae.reporting.training import TrainingProgress
from infoae.trainer import Moment


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def train(num_steps: int) -> None:
    with TrainingProgress() as progress:
        for step in range(1, num_steps + 1):
            moment = Moment(step, num_steps, 1, 1, 100 * (num_steps - step), 50.0)
            progress.stepped(moment)
            progress.logged(moment, {"loss/reconstruction": 0.25})
        progress.evaluated(moment, {"evaluation/balance": 0.5}, torch.zeros(1, 1, 8, 8))
        progress.say("[best] is kept as it is")


def test_a_log_has_the_first_step_the_last_one_and_what_was_said(capsys: pytest.CaptureFixture[str]) -> None:
    train(4)
    first, last, done, *_, said = capsys.readouterr().err.splitlines()
    assert first == "epoch 1/1 step 1/4 50 images/s, 6 s left: reconstruction 0.250"
    assert last == "epoch 1/1 step 4/4 50 images/s, 0 s left: reconstruction 0.250"
    assert done == "epoch 1/1 done: balance 0.500"
    assert said == "[best] is kept as it is"


def test_a_log_says_how_many_processes_share_a_batch_whenever_that_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with TrainingProgress() as progress:
        for step, processes in enumerate((1, 2, 2, 1), start=1):
            progress.stepped(Moment(step, 4, 1, 1, 0, 50.0, processes))
    said = [line for line in capsys.readouterr().err.splitlines() if "share" in line]
    assert said == [f"processes that share each batch from now on: {number}" for number in (2, 1)]


def test_a_terminal_has_a_bar_and_no_lines_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    train(4)
    shown = terminal.getvalue()
    for part in ("epoch 1/1", "4/4", "steps", "50 images/s", "reconstruction 0.250", "epoch 1/1 done: balance 0.500"):
        assert part in shown
    assert "[best] is kept as it is" in shown
    assert "s left" not in shown


def test_progress_in_images_needs_no_torch_and_a_log_no_rich() -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['rich'] = None\n"
        "from infoae.reporting.bars import Bar; from infoae.reporting.images import progress\n"
        "Bar.LINE_SECONDS = 0.0\n"
        "with progress('classify', 10) as advance: advance(4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stderr.startswith("classify: 4 of 10 images, ")
