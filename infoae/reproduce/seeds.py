"""One recipe on many seeds: DIR/seed-<n>.json for each; the runs lie in RUNS/<name>-seed-<n> as any other.

A seed that has its file is not trained again and a run that was stopped goes on: a repeated command finishes the job.
"""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoae import launch
from infoae.config import Config, recipes
from infoae.errors import InfoAEError, Notice, UsageError, one_line, shown
from infoae.evaluation.evaluate import evaluate_run
from infoae.files import write_json
from infoae.launch import Executor
from infoae.limits import MAX_RUNS
from infoae.planning import planned, resumed
from infoae.runs import checkpoint
from infoae.runs.run import CONFIG, EVALUATION, Run

MEASURES = {
    "accuracy": "accuracy",
    "many_to_one": "many-to-one",
    "nmi": "NMI",
    "score": "score (nats)",
    "recovered": "recovered",
    "diversity_pixels": "diversity, pixels",
    "diversity_latent": "diversity, latent",
    "frechet_distance": "Fréchet distance",
    "seconds_training": "training (s)",
}
"""Key in a result file, and heading."""

_OTHER = (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError)
"""What reading a file raises that is not what was written."""


@dataclass(frozen=True)
class SeedResult:
    """What one seed came to: the content of its file."""

    seed: int
    config: dict[str, Any]
    """As it was written, without where the data lie."""
    environment: dict[str, Any]
    measures: dict[str, float]
    """Those of MEASURES that it has; none is NaN."""
    evaluation: dict[str, Any]
    """The content of the run's evaluation.json."""

    @property
    def score(self) -> float:
        """The score of the best checkpoint, in nats."""
        return self.measures["score"]

    def describe(self) -> str:
        """Return it in a line."""
        accuracy = f"accuracy {self.measures['accuracy']:.2%}, " if "accuracy" in self.measures else ""
        return f"{accuracy}score {self.score:.3f} nats, {self.measures['seconds_training']:.0f} s of training"

    def to_dict(self) -> dict[str, Any]:
        """Return the content of its file."""
        facts = {"seed": self.seed, "config": self.config, "environment": self.environment}
        return facts | {"seconds_training": self.measures["seconds_training"]} | self.evaluation

    @staticmethod
    def from_dict(content: dict[str, Any]) -> SeedResult:
        """Take the content of a file. Raises a KeyError, TypeError, ValueError or AttributeError for anything else."""
        known = {"seed", "config", "environment", "seconds_training"}
        evaluation = {name: value for name, value in content.items() if name not in known}
        values = evaluation["generated"] | evaluation | {"seconds_training": content["seconds_training"]}
        measures = {name: float(values[name]) for name in MEASURES if values.get(name) is not None}
        if not {"score", "seconds_training"} <= measures.keys():
            raise KeyError("score, seconds_training")
        if not all(map(math.isfinite, measures.values())):
            raise ValueError("a measure is not finite")
        if [type(content[name]) for name in ("seed", "config", "environment")] != [int, dict, dict]:
            raise TypeError("seed, config, environment")
        return SeedResult(content["seed"], content["config"], content["environment"], measures, evaluation)


def parse_seeds(text: str) -> list[int]:
    """Read "0-9", "0,3,7" or a mix, each seed once. Raises UsageError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UsageError(f"--seeds {shown(text)}: give numbers and ranges, as in 0-9 or 0,3,7")
        if last - first + len(seeds) >= MAX_RUNS:
            raise UsageError(f"--seeds {shown(text)}: more seeds than {MAX_RUNS}")
        seeds += range(first, last + 1)
    return sorted(set(seeds))


def run_seeds(
    source: str,
    overrides: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    runs: Path,
    say: Callable[[str], object],
    name: str | None = None,
) -> Iterator[SeedResult]:
    """Train and evaluate each seed that has no result in `folder`; yields every result, in the order of `seeds`.

    The runs are called `name`-seed-<n>, by the recipe's name if not given. Ends early if training is stopped (Ctrl-C).
    Raises InfoAEError if `folder` or a run of that name belongs to another configuration.
    """
    for number, seed in enumerate(seeds):
        path = folder / f"seed-{seed}.json"
        config = recipes.load(source, [*overrides, f"seed={seed}"])
        if path.exists():
            result = read(path)
            if not _anywhere(_config_of(result, path)).stands_for(_anywhere(config)):
                raise InfoAEError(f"{path} is of another configuration: give another --out, or delete it")
        else:
            trained = _train(source, [*overrides, f"seed={seed}"], f"{name or Path(source).stem}-seed-{seed}", runs)
            if trained is None:
                return
            result = _result(trained, config, seed)
            write_json(path, result.to_dict())
        say(f"seed {seed} ({number + 1} of {len(seeds)}): {result.describe()}")
        yield result


def read(path: Path) -> SeedResult:
    """Return a result file. Raises InfoAEError if it is none."""
    try:
        return SeedResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except _OTHER as error:
        raise InfoAEError(
            f"{path} is no result of infoae reproduce ({one_line(error)}): delete it, it is made again"
        ) from None


def _train(source: str, overrides: Sequence[str], name: str, runs: Path) -> Run | None:
    """Return the finished run `name`, trained now as far as it was not; None if it was stopped."""
    if (runs / name / CONFIG).exists():
        found = Run.open(name, runs)
        plan = planned(source, overrides, runs, name)
        if not found.config().stands_for(plan.config):
            raise InfoAEError(f"run {name} in {runs} is of another configuration: give another --runs, or delete it")
        if found.is_finished(plan.config):
            with found.locked():  # which also removes what a kill left
                evaluate_run(found, plan.test, "best", plan.device)
            return found
        plan = resumed(name, runs, None)
    else:
        plan = planned(source, overrides, runs, name)
    return Run.open(name, runs) if launch.run(plan, Executor()).finished else None


def _result(run: Run, config: Config, seed: int) -> SeedResult:
    environments = run.environments()
    facts = {
        "seed": seed,
        "config": _anywhere(config).settings(),
        "environment": environments[-1] if environments else {},
        "seconds_training": checkpoint.read(run.checkpoint("newest")).seconds,
    }
    path = run.path / EVALUATION
    try:
        return SeedResult.from_dict(facts | json.loads(path.read_text(encoding="utf-8")))
    except _OTHER as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): infoae evaluate {run.path} makes it again") from None


def _config_of(result: SeedResult, path: Path) -> Config:
    """Return a result's configuration, parsed, so that keys which came later have their default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # a result of version 0.1 need not be mended by anyone
        return recipes.parse(json.dumps(result.config), str(path))


def _anywhere(config: Config) -> Config:
    """Return the configuration without where its data lie, which differs between machines, unless it says which."""
    if config.data.name in ("shards", "files"):
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": None, "download": False})})
