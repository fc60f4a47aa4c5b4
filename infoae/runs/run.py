"""A run's folder: where it is, what lies in it, and how to find it again. `runs/latest` is a link to the newest."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, FiniteFloat, TypeAdapter

from infoae import files, locks
from infoae.config import Config, recipes
from infoae.errors import InfoAEError, Notice, UsageError, one_line, shown
from infoae.files import atomic_file, write_json
from infoae.runs import checkpoint as checkpoints

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
IMAGES = "images.json"
METRICS = "metrics.jsonl"
NEIGHBOURS = "neighbours.npz"
NEIGHBOUR_SEARCH = "neighbour-search"
PSEUDO_LABELS = "pseudo_labels.npy"
OLD_PSEUDO_LABELS = "consensus.npy"  # in runs of version 0.1
CATEGORIES = "categories.json"
CHECKPOINTS = "checkpoints"
EVALUATION = "evaluation.json"
NAMES = "names.json"
CORRECTED = "corrections.json"
ESTIMATOR = "estimator.safetensors"
FIGURES = "figures"
GALLERY = "gallery.html"
GALLERY_PICTURES = "gallery-pictures"
STATUS = "status.json"
LOCK = ".lock"

STATE_FILES = (CONFIG, ENVIRONMENT, IMAGES, METRICS, NEIGHBOURS, PSEUDO_LABELS, OLD_PSEUDO_LABELS, CATEGORIES)
"""What a run goes on from beside its checkpoints; each is replaced whole."""

_ENVIRONMENTS = TypeAdapter(list[dict[str, Any]])
_METRICS = TypeAdapter(dict[str, int | float], config=ConfigDict(strict=True))

CONTENTS = {
    CONFIG: "the resolved configuration",
    ENVIRONMENT: "versions, device and threads of each start",
    IMAGES: "number, shape and fingerprint of the training images, which a resumed run must find again",
    METRICS: "a line of losses every few steps, and of measures at the end of each epoch",
    CHECKPOINTS: "the newest and the best step: weights, optimizer, and a checkpoint.json with the score",
    NEIGHBOURS: "the nearest neighbours of each training image, where they are compared",
    NEIGHBOUR_SEARCH: "parts of a search for them on disk, until it is done",
    PSEUDO_LABELS: "the pseudo-labels of all training images, a row for each time they were made",
    CATEGORIES: "the mutual information kept at each number of categories, where their number is found",
    STATUS: "what the last command that trained it came to, and which workers were lost, for infoae status",
    EVALUATION: "the result of infoae evaluate",
    NAMES: "names of the categories, from infoae name",
    CORRECTED: "of a run from infoae correct: the run that was corrected, what was said, and its categories' numbers",
    ESTIMATOR: "parameters, labels and examples of an InfoAEClusterer that was saved",
    FIGURES: "the figures of infoae figures",
    GALLERY: "the page of infoae gallery",
    GALLERY_PICTURES: "its thumbnails, where they are too many for the page itself",
}
"""All that lies in a run's folder, and what it is."""


