"""Tables of the recipes: their seeds, the published rows, and what was asked of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.pages import methods
from benchmarks.pages.results import MEASURES, Results, percent, shown, table, with_deviation


def seeds(name: str, one_more: tuple[str, int] | None = None) -> Callable[[Results], list[str]]:
    """Mean, deviation and worst of a recipe's seeds; of a single one its measures. `one_more` ran elsewhere."""

    def made(results: Results) -> list[str]:
        summary = results.summary(name)
        rows = [[label, *_measures(summary, label)] for label in ("mean", "deviation", "worst")]
        if len(summary["seeds"]) == 1:
            rows = [[f"seed {summary['seeds'][0]}", *_measures(summary, "mean")]]
        head = f"{len(summary['seeds'])} seeds" if len(summary["seeds"]) > 1 else ""
        names = [name]
        if one_more:
            names.append(one_more[0])
            result = results.seed(*one_more)
            rows.append([f"seed {one_more[1]}", *(shown(key, result[key]) for key in MEASURES)])
        return results.source(*names) + table([head, *MEASURES.values()], rows)

    return made


def _measures(summary: dict[str, Any], statistic: str) -> list[str]:
    return [shown(key, summary["measures"][key][statistic]) for key in MEASURES]


def readme(results: Results) -> list[str]:
    """The two recipes in a few measures."""
    header = ["command", "hardware", "accuracy", "worst seed", "NMI", "score", "recovered", "diversity", "Fréchet"]
    rows = []
    for name in ("mnist", "mnist-best"):
        measures = results.summary(name)["measures"]
        mean = {key: shown(key, measures[key]["mean"]) for key in MEASURES}
        hardware = f"{results.sources[name]['hardware']}; {mean['seconds_training']} s a seed"
        diversity = f"{measures['diversity_pixels']['mean']:.2f} / {measures['diversity_latent']['mean']:.2f}"
        accuracy, worst = with_deviation(measures["accuracy"]), percent(measures["accuracy"]["worst"])
        command = f"`{results.sources[name]['command']}`"
        figures = [mean["nmi"], f"{mean['score']} nats", mean["recovered"], diversity, mean["frechet_distance"]]
        rows.append([command, hardware, accuracy, worst, *figures])
    return table(header, rows)


@dataclass(frozen=True)
class Bound:
    """A figure, and what was asked of it."""

    value: float
    asked: float
    written: Callable[[float], str] = percent
    at_most: bool = False

    def met(self) -> bool:
        """Return whether the figure is what was asked."""
        return self.value <= self.asked if self.at_most else self.value >= self.asked


def claims(results: Results) -> list[str]:
    """What the project asked of its recipes and of its speed, and what came out."""
    rows = []
    for what, bounds in _asked(results).items():
        asked = [f"{bound.written(bound.asked)}" + (" at most" if bound.at_most else "") for bound in bounds]
        measured = [bound.written(bound.value) for bound in bounds]
        verdict = "met" if all(bound.met() for bound in bounds) else "missed"
        rows.append([what, " / ".join(asked), " / ".join(measured), verdict])
    return table(["what", "asked", "measured", ""], rows)


def _asked_of_a_step(results: Results) -> dict[str, list[Bound]]:
    found = results.json("step.json")
    ways = {(entry["recipe"], entry["stage"]): entry["ways"]["processes"] for entry in found["speed"]}
    busy = {(row["what"], row["way"]): row for row in found["busy"]}
    last, first = "adversarial", "mutual_information"
    alone, beside = (busy[f"mnist, {last}", way] for way in ("processes", "one thread"))
    kept = statistics.median(beside["shares"][0]) * beside["per_second"][0] / alone["per_second"][0]
    plain = statistics.median(results.json("train.json")["ratios"])
    two = [statistics.median(ways["mnist", stage]["ratios"]) for stage in (first, last)]
    peak = [statistics.median(ways[recipe, last]["shares_of_peak"]) for recipe in ("mnist", "mnist-best")]
    return {
        "a step of everything, `mnist`, against a plain loop in fp32": [Bound(plain, 6, _two)],
        "two processes against one thread, information and everything, `mnist`": [
            Bound(each, 1.7, _two) for each in two
        ],
        "beside one busy program, of the speed alone: one process": [Bound(kept, 0.6, _two)],
        "share of the bf16 peak, everything: `mnist`, `mnist-best`": [
            Bound(share, asked, _two) for share, asked in zip(peak, (0.25, 0.4), strict=True)
        ],
    }


