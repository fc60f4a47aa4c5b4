"""Placing that is stopped, killed, or written to a disk that fails: nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from infoae.errors import InfoAEError
from infoae.placing import place as placing
from infoae.placing import transfer
from infoae.placing.transfer import How
from tests.helpers.paths import ROOT
from tests.placing.killing import listed, tree
from tests.placing.pile import Pile

HOWS = get_args(How)
OTHER = Path("/dev/shm")  # noqa: S108  another file system than that of temporary files, on most machines

PLACES = """
import sys, time
from pathlib import Path
from infoae.placing import place as placing, transfer
source, into, journal = map(Path, sys.argv[1:])
original = transfer.copy
def slow(*paths):
    print("at work", flush=True)
    time.sleep(0.5)
    return original(*paths)
transfer.copy = slow
rows = [placing.Row(path, "cat") for path in sorted(source.rglob("*.jpg"))]
try:
    placing.place(placing.planned(rows, into, "copy", journal, [source]))
except placing.StoppedError as error:
    print(error, flush=True)
"""


def test_ctrl_c_stops_between_two_files_and_says_how_to_go_on(pile: Pile) -> None:
    command = [sys.executable, "-c", PLACES, *map(str, (pile.source, pile.into, pile.journal))]
    with subprocess.Popen(command, stdout=-1, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        process.send_signal(signal.SIGINT)
        said = process.stdout.read()
    assert said == (
        f"stopped after 1 of 4 pictures: the same command goes on, infoae sort --undo {pile.journal} takes back\n"
    )
    assert pile.names() == ["cat/1.jpg"]
    assert '"placed": 1' in pile.journal.read_text()


def killing(how: str, root: Path, into: Path, kills: int) -> None:
    root.mkdir()
    command = [sys.executable, "-m", "tests.placing.killing", how, str(root), str(into), str(kills), "1"]
    said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout)
    assert found["killed"] >= kills
    assert found["wrong"] == []


@pytest.mark.parametrize("how", HOWS)
def test_a_kill_at_any_moment_loses_and_doubles_nothing(how: How, tmp_path: Path) -> None:
    killing(how, tmp_path / "root", tmp_path, 6)


@pytest.mark.long
@pytest.mark.parametrize("how", HOWS)
def test_fifty_kills(how: How, tmp_path: Path) -> None:
    killing(how, tmp_path / "root", tmp_path, 50)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    if not OTHER.is_dir() or OTHER.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system alone")
    with tempfile.TemporaryDirectory(dir=OTHER) as folder:
        yield Path(folder)


def test_to_another_file_system_and_back(pile: Pile, elsewhere: Path) -> None:
    before = tree(pile.source)
    pile.into = elsewhere / "sorted"
    assert pile.planned("move").needed == 4 * 4096
    assert "symbolic links, for they lie on another file system" in "\n".join(pile.planned("link").describe())
    assert pile.place("move").done == {"move": 4}
    assert tree(pile.source) == {}
    assert sorted(tree(pile.into).values()) == sorted(before.values())
    placing.undo(pile.journal)
    assert tree(pile.source) == before
    assert pile.place("link").done == {"symbolic link": 4}
    assert (pile.into / "cat/1.jpg").readlink() == pile.source / "a/1.jpg"
    placing.undo(pile.journal)
    assert listed(elsewhere) == []
    assert tree(pile.source) == before


def test_a_disk_that_does_not_keep_what_is_written_loses_no_picture(
    pile: Pile, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(pile.source)
    pile.into = elsewhere / "sorted"
    copystat = transfer.shutil.copystat  # type: ignore[attr-defined]

    def spoiling(source: Path, temporary: Path) -> None:
        copystat(source, temporary)
        with temporary.open("r+b") as file:
            file.write(b"?")

    monkeypatch.setattr("shutil.copystat", spoiling)
    with pytest.raises(InfoAEError, match="did not keep"):
        pile.place("move")
    assert tree(pile.source) == before
    assert pile.names() == []
    placing.undo(pile.journal)
    assert listed(elsewhere) == []


@pytest.mark.long
def test_fifty_kills_to_another_file_system(tmp_path: Path, elsewhere: Path) -> None:
    killing("move", tmp_path / "root", elsewhere, 50)