@dataclass(frozen=True)
class Run:
    """A folder of one training run."""

    path: Path

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / CHECKPOINTS

    def command(self, *words: str) -> str:
        """Return the command `infoae` with `words` on this run, as it can be typed where this process was started."""
        where = [] if self.path.parent == Path("runs").absolute() else ["--runs", str(self.path.parent)]
        return shlex.join(["infoae", *words, self.name, *where])

    @property
    def figures(self) -> Path:
        """The folder of the figures."""
        return self.path / FIGURES

    @staticmethod
    def create(root: Path, name: str | None, recipe: str, config: Config) -> Run:
        """Make a new run folder and point `root`/latest to it. Raises UsageError if the name is taken or unfit."""
        run = Run(new_folder(root, name, recipe, lambda folder, _: Run(folder).write_config(config)))
        run.point_latest()
        return run

    @staticmethod
    def open(run: str | Path, root: Path = Path("runs")) -> Run:
        """Find a run by folder or by name under `root`. Raises InfoAEError if there is none."""
        for path in (Path(run), root / run):
            if (path / CONFIG).is_file():
                return Run(path.resolve())
        if str(run) == "latest" or Path(run) == root / "latest":
            raise InfoAEError(f"no run in {root}: start one with infoae train, or say which with RUN or --runs")
        raise InfoAEError(f"no run {str(run)!r}, neither that folder nor in {root}: ls {root} shows what there is")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Let no other command write to the run, and remove what killed ones left unfinished, or had yet to remove.

        Raises UnavailableError if another one does, InfoAEError if a checkpoint is damaged.
        """
        with locks.held(self.path / LOCK, self.path):
            for folder in (self.path.parent, self.path, self.checkpoints, self.figures):
                files.remove_leftovers(folder)
            checkpoints.prune(self.checkpoints)
            yield

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration."""
        with atomic_file(self.path / CONFIG) as file:
            file.write_text(recipes.dump(config), encoding="utf-8")

    def config(self) -> Config:
        """Return the resolved configuration the run was started with."""
        path = self.path / CONFIG
        return recipes.load(path)

    def checkpoint(self, which: str) -> Path:
        """Return the folder of the "best" or "newest" checkpoint. Raises InfoAEError if none was written yet."""
        if which not in ("best", "newest"):
            raise UsageError(f"checkpoint is best or newest, not {which!r}")
        path = checkpoints.best(self.checkpoints) if which == "best" else checkpoints.newest(self.checkpoints)
        if path is None:
            raise InfoAEError(f"run {self.path} has no checkpoint: it stopped before its first epoch ended")
        return path

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs of `config` are done, or the run was stopped early by its train.patience."""
        newest = checkpoints.newest(self.checkpoints)
        return newest is not None and (
            checkpoints.read(newest).epoch >= config.train.epochs or self.score_stands(config)
        )

    def score_stands(self, config: Config) -> bool:
        """Whether the score has not risen for as many epochs as train.patience waits, if it is given."""
        patience = config.train.patience
        return patience is not None and checkpoints.epochs_since_best(self.checkpoints) >= patience

    def refuse_finished(self, config: Config) -> None:
        """Raise InfoAEError if the run is finished."""
        if self.is_finished(config):
            epoch, epochs = checkpoints.read(self.checkpoint("newest")).epoch, config.train.epochs
            further = "train it further with --epochs, or " if epoch >= epochs else "its score had stopped rising; "
            raise InfoAEError(
                f"run {self.name} is finished ({epoch} of {epochs} epochs): "
                f"{further}look at it with {self.command('evaluate')}"
            )

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of metrics.jsonl, oldest first. Raises InfoAEError if one is damaged."""
        path = self.path / METRICS
        if path.exists():
            with path.open(encoding="utf-8", errors="replace") as lines:
                for number, line in enumerate(lines, start=1):
                    try:
                        found = _METRICS.validate_json(line)
                        found["step"]  # raises KeyError
                    except (ValueError, KeyError):
                        if not line.endswith("\n"):  # being written when the process was killed
                            return
                        raise InfoAEError(
                            f"line {number} of {path} is damaged: remove that line, only what it says is lost"
                        ) from None
                    yield found

    def forget_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that will be done again."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        with atomic_file(self.path / METRICS) as file:
            file.write_text("".join(kept), encoding="utf-8")

    def information_kept(self) -> dict[int, float]:
        """Return the nats that merging left, by number of categories; empty where their number was given.

        Raises InfoAEError if the file that has them is damaged.
        """
        path = self.path / CATEGORIES
        if not path.exists():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return TypeAdapter(dict[int, FiniteFloat]).validate_python(content["information_kept"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InfoAEError(
                f"{path} is damaged ({one_line(error)}): remove it, only the curve in it is lost"
            ) from None

    def environments(self) -> list[dict[str, Any]]:
        """Return what each start and resume of the run ran on. Raises InfoAEError if its file is damaged."""
        path = self.path / ENVIRONMENT
        try:
            return _ENVIRONMENTS.validate_json(path.read_bytes()) if path.exists() else []
        except ValueError as error:
            raise InfoAEError(
                f"{path} is damaged ({one_line(error)}): remove it, only what the run ran on is lost"
            ) from None

    def add_environment(self, entry: dict[str, Any]) -> None:
        """Append to environment.json what this start or resume ran on. Raises InfoAEError as `environments` does."""
        write_json(self.path / ENVIRONMENT, [*self.environments(), entry])

    def point_latest(self) -> None:
        """Let `latest` beside the run's folder be this run; where that cannot be, a Notice says so."""
        link = self.path.parent / "latest"
        try:
            files.link(link, self.name)
        except OSError as error:
            why = f"no link {link} to {self.name} ({one_line(error)})"
            warnings.warn(Notice(f"{why}: give commands the name of the run"), stacklevel=2)


def new_folder(root: Path, name: str | None, stem: str, fill: Callable[[Path, str], object]) -> Path:
    """Make the folder `name` under `root`, `stem` and the time if not given; it appears once `fill` has filled it.

    `fill` is told the folder that it is to write to, and the name that it will have. An empty folder of that name is
    taken. Raises UsageError if the name is taken or unfit.
    """
    check_new(root, name)
    stamp = dt.datetime.now().strftime("%Y%m%d-%H%M%S")
    for candidate in [name] if name is not None else _candidates(f"{stem}-{stamp}"):
        path = (root / candidate).absolute()
        if not _vacant(path):
            continue
        try:
            with files.atomic_folder(path) as folder:
                fill(folder, candidate)
        except OSError:
            if _vacant(path):
                raise
            continue  # another command was faster
        return path
    raise _taken(str(name), root)


def check_new(root: Path, name: str | None) -> None:
    """Raise, as `new_folder` would, UsageError if the name is taken or unfit, InfoAEError if `root` cannot be written.

    Nothing is made.
    """
    check_name(name)
    if name is not None and not _vacant(root / name):
        raise _taken(name, root)
    there = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InfoAEError(f"cannot write {root}: {there} is {'not writable' if there.is_dir() else 'no folder'}")


def check_name(name: str | None) -> None:
    """Raise UsageError if a run cannot be called so."""
    if name is not None and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name) or name == "latest"):
        raise UsageError(f"run name {shown(name)}: use letters, digits, . _ -, at most 200 of them, and not 'latest'")


def _taken(name: str, root: Path) -> UsageError:
    return UsageError(f"run {name!r} exists in {root}: continue it with --resume {name}, or give another --name")


def _vacant(path: Path) -> bool:
    """Whether there is nothing, or but an empty folder."""
    return not os.path.lexists(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir()))


def _candidates(stem: str) -> Iterator[str]:
    yield stem
    for number in range(2, 1000):
        yield f"{stem}-{number}"
