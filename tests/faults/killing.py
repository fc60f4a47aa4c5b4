"""A program: a command is killed before each of its changes to the file system in turn, and must go on from there.

    python -m tests.faults.killing VERB EMPTY-FOLDER FIRST STEP

It is killed before change FIRST, before FIRST + STEP, and so on until it ends. Prints a JSON object: how many changes
the command makes, how many were tried, and what was wrong after which. What takes long to import is imported once: each
command is a fork of this process.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.faults.verbs import VERBS, Verb

CHANGES = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.symlink", "os.link", "os.truncate", "os.chmod"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
KILLED = -signal.SIGKILL


def before_change(folder: Path, action: Callable[[int], object]) -> None:
    """Call `action` with a number, from 1, before each change that this process makes below `folder`."""
    count, own = 0, threading.get_ident()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(path, str | bytes) and bool(flags & WRITING)
        elif event in CHANGES:
            path, changes = arguments[0], True
        else:
            return
        # A path relative to an open folder is one that shutil.rmtree is removing.
        inside = (Path.cwd() / os.fsdecode(path)).is_relative_to(folder) if changes else False
        if own == threading.get_ident() and inside:
            count += 1
            action(count)

    sys.addaudithook(hook)


def command(verb: Verb, arguments: list[str], folder: Path, limit: int | None) -> tuple[int, int, str]:
    """Run a command in `folder`, killed before change `limit`; return its exit code, its changes and what it said."""
    said, counted = folder.parent / "said", folder.parent / "counted"
    counted.write_text("0")
    pid = os.fork()
    if pid:
        status = os.waitpid(pid, 0)[1]
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        return code, int(counted.read_text()), said.read_text(errors="replace")
    code = 70
    try:
        os.chdir(folder)
        output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        from infoae.cli.main import main

        verb.patch()
        counter = os.open(counted, os.O_WRONLY)

        def change(number: int) -> None:
            if number == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            os.pwrite(counter, str(number).encode(), 0)

        before_change(folder, change)
        sys.argv = ["infoae", *arguments]
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        else:
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def leftovers(folder: Path) -> list[str]:
    """Return what is unfinished below `folder`."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob(".*")
        if any(mark in path.name for mark in (".tmp-", ".partial", ".finished"))
    )


def wrong_after(verb: Verb, before: Path, folder: Path, limit: int, right: Any) -> str | None:
    """Return what is wrong once the command was killed before change `limit` and given again; None if nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder, symlinks=True)
    code, _, said = command(verb, verb.arguments, folder, limit)
    if code != KILLED:
        return f"it was not killed: {code} {said[-500:]}"
    for arguments in verb.again(folder):
        code, _, said = command(verb, arguments, folder, None)
        if code not in verb.codes:
            return f"{' '.join(arguments)}: exit code {code}: {said[-500:]}"
    if left := leftovers(folder):
        return f"left behind: {left}"
    found = verb.result(folder)
    return None if found == right else f"another result: {str(found)[:500]}"


def main() -> None:
    """Try what the arguments say."""
    name, given, first, step = sys.argv[1:]
    verb, root = VERBS[name], Path(given).resolve()
    before, folder = root / "before", root / "folder"
    before.mkdir()
    verb.prepare(before)
    verb.load()
    shutil.copytree(before, folder, symlinks=True)
    code, changes, said = command(verb, verb.arguments, folder, None)
    if code != 0:
        raise SystemExit(f"{code}: {said}")
    right = verb.result(folder)
    tried = range(int(first), changes + 1, int(step))
    wrong = {limit: found for limit in tried if (found := wrong_after(verb, before, folder, limit, right))}
    print(json.dumps({"changes": changes, "tried": len(tried), "wrong": wrong}))  # noqa: T201


if __name__ == "__main__":
    main()
