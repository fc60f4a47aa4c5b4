"""What is written or removed is there whole or not at all, whatever a file system lacks and whoever else writes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from infoae import files, locks
from infoae.config import Config
from infoae.errors import Notice, UnavailableError
from infoae.files import atomic_file, atomic_folder, remove, write_json
from infoae.runs.run import Run
from tests.helpers.paths import ROOT


@contextmanager
def elsewhere(program: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a process of its own until it says that it is ready; kill it in the end."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.send_signal(signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def unfinished(folder: Path) -> list[str]:
    return [name for name in names(folder) if ".tmp-" in name]


WRITES = """
import sys, time
from pathlib import Path
from infoae import files, locks
path = Path(sys.argv[1])
with getattr(files, sys.argv[2])(path) if sys.argv[2] != "held" else locks.held(path / ".lock", path):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["atomic_file", "atomic_folder"])
def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_writes_is_not(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    (tmp_path / ".x.json.backup.json").touch()  # of somebody else
    with elsewhere(WRITES, path, kind):
        held = unfinished(tmp_path)
        assert len(held) == 1
        files.remove_leftovers(tmp_path)
        if kind == "atomic_folder":
            with pytest.raises(UnavailableError, match="another command is writing"), atomic_folder(path):
                pass
        else:
            write_json(path, 1)
        assert unfinished(tmp_path) == held
        path.unlink(missing_ok=True)
    with getattr(files, kind)(path):
        assert len(unfinished(tmp_path)) == 1
    assert names(tmp_path) == [".x.json.backup.json", "x.json"]


def test_a_lock_is_of_one_process_and_ends_with_it(tmp_path: Path) -> None:
    with elsewhere(WRITES, tmp_path, "held"):
        refused = pytest.raises(UnavailableError, match=f"another command is writing {tmp_path} now")
        with refused, locks.held(tmp_path / ".lock", tmp_path):
            pass
    with locks.held(tmp_path / ".lock", tmp_path):
        pass


def test_a_run_is_locked_and_what_was_left_in_it_is_removed(tmp_path: Path, tiny_config: Config) -> None:
    run = Run.create(tmp_path, "one", "smoke", tiny_config)
    left = [run.path / ".config.yaml.tmp-0123abcd.yaml", run.checkpoints / ".step-00000001.tmp-0123abcd"]
    for folder in (run.checkpoints, run.figures, left[1]):
        folder.mkdir()
    left[0].touch()
    with run.locked():
        assert not any(path.exists() for path in left)
        with pytest.raises(UnavailableError, match="another command is writing"), run.locked():
            pass


def test_a_folder_is_removed_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x" / "y").mkdir(parents=True)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove(tmp_path / "x")
    assert not (tmp_path / "x").exists()
    files.remove_leftovers(tmp_path)
    assert names(tmp_path) == []


@pytest.mark.parametrize("make", [atomic_file, atomic_folder])
def test_an_error_names_what_was_to_be_written(make: Callable[[Path], Any], tmp_path: Path) -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), OSError("3 requested and 0 written")):
        with pytest.raises(OSError, match="/x") as caught, make(tmp_path / "x"):
            raise error
        assert caught.value.filename == str(tmp_path / "x")
        assert caught.value.strerror == str(error).removeprefix("[Errno 28] ")
    assert names(tmp_path) == []


def test_a_file_has_the_mode_that_the_user_wants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "x", 1)
        with atomic_folder(tmp_path / "y"):
            pass
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "xy"] == [0o640, 0o750]


def refuse(code: int) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(code, os.strerror(code))

    return refused


def no_flush_of_folders(descriptor: int) -> None:
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


LACKING = {
    "symbolic links": (os, "symlink", refuse(errno.EPERM)),
    "modes": (os, "chmod", refuse(errno.EPERM)),
    "flushes of folders": (os, "fsync", no_flush_of_folders),
    "flushes": (os, "fsync", refuse(errno.ENOSYS)),
    "locks": (fcntl, "flock", refuse(errno.ENOLCK)),
}


@pytest.mark.parametrize("lacking", LACKING)
def test_a_file_system_that_lacks_something_is_told_of_and_used(
    lacking: str, tmp_path: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(*LACKING[lacking])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        run = Run.create(tmp_path, "one", "smoke", tiny_config)
        with run.locked():
            run.add_environment({"seed": 0})
    assert Run.open("one", tmp_path).config() == tiny_config
    assert run.environments() == [{"seed": 0}]
    assert {warning.category for warning in told} == ({Notice} if lacking != "modes" else set())
    assert all("\n" not in str(warning.message) for warning in told)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_when_it_is_flushed_is_an_error(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", refuse(code))
    with pytest.raises(OSError, match=os.strerror(code)):
        write_json(tmp_path / "x", 1)
    assert names(tmp_path) == []