def _asked_of_methods(results: Results) -> dict[str, list[Bound]]:
    def of_seeds(row: str, measure: str) -> list[float]:
        return [seed[measure] for seed in methods.seeds(results, row)]

    def mean(row: str, measure: str = "many_to_one") -> float:
        return statistics.fmean(of_seeds(row, measure))

    paper = "infoae-the-paper-s-losses"
    best: float = methods.highest_score(methods.seeds(results, paper))["accuracy"]
    return {
        "InfoGAN, 10 categories: one-to-one, median": [
            Bound(statistics.median(of_seeds("infogan-10-categories", "accuracy")), 0.9)
        ],
        "InfoGAN, 20 categories: many-to-one, median": [
            Bound(statistics.median(of_seeds("infogan-20-categories", "many_to_one")), 0.95)
        ],
        "AAE, 30 categories: many-to-one, mean": [Bound(mean("aae-30-categories"), 0.9)],
        "CatGAN, 20 categories: many-to-one, mean": [Bound(mean("catgan-20-categories"), 0.9)],
        "PixelGAN AE, 30 categories: many-to-one, mean": [Bound(mean("pixelgan-ae-30-categories"), 0.88)],
        "`mnist-paper`: accuracy, mean; of the highest score of five": [
            Bound(mean(paper, "accuracy"), 0.92),
            Bound(best, 0.96),
        ],
        "`mnist-paper`: the paper's figure, mean": [Bound(mean(paper, "accuracy"), 0.989)],
    }


def _asked(results: Results) -> dict[str, list[Bound]]:
    mnist, best = (results.summary(name)["measures"] for name in ("mnist", "mnist-best"))
    alone = {
        "mnist": results.seed("mnist", 150)["seconds_training"],
        "mnist-best": results.seed("mnist-best-two-cores", 145)["seconds_training"],
    }
    two = [results.json(file)["two, weak scaling"]["ratios"] for file in ("scaling.json", "scaling-best.json")]
    cpu, small, large = (results.json(f"classify{end}.json") for end in ("", "-h100-256", "-h100"))
    eager = "classifier/torch_eager"
    return {
        "`mnist`: accuracy, mean and worst": _accuracy(mnist, 0.975, 0.96),
        "`mnist`: recovered; diversity in pixels and latent": _generator(mnist),
        "`mnist`: training on two cores (seed 150)": [Bound(alone["mnist"], 600, _minutes, at_most=True)],
        "`mnist-best`: accuracy, mean and worst": _accuracy(best, 0.989, 0.986),
        "`mnist-best`: the goal for these": _accuracy(best, 0.992, 0.99),
        "`mnist-best`: recovered; diversity in pixels and latent": _generator(best),
        "`mnist-best`: training on two cores (seed 145)": [Bound(alone["mnist-best"], 5400, _minutes, at_most=True)],
        **_asked_of_methods(results),
        "`photos`: CIFAR-10 from scratch, accuracy, mean": [Bound(_mean(results, "photos"), 0.38)],
        "`photos-features`: CIFAR-10 on EfficientNet-lite0, accuracy, mean": [
            Bound(_mean(results, "photos-features"), 0.55)
        ],
        "two workers against one: `mnist`, `mnist-best`": [Bound(statistics.median(each), 1.7, _two) for each in two],
        "`Classifier`, and `.npz` end to end, against `session.run`": [
            Bound(cpu["ratios"]["classifier/session"], 0.95, _two),
            Bound(cpu["ratios"]["npz/session"], 0.8, _two),
        ],
        "`Classifier` against torch eager, two cores": [Bound(cpu["ratios"][eager], 1.5, _two)],
        "the same on an H100, batches of 256": [Bound(small["ratios"][eager], 1.5, _two)],
        "the same on an H100, batches of 4,096": [Bound(large["ratios"][eager], 1.5, _two)],
        **_asked_of_a_step(results),
        "start to first label": [Bound(cpu["seconds_to_first_label"], 1, _seconds, at_most=True)],
        "memory to label a million images": [Bound(cpu["million"]["peak_gib"], 1.5, _gib, at_most=True)],
    }


def _mean(results: Results, name: str) -> float:
    """The mean accuracy of a recipe's seeds."""
    mean: float = results.summary(name)["measures"]["accuracy"]["mean"]
    return mean


def _accuracy(measures: dict[str, Any], mean: float, worst: float) -> list[Bound]:
    return [Bound(measures["accuracy"]["mean"], mean), Bound(measures["accuracy"]["worst"], worst)]


def _generator(measures: dict[str, Any]) -> list[Bound]:
    diversity = [Bound(measures[f"diversity_{where}"]["mean"], 0.8, _two) for where in ("pixels", "latent")]
    return [Bound(measures["recovered"]["mean"], 0.98), *diversity]


def _two(value: float) -> str:
    return f"{value:.2f}"


def _minutes(value: float) -> str:
    return f"{value / 60:.1f} min"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _gib(value: float) -> str:
    return f"{value:.2f} GiB"
