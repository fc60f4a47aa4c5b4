"""A program: placing and undoing are killed at random moments, go on, and must lose and double nothing.

    python -m tests.placing.killing copy|link|move EMPTY-FOLDER EMPTY-FOLDER-TO-SORT-INTO KILLS SEED

Prints a JSON object: how often a process was killed in the midst of its work, and what was wrong. Each process is a
fork of this one, so that none has to import anything.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from infoae.placing import place as placing
from infoae.placing.transfer import How

PICTURES = 30
Tree = dict[str, tuple[str, int, int]]


def prepare(source: Path, into: Path, rng: random.Random) -> list[placing.Row]:
    """Write pictures of clashing names, and what the user has in `into` already; return what is to be placed."""
    rows = []
    for number in range(PICTURES):
        path = source / f"part {number % 4}" / f"{number // 4}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rng.randbytes(rng.choice([0, 900, 60_000])))
        path.chmod(0o640)
        os.utime(path, ns=(1, 1_600_000_000_123_456_789 + number))
        rows.append(placing.Row(path, f"kind/{number % 3}", unsure=number % 10 == 0))
    (into / "own").mkdir(parents=True)
    (into / "kind_0").mkdir()
    (into / "kind_0" / "3.jpg").write_bytes(b"the user's")
    return rows


def tree(folder: Path) -> Tree:
    """Return hash, permissions and time of each file below `folder`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(folder))] = (digest, status.st_mode, status.st_mtime_ns)
    return found


def listed(folder: Path) -> list[str]:
    """Return the names in a folder."""
    return sorted(path.name for path in folder.iterdir())


def contents(found: Tree) -> Counter[str]:
    """Return how often each content is there."""
    return Counter(digest for digest, _, _ in found.values())


def killed_after(seconds: float, work: Callable[[], object]) -> bool:
    """Do `work` in another process and kill it; returns whether it was still at it."""
    pid = os.fork()
    if not pid:
        code = 70
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, status
    return os.WIFSIGNALED(status)


def tried(how: How, root: Path, into: Path, kills: int, rng: random.Random) -> tuple[int, list[str]]:
    """Return how often a process was killed at work, at least `kills` times, and what was wrong."""
    source, journal = root / "source", root / "journal"
    rows = prepare(source, into, rng)
    before, own = tree(source), tree(into)
    wrong: list[str] = []
    killed = 0

    def place() -> None:
        placing.place(placing.planned(rows, into, how, journal, [source]))

    def undo() -> None:
        if journal.exists():
            placing.undo(journal)

    def check(what: str, right: bool) -> None:
        if not right:
            wrong.append(what)

    def nothing_is_lost(when: str) -> None:
        there = contents(tree(source)) + contents(tree(into))
        check(f"lost {when}", not contents(before) - there)
        check(f"source changed {when}", how == "move" or tree(source) == before)

    def all_is_placed(when: str) -> None:
        placed, rest = tree(into), tree(source)
        check(f"the user's changed {when}", own.items() <= placed.items())
        new = {name: file for name, file in placed.items() if name not in own}
        check(f"lost or doubled {when}", sorted(new.values()) == sorted(before.values()))
        check(f"source {when}", rest == ({} if how == "move" else before))

    def all_is_back(when: str) -> None:
        check(f"source {when}", tree(source) == before)
        check(f"into {when}", tree(into) == own and listed(into) == ["kind_0", "own"])

    times = []
    for work, is_done in ((place, all_is_placed), (undo, all_is_back)):
        started = time.monotonic()
        work()
        times.append(time.monotonic() - started)
        is_done("without a crash")
    for number in itertools.count(1):
        for work, took, is_done in ((place, times[0], all_is_placed), (undo, times[1], all_is_back)):
            for _ in range(2):
                killed += killed_after(rng.uniform(0, took), work)
                nothing_is_lost(f"in round {number}, {work.__name__}")
            if rng.random() < 0.5:  # half of them are taken back from in the midst
                work()
                is_done(f"in round {number}, {work.__name__}")
        undo()
        all_is_back(f"after round {number}")
        if killed >= kills:
            break
    return killed, wrong


if __name__ == "__main__":
    kind, first, second, number_of_kills, seed = sys.argv[1:]
    folders = Path(first), Path(second) / "sorted"
    at_work, faults = tried(kind, *folders, int(number_of_kills), random.Random(seed))  # type: ignore[arg-type]
    print(json.dumps({"killed": at_work, "wrong": faults}))  # noqa: T201
