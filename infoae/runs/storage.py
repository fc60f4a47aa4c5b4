"""A run's folder kept in a place all nodes can reach: a shared folder, or object storage such as s3://bucket/path."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from infoae.errors import UnavailableError, UsageError, one_line
from infoae.files import atomic_file, atomic_folder
from infoae.runs.run import CHECKPOINTS, CONFIG, ENVIRONMENT, METRICS, STATE_FILES, STATUS, Run

LAST = "checkpoint.json"  # a checkpoint counts once this is there: object storage cannot rename a folder


@dataclass(frozen=True)
class Storage:
    """The folder `uri`/<run name>."""

    uri: str

    def within(self, name: str) -> str:
        """Return the folder or URI of something else in the storage."""
        path, mark, query = self.uri.partition("?") if "://" in self.uri else (self.uri, "", "")
        return f"{path.rstrip('/')}/{name}{mark}{query}"

    def holds(self, name: str) -> bool:
        """Whether a run of that name is stored. Raises UnavailableError."""
        system, root = self._open(name)
        try:
            return bool(system.get_file_info(f"{root}/{CONFIG}").type == fs.FileType.File)
        except OSError as error:
            raise UnavailableError(f"cannot read {self.uri}: {one_line(error)}") from None

    def push(self, run: Run) -> None:
        """Copy what is new in the run's folder, then remove the checkpoints it has dropped.

        Metrics go before the checkpoint that they lead to: those ahead of it are done again, those behind were lost.
        Raises UnavailableError.
        """
        system, root = self._open(run.name)
        try:
            system.create_dir(root)
            for name in STATE_FILES:
                if (run.path / name).exists():
                    _copy(run.path / name, f"{root}/{name}", system)
            known = self._checkpoints(system, root)
            here = {path.name: path for path in run.checkpoints.glob("step-*")}
            for name in here.keys() - known:
                system.create_dir(f"{root}/{CHECKPOINTS}/{name}")
                files = sorted(here[name].iterdir(), key=lambda file: file.name == LAST)
                for file in files:
                    _copy(file, f"{root}/{CHECKPOINTS}/{name}/{file.name}", system)
            for name in known - here.keys():
                system.delete_file(f"{root}/{CHECKPOINTS}/{name}/{LAST}")
                system.delete_dir(f"{root}/{CHECKPOINTS}/{name}")
        except OSError as error:
            raise UnavailableError(f"cannot write {self.uri}: {one_line(error)}") from None

    def push_file(self, run: Run, name: str) -> None:
        """Copy one file of the run's folder. Does nothing before the run itself is stored. Raises UnavailableError."""
        if not self.holds(run.name):
            return
        system, root = self._open(run.name)
        try:
            _copy(run.path / name, f"{root}/{name}", system)
        except OSError as error:
            raise UnavailableError(f"cannot write {self.uri}: {one_line(error)}") from None

    def glance(self, run: Run) -> bool:
        """Copy what says how far the stored run is into the run's folder, with its times, and no weights.

        Returns whether there is such a run. Raises UnavailableError.
        """
        if not self.holds(run.name):
            return False
        system, root = self._open(run.name)
        try:
            checkpoints = [f"{CHECKPOINTS}/{name}/{LAST}" for name in self._checkpoints(system, root)]
            for name in (CONFIG, ENVIRONMENT, METRICS, STATUS, *checkpoints):
                info = system.get_file_info(f"{root}/{name}")
                if info.type == fs.FileType.File:
                    copy = run.path / name
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(_read(system, info.path))
                    if info.mtime_ns:  # not every store has times
                        os.utime(copy, ns=(info.mtime_ns, info.mtime_ns))
        except OSError as error:
            raise UnavailableError(f"cannot read {self.uri}: {one_line(error)}") from None
        return True

    def fetch(self, run: Run) -> None:
        """Do what `pull` does, unless another command writes to the run's folder here. Raises UnavailableError."""
        if self.holds(run.name):
            run.path.mkdir(parents=True, exist_ok=True)
            with run.locked():
                self.pull(run)

    def pull(self, run: Run) -> None:
        """Copy the stored run into the run's folder. Does nothing if there is none yet. Raises UnavailableError."""
        if not self.holds(run.name):
            return
        system, root = self._open(run.name)
        try:
            run.path.mkdir(parents=True, exist_ok=True)
            for name in STATE_FILES:
                if system.get_file_info(f"{root}/{name}").type == fs.FileType.File:
                    content = _read(system, f"{root}/{name}")
                    with atomic_file(run.path / name) as temporary:
                        temporary.write_bytes(content)
            for name in self._checkpoints(system, root):
                folder = run.checkpoints / name
                if not folder.exists():
                    with atomic_folder(folder) as temporary:
                        fs.copy_files(f"{root}/{CHECKPOINTS}/{name}", str(temporary), system, fs.LocalFileSystem())
        except OSError as error:
            raise UnavailableError(f"cannot read {self.uri}: {one_line(error)}") from None

    def _open(self, name: str) -> tuple[fs.FileSystem, str]:
        try:
            system, path = fs.FileSystem.from_uri(self.uri)
        except ValueError as error:
            raise UsageError(
                f"--storage {self.uri}: {one_line(error)}; give a folder or an URI such as s3://bucket/path"
            ) from None
        except OSError as error:
            raise UnavailableError(f"cannot reach {self.uri}: {one_line(error)}") from None
        return system, f"{path.rstrip('/')}/{name}"

    @staticmethod
    def _checkpoints(system: fs.FileSystem, root: str) -> set[str]:
        """Names of the checkpoints that are complete."""
        selector = fs.FileSelector(f"{root}/{CHECKPOINTS}", recursive=True, allow_not_found=True)
        return {Path(info.path).parent.name for info in system.get_file_info(selector) if info.base_name == LAST}


def parse(given: str) -> Storage:
    """Return the storage at a folder or URI."""
    return Storage(given if "://" in given else str(Path(given).resolve()))


def _read(system: fs.FileSystem, path: str) -> bytes:
    with system.open_input_stream(path) as file:
        content: bytes = file.read()
        return content


def _copy(source: Path, destination: str, system: fs.FileSystem) -> None:
    """Copy a file into the storage; `destination` is the old one or the new one whenever the process dies."""
    partial = f"{destination}.partial"
    with system.open_output_stream(partial) as writer:
        writer.write(source.read_bytes())
    system.move(partial, destination)
