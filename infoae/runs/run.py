"""A run's folder: where it is, what lies in it, and how to find it again.

runs/<name>/  config.yaml  environment.json  metrics.jsonl  checkpoints/  evaluation.json  figures/
              neighbours.npz, where the information loss compares neighbours
              consensus.npy, where heads voted; categories.json, where their number was found
runs/latest   a link to the newest run
"""

from __future__ import annotations

import datetime as dt
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoae.config import recipes
from infoae.config import Config
from infoae.errors import InfoAEError, UsageError
from infoae.files import atomic_file, write_json

if TYPE_CHECKING:
    from infoae.model import InfoAE

CATEGORIES = "categories.json"
ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class Run:
    """A folder of one training run."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @staticmethod
    def create(root: Path, name: str | None, recipe: str, config: Config) -> Run:
        """Make a new run folder and point `root`/latest to it. Raises UsageError if the name is taken or unfit."""
        run = Run(new_folder(root, name, recipe))
        run.write_config(config)
        run.point_latest()
        return run

    @staticmethod
    def open(run: str | Path, root: Path = Path("runs")) -> Run:
        """Find a run by folder or by name under `root`. Raises InfoAEError if there is none."""
        for path in (Path(run), root / run):
            if (path / "config.yaml").is_file():
                return Run(path.resolve())
        if str(run) == "latest" or Path(run) == root / "latest":
            raise InfoAEError(f"no run in {root}: start one with infoae train, or say which with RUN or --runs")
        raise InfoAEError(f"no run {str(run)!r}, neither that folder nor in {root}: ls {root} shows what there is")

    def write_config(self, config: Config) -> None:
        """Write the resolved configuration."""
        with atomic_file(self.path / "config.yaml") as file:
            file.write_text(recipes.dump(config), encoding="utf-8")

    def config(self) -> Config:
        """Return the resolved configuration the run was started with."""
        path = self.path / "config.yaml"
        return recipes.load(path)

    def checkpoint(self, which: str) -> Path:
        """Return the folder of the "best" or "newest" checkpoint. Raises InfoAEError if none was written yet."""
        from infoae.runs import checkpoint

        if which not in ("best", "newest"):
            raise UsageError(f"checkpoint is best or newest, not {which!r}")
        path = checkpoint.best(self.checkpoints) if which == "best" else checkpoint.newest(self.checkpoints)
        if path is None:
            raise InfoAEError(f"run {self.path} has no checkpoint: it stopped before its first epoch ended")
        return path

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs of `config` are done, or the run was stopped early by its train.patience."""
        from infoae.runs import checkpoint

        newest = checkpoint.newest(self.checkpoints)
        return newest is not None and (
            checkpoint.read(newest).epoch >= config.train.epochs or self.score_stands(config)
        )

    def score_stands(self, config: Config) -> bool:
        """Whether the label-free score has not risen for as many epochs as train.patience waits, if it is given."""
        from infoae.runs import checkpoint

        patience = config.train.patience
        return patience is not None and checkpoint.epochs_since_best(self.checkpoints) >= patience

    def refuse_finished(self, config: Config) -> None:
        """Raise InfoAEError if the run is finished."""
        from infoae.runs import checkpoint

        if self.is_finished(config):
            epoch, epochs = checkpoint.read(self.checkpoint("newest")).epoch, config.train.epochs
            further = "train it further with --epochs, or " if epoch >= epochs else "its score had stopped rising; "
            raise InfoAEError(
                f"run {self.name} is finished ({epoch} of {epochs} epochs): "
                f"{further}look at it with infoae evaluate {self.name}"
            )

    def load_model(self, which: str = "best") -> InfoAE:
        """Build the model and fill it from a checkpoint."""
        from infoae.runs import checkpoint
        from infoae.model import InfoAE

        model = InfoAE(self.config().model)
        checkpoint.load_weights(self.checkpoint(which), model)
        return model.eval()

    def metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of metrics.jsonl, oldest first."""
        path = self.path / "metrics.jsonl"
        if path.exists():
            with path.open(encoding="utf-8") as lines:
                for line in lines:
                    try:
                        yield json.loads(line)
                    except ValueError:  # the line being written when the machine went down
                        return

    def forget_metrics_after(self, step: int) -> None:
        """Drop the metrics of steps that will be done again."""
        kept = [json.dumps(line) + "\n" for line in self.metrics() if line["step"] <= step]
        with atomic_file(self.path / "metrics.jsonl") as file:
            file.write_text("".join(kept), encoding="utf-8")

    def information_kept(self) -> dict[int, float]:
        """Return the nats that merging left, by number of categories; empty where their number was given.

        Raises InfoAEError if the file that has them is damaged.
        """
        path = self.path / CATEGORIES
        if not path.exists():
            return {}
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))["information_kept"]
            return {int(number): float(nats) for number, nats in kept.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InfoAEError(f"{path} is damaged ({error}): remove it, only the curve in it is lost") from None

    def environments(self) -> list[dict[str, Any]]:
        """Return what each start and resume of the run ran on. Raises InfoAEError if its file is damaged."""
        path = self.path / ENVIRONMENT
        try:
            entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            return [dict(entry) for entry in entries]
        except (ValueError, TypeError) as error:
            raise InfoAEError(f"{path} is damaged ({error}): remove it, only what the run ran on is lost") from None

    def add_environment(self, entry: dict[str, Any]) -> None:
        """Append to environment.json what this start or resume ran on. Raises InfoAEError as `environments` does."""
        write_json(self.path / ENVIRONMENT, [*self.environments(), entry])

    def point_latest(self) -> None:
        """Let `latest` beside the run's folder be this run. Raises InfoAEError."""
        link = self.path.parent / "latest"
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            temporary = Path(folder) / "latest"
            try:
                temporary.symlink_to(self.path.name, target_is_directory=True)
                temporary.replace(link)
            except OSError as error:
                raise InfoAEError(f"cannot point {link} to {self.name} ({error}): remove it if it is no link") from None


def new_folder(root: Path, name: str | None, stem: str) -> Path:
    """Make the folder `name` under `root`; `stem` and the time if not given. Raises UsageError if taken or unfit."""
    if name is not None and (not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name == "latest"):
        raise UsageError(f"run name {name!r}: use letters, digits, . _ -, and not 'latest'")
    root.mkdir(parents=True, exist_ok=True)
    stamp = dt.datetime.now().strftime("%Y%m%d-%H%M%S")
    for candidate in [name] if name is not None else _candidates(f"{stem}-{stamp}"):
        try:
            (root / candidate).mkdir()
        except FileExistsError:
            continue
        return (root / candidate).absolute()
    raise UsageError(f"run {name!r} exists in {root}: continue it with --resume {name}, or give another --name")


def _candidates(stem: str) -> Iterator[str]:
    yield stem
    for number in range(2, 1000):
        yield f"{stem}-{number}"
