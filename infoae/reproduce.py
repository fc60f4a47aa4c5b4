"""One recipe on many seeds: a result file for each seed, then mean, deviation and worst, as table and figure.

DIR/seed-<n>.json  DIR/summary.json  DIR/summary.md  DIR/seeds.png; the runs lie in RUNS/<recipe>-seed-<n> as any other.
A seed that has its file is not trained again and a run that was stopped goes on: a repeated command finishes the job.
"""

from __future__ import annotations

import json
import re
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from infoae import launch
from infoae.config import Config, recipes
from infoae.errors import InfoAEError, Notice, UsageError, one_line
from infoae.evaluation.evaluate import evaluate_run
from infoae.files import atomic_file, write_json
from infoae.launch import Executor
from infoae.planning import planned, resumed
from infoae.results import counted
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
LOWER_IS_BETTER = ("frechet_distance", "seconds_training")
PUBLISHED = (
    ("InfoGAN (Chen et al. 2016)", "5"),
    ("Adversarial Autoencoder (Makhzani et al. 2016)", "4.10 (± 1.12)"),
    ("Convolutional CatGAN (Springenberg 2015)", "4.27"),
    ("PixelGAN Autoencoders (Makhzani and Frey 2017)", "5.27 (± 1.81)"),
    ("InfoAE (the paper)", "1.1 (± 0.1)"),
)
"""Error rates in % of the paper's Table 1: MNIST alone."""
PROTOCOLS = (
    "The published rows follow other protocols in part: AAE, CatGAN and PixelGAN AE used 20 to 30 categories, each\n"
    "given the class of most of its images (many-to-one); InfoAE and infoae have ten, matched one-to-one. All were\n"
    "fitted on the 60,000 training images and measured on the 10,000 test images."
)


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
        """Take the content of a file. Raises KeyError, TypeError or AttributeError if it is of something else."""
        known = {"seed", "config", "environment", "seconds_training"}
        evaluation = {name: value for name, value in content.items() if name not in known}
        values = evaluation["generated"] | evaluation | {"seconds_training": content["seconds_training"]}
        measures = {name: float(values[name]) for name in MEASURES if values.get(name) is not None}
        if not {"score", "seconds_training"} <= measures.keys():
            raise KeyError("score, seconds_training")
        return SeedResult(content["seed"], content["config"], content["environment"], measures, evaluation)


@dataclass(frozen=True)
class Statistic:
    """One measure over all seeds."""

    mean: float
    deviation: float
    """Of a sample (n - 1), 0 for a single seed."""
    worst: float


