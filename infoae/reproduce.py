"""One recipe on many seeds: a result file for each seed, then mean, deviation and worst, as table and figure.

DIR/seed-<n>.json  DIR/summary.json  DIR/summary.md  DIR/seeds.png; the runs lie in RUNS/<recipe>-seed-<n> as any other.
A seed that has its file is not trained again and a run that was stopped goes on: a repeated command finishes the job.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from matplotlib.figure import Figure

from infoae import launch
from infoae.config import Config, recipes
from infoae.errors import InfoAEError, UsageError
from infoae.files import atomic_file, write_json
from infoae.reporting.training import counted
from infoae.runs import checkpoint
from infoae.runs.run import Run

MEASURES = {
    "accuracy": "accuracy",
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

Result = dict[str, Any]


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
) -> Iterator[Result]:
    """Train and evaluate each seed that has no result in `folder`; yields every result, in the order of `seeds`.

    Ends early if training is stopped (Ctrl-C). Raises InfoAEError if `folder` or a run of that name belongs to another
    configuration.
    """
    for number, seed in enumerate(seeds):
        path = folder / f"seed-{seed}.json"
        config = recipes.load(source, [*overrides, f"seed={seed}"])
        if path.exists():
            result = read(path)
            # Parsed, so that keys which came later have their default.
            if _anywhere(recipes.parse(json.dumps(result["config"]), str(path))) != _anywhere(config):
                raise InfoAEError(f"{path} is of another configuration: give another --out, or delete it")
        else:
            trained = _train(source, [*overrides, f"seed={seed}"], f"{Path(source).stem}-seed-{seed}", runs)
            if trained is None:
                return
            result = _result(trained, config, seed)
            write_json(path, result)
        say(f"seed {seed} ({number + 1} of {len(seeds)}): {describe(result)}")
        yield result


def read(path: Path) -> Result:
    """Return a result file. Raises InfoAEError if it is none."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        if not {"seed", "config", "score", "seconds_training"} <= result.keys():
            raise ValueError("keys are missing")
    except (ValueError, AttributeError, OSError) as error:
        raise InfoAEError(f"{path} is no result of infoae reproduce ({error}): delete it, it is made again") from None
    assert isinstance(result, dict)
    return result


def describe(result: Result) -> str:
    """Return one seed's result in a line."""
    accuracy = f"accuracy {result['accuracy']:.2%}, " if "accuracy" in result else ""
    return f"{accuracy}score {result['score']:.3f} nats, {result['seconds_training']:.0f} s of training"


def summarize(command: str, recipe: str, results: Sequence[Result], folder: Path) -> dict[str, Any]:
    """Write summary.json, summary.md and seeds.png into `folder`; returns the content of summary.json.

    `best_by_score` is the seed that the label-free score chooses, `oracle` the one that the labels would.
    """
    by_score = max(results, key=lambda result: result["score"])
    summary: dict[str, Any] = {
        "command": command,
        "recipe": recipe,
        "seeds": [result["seed"] for result in results],
        "measures": {key: _statistics(key, values) for key in MEASURES if (values := _values_of(results, key))},
        "best_by_score": {"seed": by_score["seed"]},
        "environments": [result["environment"] for result in results],
    }
    if "accuracy" in by_score:
        oracle = max(results, key=lambda result: result["accuracy"])
        summary["best_by_score"]["accuracy"] = by_score["accuracy"]
        summary["oracle"] = {"seed": oracle["seed"], "accuracy": oracle["accuracy"]}
    write_json(folder / "summary.json", summary)
    with atomic_file(folder / "summary.md") as file:
        file.write_text(table(summary, results), encoding="utf-8")
    with atomic_file(folder / "seeds.png") as file:
        figure(recipe, results).savefig(file, dpi=120, format="png")
    return summary


