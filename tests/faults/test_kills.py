"""Whenever a command is killed, given again it ends as if it had not been, and leaves nothing unfinished behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.verbs import VERBS
from tests.helpers.paths import ROOT


def kill(verb: str, folder: Path, first: int, step: int) -> None:
    command = [sys.executable, "-m", "tests.faults.killing", verb, str(folder), str(first), str(step)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tried"] > 0
    assert found["wrong"] == {}


@pytest.mark.parametrize(
    ("verb", "step"),
    [
        ("classify", 9),
        ("convert", 45),
        ("generate", 9),
        pytest.param("train", 31, marks=pytest.mark.slow),
        pytest.param("reproduce", 86, marks=pytest.mark.slow),
    ],
)
def test_killed_before_some_of_its_changes(verb: str, step: int, tmp_path: Path) -> None:
    kill(verb, tmp_path, 3, step)


@pytest.mark.long
@pytest.mark.parametrize("verb", VERBS)
def test_killed_before_each_of_its_changes(verb: str, tmp_path: Path) -> None:
    kill(verb, tmp_path, 1, 1)
