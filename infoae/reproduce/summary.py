"""What the seeds of a recipe came to: mean, deviation and worst, as JSON, table and figure.

DIR/summary.json  DIR/summary.md  DIR/seeds.png
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from infoae.files import atomic_file, write_json
from infoae.reproduce.seeds import MEASURES, SeedResult

LOWER_IS_BETTER = ("frechet_distance", "seconds_training")


@dataclass(frozen=True)
class Statistic:
    """One measure over all seeds."""

    mean: float
    deviation: float
    """Of a sample (n - 1), 0 for a single seed."""
    worst: float
    median: float


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
        file.write_text(_table(summary, results), encoding="utf-8")
    with atomic_file(folder / "seeds.png") as file:
        _figure(recipe, results).savefig(file, dpi=120, format="png")
    return summary


def _table(summary: Summary, results: Sequence[SeedResult]) -> str:
    """Return the results as Markdown: a row a seed, and the statistics."""
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
        for statistic in ("mean", "deviation", "worst", "median")
        if len(results) > 1  # of a single seed they would claim a certainty that is not there
    ]
    lines += [f"| {row} | " + " | ".join(_text(name, values[name]) for name in names) + " |" for row, values in rows]
    return "\n".join(lines) + "\n"


def _figure(recipe: str, results: Sequence[SeedResult]) -> Figure:
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


def _statistic(name: str, values: Sequence[float]) -> Statistic:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    worst = max(values) if name in LOWER_IS_BETTER else min(values)
    return Statistic(statistics.fmean(values), deviation, worst, statistics.median(values))


def _text(name: str, value: float) -> str:
    if name in ("accuracy", "many_to_one", "recovered"):
        return f"{100 * value:.2f} %"
    return f"{value:.0f}" if name == "seconds_training" else f"{value:.3f}"
