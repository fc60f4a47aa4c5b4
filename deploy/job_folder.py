"""Results in the making, so that an interrupted job can go on: the hidden folder of one file, or of a folder.

It is `.NAME.partial` beside the result NAME; in an object store there is none (see `job_store`). What is stored in it
is whole: every file is written under a temporary name that begins with a dot, and then renamed. A job may so be killed
at any moment: what has a name is there, and what has none never happened. The job that works in the folder holds a
lock, and has set down what makes its rows.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

from infoae import locks
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_file, write_json

# The underscore tells readers of a folder of Parquet files that these are none.
DESCRIPTION = "_job.json"
LOCK = "_lock"


class Job(ABC):
    """A result in the making: `out` is what it becomes, `place` where it is until then, `name` the last part of `out`.

    What Ray prints meanwhile goes to `log`, a file of this machine.
    """

    out: Path | str
    place: Path | str
    name: str
    log: Path

    def take(self, job: dict[str, Any], *, stored: str | None, resume: bool, differences: str) -> None:
        """Set down `job` as the one of this folder, or see that it is the one that was interrupted here.

        `job` is JSON that says what makes the rows, and `differences` names for people what that is. Under "versions"
        it may have those of inputs by name, of which a message names the first that has changed. `stored` says how
        much of an earlier job is there ("5 rows"), None if that is nothing. Raises InfoAEError if something is, and
        `resume` is false or the earlier job was another.
        """
        if stored is None:
            self._describe(job)
        elif not resume:
            raise InfoAEError(
                f"an interrupted job for {self.out} has {stored}: continue it with --resume, or delete {self.place} to "
                "start again"
            )
        elif (earlier := self._description()) != job:
            if (changed := _changed(earlier, job)) is not None:
                raise InfoAEError(
                    f"{changed} has changed since the interrupted job for {self.out} began: put back what it was, or "
                    f"delete {self.place} to start again"
                )
            raise InfoAEError(
                f"the interrupted job for {self.out} used another {differences}: repeat its command, or delete "
                f"{self.place} to start again"
            )

    @abstractmethod
    def names(self) -> set[str]:
        """Return the names of the files that are stored."""

    @abstractmethod
    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary file, which is stored as `name` when the block ends well: whole, or not at all."""

    @abstractmethod
    def reading(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield the content of a stored file. Raises FileNotFoundError."""

    @abstractmethod
    def become_result(self) -> None:
        """Make what is stored the result, without what only the job needed."""

    def _describe(self, job: dict[str, Any]) -> None:
        with self.writing(DESCRIPTION) as file:
            write_json(file, job)

    def _description(self) -> Any:
        try:
            with self.reading(DESCRIPTION) as content:
                return json.load(content)
        except FileNotFoundError:  # of an earlier infoae, which called it otherwise
            return None
        except (ValueError, RecursionError) as error:
            raise InfoAEError(
                f"{self.place}/{DESCRIPTION} is damaged ({one_line(error)}): delete {self.place} to start again"
            ) from None


class JobFolder(Job):
    """A folder that this process alone works in: `path`, in which `out` is made. Opened by `open_job`.

    `given_up` is what it is called once it is no longer needed, until it is deleted.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.name = out.name
        self.path = self.place = out.parent / f".{out.name}.partial"
        self.given_up = out.parent / f".{out.name}.finished"
        self.log = self.path / "_ray.log"

    def names(self) -> set[str]:
        """Return the names of the files in it."""
        return {file.name for file in self.path.iterdir()}

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Yield a temporary file as Job has it. Raises OSError."""
        return atomic_file(self.path / name)

    def reading(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """Yield the content of a file as Job has it. Raises OSError."""
        return (self.path / name).open("rb")

    def become_result(self) -> None:
        """Make the folder itself the result."""
        self.delete_leftovers()
        for name in (LOCK, self.log.name):
            (self.path / name).unlink(missing_ok=True)
        self.path.rename(self.out)

    def give_up(self) -> None:
        """Give up the folder, at once: one that is half deleted would look like an interrupted job."""
        self.path.rename(self.given_up)

    def delete_leftovers(self) -> None:
        """Remove the beginnings of files whose writers were killed; readers of the result would stumble over them."""
        for leftover in self.path.glob(".*"):
            leftover.unlink(missing_ok=True)


def _changed(earlier: Any, job: dict[str, Any]) -> str | None:
    before = earlier.get("versions", {}) if isinstance(earlier, dict) else {}
    now: dict[str, str] = job.get("versions", {})
    return next((name for name, version in now.items() if before.get(name, version) != version), None)


@contextmanager
def open_job(out: Path) -> Iterator[JobFolder]:
    """Yield the folder in which `out` is made. What is in it at the end stays, unless the folder was given up.

    Raises InfoAEError if it cannot be written, and if another process is making `out`.
    """
    folder = JobFolder(out)
    try:
        if folder.given_up.exists():  # by a job that was killed while it tidied up
            shutil.rmtree(folder.given_up)
        folder.path.mkdir(parents=True, exist_ok=True)
        with locks.held(folder.path / LOCK, out):
            folder.delete_leftovers()
            yield folder
    except OSError as error:
        raise InfoAEError(f"cannot write {out}: {one_line(error)}") from error
    finally:
        shutil.rmtree(folder.given_up, ignore_errors=True)  # now that the lock is closed: NFS keeps a file that is open