def table(summary: dict[str, Any], results: Sequence[Result]) -> str:
    """Return the results as Markdown: a row a seed, the statistics, and, of all of MNIST, the paper's Table 1."""
    keys = list(summary["measures"])
    lines = [
        f"`{summary['command']}`",
        "",
        "| seed | " + " | ".join(MEASURES[key] for key in keys) + " |",
        "|---" * (len(keys) + 1) + "|",
    ]
    rows = [(str(result["seed"]), {key: _measure(result, key) for key in keys}) for result in results]
    rows += [
        (f"**{name}**", {key: summary["measures"][key][name] for key in keys})
        for name in ("mean", "deviation", "worst")
        if len(results) > 1  # of a single seed they would claim a certainty that is not there
    ]
    lines += [
        f"| {name} | " + " | ".join(_text(key, value) for key, value in values.items()) + " |" for name, values in rows
    ]
    data = {(result["config"]["data"]["name"], result["config"]["data"]["limit"]) for result in results}
    if "accuracy" in summary["measures"] and data == {("mnist", None)}:
        accuracy = summary["measures"]["accuracy"]
        spread = f" (± {100 * accuracy['deviation']:.2f})" if len(results) > 1 else ""
        ours = f"{100 - 100 * accuracy['mean']:.2f}{spread}"
        lines += ["", "| model | error rate, % |", "|---|---|"]
        lines += [f"| {name} | {rate} |" for name, rate in PUBLISHED]
        lines += [f"| infoae, `{summary['recipe']}`, {counted(len(results), 'seed')} | {ours} |", "", PROTOCOLS]
    return "\n".join(lines) + "\n"


def figure(recipe: str, results: Sequence[Result]) -> Figure:
    """Draw each seed's accuracy with mean and deviation, and accuracy against the label-free score."""
    seeds = [str(result["seed"]) for result in results]
    key = "accuracy" if all("accuracy" in result for result in results) else "score"
    values = [result[key] for result in results]
    statistic = _statistics(key, values)
    drawn = Figure(figsize=(11, 4.2), layout="constrained")
    axes = drawn.add_subplot(1, 2, 1, xlabel="seed", ylabel=MEASURES[key], title=f"{recipe}: {len(seeds)} seeds")
    axes.plot(seeds, values, "o")
    axes.axhline(statistic["mean"], color="C1", label=f"mean {statistic['mean']:.4f}")
    low, high = (statistic["mean"] + sign * statistic["deviation"] for sign in (-1, 1))
    axes.axhspan(low, high, color="C1", alpha=0.15, label=f"deviation {statistic['deviation']:.4f}")
    axes.legend(fontsize="small")
    axes = drawn.add_subplot(1, 2, 2, xlabel=MEASURES["score"], ylabel=MEASURES[key], title="score without labels")
    axes.plot([result["score"] for result in results], values, "o")
    return drawn


def _train(source: str, overrides: Sequence[str], name: str, runs: Path) -> Run | None:
    """Return the finished run `name`, trained now as far as it was not; None if it was stopped."""
    if (runs / name / "config.yaml").exists():
        found = Run.open(name, runs)
        plan = launch.planned(source, overrides, runs, name)
        if found.config() != plan.config:
            raise InfoAEError(f"run {name} in {runs} is of another configuration: give another --runs, or delete it")
        if found.is_finished(plan.config):
            launch.evaluate_run(found, plan.test, "best", plan.device)
            return found
        plan = launch.resumed(name, runs, None)
    else:
        plan = launch.planned(source, overrides, runs, name)
    return Run.open(name, runs) if launch.run(plan, "disabled")["finished"] else None


def _result(run: Run, config: Config, seed: int) -> Result:
    evaluation = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))
    environments = run.environments()
    seconds = checkpoint.read(run.checkpoint("newest")).seconds
    facts: Result = {
        "seed": seed,
        "config": yaml.safe_load(recipes.dump(_anywhere(config))),
        "environment": environments[-1] if environments else {},
        "seconds_training": seconds,
    }
    facts.update(evaluation)
    return facts


def _anywhere(config: Config) -> Config:
    """Return the configuration without where its data lie, which differs between machines; shards are known by that."""
    if config.data.name == "shards":
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"root": None, "download": False})})


def _measure(result: Result, key: str) -> float:
    value = result[key] if key in result else result["generated"].get(key)
    return float("nan") if value is None else float(value)


def _values_of(results: Sequence[Result], key: str) -> list[float]:
    """One measure of every result; empty if any lacks it."""
    values = [_measure(result, key) for result in results if key in result or key in result["generated"]]
    return values if len(values) == len(results) and all(value == value for value in values) else []  # NaN != NaN


def _statistics(key: str, values: Sequence[float]) -> dict[str, float]:
    """`deviation` is that of a sample (n - 1), 0 for a single seed."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    worst = max(values) if key in LOWER_IS_BETTER else min(values)
    return {"mean": statistics.fmean(values), "deviation": deviation, "worst": worst}


def _text(key: str, value: float) -> str:
    if key in ("accuracy", "recovered"):
        return f"{100 * value:.2f} %"
    return f"{value:.0f}" if key == "seconds_training" else f"{value:.3f}"