@dataclass(frozen=True)
class Summary:
    """What all seeds came to."""

    command: str
    recipe: str
    seeds: list[int]
    measures: dict[str, Statistic]
    best_by_score: SeedResult
    """The seed that the score chooses."""
    oracle: SeedResult | None
    """The seed that the labels would choose, where there are any."""
    environments: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of summary.json."""
        chosen: dict[str, Any] = {"best_by_score": {"seed": self.best_by_score.seed}}
        if self.oracle is not None:
            chosen["best_by_score"]["accuracy"] = self.best_by_score.measures["accuracy"]
            chosen["oracle"] = {"seed": self.oracle.seed, "accuracy": self.oracle.measures["accuracy"]}
        content: dict[str, Any] = {"command": self.command, "recipe": self.recipe, "seeds": self.seeds}
        content["measures"] = {name: asdict(statistic) for name, statistic in self.measures.items()}
        return content | chosen | {"environments": self.environments}


def parse_seeds(text: str) -> list[int]:
    """Read "0-9", "0,3,7" or a mix, each seed once. Raises UsageError."""
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,9})(?:-(\d{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise UsageError(f"--seeds {text!r}: give numbers and ranges, as in 0-9 or 0,3,7")
        if last - first >= 10_000:
            raise UsageError(f"--seeds {text!r}: more than 10,000 seeds")
        seeds += range(first, last + 1)
    return sorted(set(seeds))


def run_seeds(
    source: str,
    overrides: Sequence[str],
    seeds: Sequence[int],
    folder: Path,
    runs: Path,
    say: Callable[[str], object],
) -> Iterator[SeedResult]:
    """Train and evaluate each seed that has no result in `folder`; yields every result, in the order of `seeds`.

    Ends early if training is stopped (Ctrl-C). Raises InfoAEError if `folder` or a run of that name belongs to another
    configuration.
    """
    for number, seed in enumerate(seeds):
        path = folder / f"seed-{seed}.json"
        config = recipes.load(source, [*overrides, f"seed={seed}"])
        if path.exists():
            result = read(path)
            if _anywhere(_config_of(result, path)) != _anywhere(config):
                raise InfoAEError(f"{path} is of another configuration: give another --out, or delete it")
        else:
            trained = _train(source, [*overrides, f"seed={seed}"], f"{Path(source).stem}-seed-{seed}", runs)
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
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InfoAEError(
            f"{path} is no result of infoae reproduce ({one_line(error)}): delete it, it is made again"
        ) from None


def summarize(command: str, recipe: str, results: Sequence[SeedResult], folder: Path) -> Summary:
    """Write summary.json, summary.md and seeds.png into `folder`; returns the summary."""
    labelled = all("accuracy" in result.measures for result in results)
    summary = Summary(
        command=command,
        recipe=recipe,
        seeds=[result.seed for result in results],
        measures={
            name: _statistic(name, [result.measures[name] for result in results])
            for name in MEASURES
            if all(name in result.measures for result in results)
        },
        best_by_score=max(results, key=lambda result: result.score),
        oracle=max(results, key=lambda result: result.measures["accuracy"]) if labelled else None,
        environments=[result.environment for result in results],
    )
    write_json(folder / "summary.json", summary.to_dict())
    with atomic_file(folder / "summary.md") as file:
        file.write_text(table(summary, results), encoding="utf-8")
    with atomic_file(folder / "seeds.png") as file:
        figure(recipe, results).savefig(file, dpi=120, format="png")
    return summary


def table(summary: Summary, results: Sequence[SeedResult]) -> str:
    """Return the results as Markdown: a row a seed, the statistics, and, of all of MNIST, the paper's Table 1."""
    names = list(summary.measures)
    lines = [
        f"`{summary.command}`",
        "",
        "| seed | " + " | ".join(MEASURES[name] for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    rows = [(str(result.seed), result.measures) for result in results]
    rows += [
        (f"**{statistic}**", {name: getattr(summary.measures[name], statistic) for name in names})
        for statistic in ("mean", "deviation", "worst")
        if len(results) > 1  # of a single seed they would claim a certainty that is not there
    ]
    lines += [f"| {row} | " + " | ".join(_text(name, values[name]) for name in names) + " |" for row, values in rows]
    data = {(result.config["data"]["name"], result.config["data"]["limit"]) for result in results}
    if "accuracy" in summary.measures and data == {("mnist", None)}:
        accuracy = summary.measures["accuracy"]
        spread = f" (± {100 * accuracy.deviation:.2f})" if len(results) > 1 else ""
        ours = f"{100 - 100 * accuracy.mean:.2f}{spread}"
        lines += ["", "| model | error rate, % |", "|---|---|"]
        lines += [f"| {name} | {rate} |" for name, rate in PUBLISHED]
        lines += [f"| infoae, `{summary.recipe}`, {counted(len(results), 'seed')} | {ours} |", "", PROTOCOLS]
    return "\n".join(lines) + "\n"


def figure(recipe: str, results: Sequence[SeedResult]) -> Figure:
    """Draw each seed's accuracy with mean and deviation, and accuracy against the score."""
    seeds = [str(result.seed) for result in results]
    name = "accuracy" if all("accuracy" in result.measures for result in results) else "score"
    values = [result.measures[name] for result in results]
    statistic = _statistic(name, values)
    drawn = Figure(figsize=(11, 4.2), layout="constrained")
    axes = drawn.add_subplot(1, 2, 1, xlabel="seed", ylabel=MEASURES[name], title=f"{recipe}: {len(seeds)} seeds")
    axes.plot(seeds, values, "o")
    axes.axhline(statistic.mean, color="C1", label=f"mean {statistic.mean:.4f}")
    low, high = (statistic.mean + sign * statistic.deviation for sign in (-1, 1))
    axes.axhspan(low, high, color="C1", alpha=0.15, label=f"deviation {statistic.deviation:.4f}")
    axes.legend(fontsize="small")
    axes = drawn.add_subplot(1, 2, 2, xlabel=MEASURES["score"], ylabel=MEASURES[name], title="score without labels")
    axes.plot([result.score for result in results], values, "o")
    return drawn


def _train(source: str, overrides: Sequence[str], name: str, runs: Path) -> Run | None:
    """Return the finished run `name`, trained now as far as it was not; None if it was stopped."""
    if (runs / name / CONFIG).exists():
        found = Run.open(name, runs)
        plan = planned(source, overrides, runs, name)
        if found.config() != plan.config:
            raise InfoAEError(f"run {name} in {runs} is of another configuration: give another --runs, or delete it")
        if found.is_finished(plan.config):
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
        "config": yaml.safe_load(recipes.dump(_anywhere(config))),
        "environment": environments[-1] if environments else {},
        "seconds_training": checkpoint.read(run.checkpoint("newest")).seconds,
    }
    return SeedResult.from_dict(facts | json.loads((run.path / EVALUATION).read_text(encoding="utf-8")))


def _config_of(result: SeedResult, path: Path) -> Config:
    """Return a result's configuration, parsed, so that keys which came later have their default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Notice)  # a result of version 0.1 need not be mended by anyone
        return recipes.parse(json.dumps(result.config), str(path))


def _anywhere(config: Config) -> Config:
    """Return the configuration without where its data lie, which differs between machines; shards are known by that."""
    if config.data.name == "shards":
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": None, "download": False})})


def _statistic(name: str, values: Sequence[float]) -> Statistic:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return Statistic(statistics.fmean(values), deviation, max(values) if name in LOWER_IS_BETTER else min(values))


def _text(name: str, value: float) -> str:
    if name in ("accuracy", "many_to_one", "recovered"):
        return f"{100 * value:.2f} %"
    return f"{value:.0f}" if name == "seconds_training" else f"{value:.3f}"
