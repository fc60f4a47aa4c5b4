"""Damaged files of every kind are rows, or one line of ours; whatever else a reader does with one is seen."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infoae.errors import InfoAEError
from tests.faults.forks import ENDED
from tests.faults.readers import Kind, wrong
from tests.helpers.paths import ROOT


def python(*arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def mutate(count: int, seed: int, folder: Path) -> None:
    python("-m", "tests.faults.mutating", str(count), str(seed), "--out", str(folder / "out.json"))
    kinds = json.loads((folder / "out.json").read_text())["kinds"]
    assert sum(kind["tried"] for kind in kinds.values()) == count
    assert len(kinds) > 50
    assert {name: kind["wrong"] for name, kind in kinds.items() if kind["wrong"]} == {}


def test_some_damaged_files_of_every_kind(tmp_path: Path) -> None:
    mutate(305, 1, tmp_path)


@pytest.mark.long
def test_damaged_files_of_every_kind(tmp_path: Path) -> None:
    mutate(5000, 0, tmp_path)


def failing(error: Exception) -> Kind:
    def read(path: Path) -> None:
        assert path.read_bytes() == b"x"
        raise error

    return Kind("any", "file", list, read)


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (InfoAEError("file: no image"), None),
        (FileNotFoundError(2, "none", "file"), None),  # which the command line makes one line of
        (InfoAEError("x" * 9000), "9000 characters"),
        (ValueError("x"), r"ValueError at test_mutated.py:\d+: x"),
        (MemoryError(), "a size was believed"),
        (RecursionError("deep"), "RecursionError"),
    ],
)
def test_what_a_reader_may_raise(
    error: Exception, why: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(b"before")
    found = wrong(failing(error), b"x")
    assert found is None if why is None else re.match(why, str(found))
    assert Path("file").read_bytes() == b"before"


ENDS = """
import json, os, signal, time
from tests.faults.forks import outcomes
def trial(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    while number == 3:
        pass
    if number == 5:
        os._exit(7)
    if number == 6:
        return str(len(bytearray(3 * 1024**3)))
    if number == 7:
        time.sleep(60)
    return "wrong" if number == 2 else None
print(json.dumps(list(outcomes(10, lambda: None, trial, 0.2))))
"""


def test_a_process_that_ends_is_seen_and_replaced() -> None:
    found = dict(json.loads(python("-c", ENDS)))
    assert [number for number, why in found.items() if why is None] == [0, 4, 8, 9]
    assert found[1] == "the process ended: SIGSEGV"
    assert found[2] == "wrong"
    assert found[3] in ENDED.values()  # on a busy machine it has waited before it has had its time
    assert found[5] == "the process ended: exit code 7"
    assert found[6] == "the process ended: exit code 1"
    assert found[7] == ENDED["SIGALRM"]
