"""Does the score rank runs as their accuracy does? Spearman's correlation, and what choosing by it costs.

    python benchmarks/score.py RUN... [--out score.json] [--figure score.png]

Evaluates the best checkpoint of each run folder (a sweep's trials are such, too): its score was fixed in training, from
training images without labels; the test labels are looked at here, afterwards. Regret is how far the run of the highest
score is below the most accurate one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from infoae import data
from infoae.evaluation.evaluate import evaluate_run
from infoae.files import atomic_file, write_json
from infoae.runs.run import Run


def measured(folders: list[Path]) -> list[dict[str, Any]]:
    """Return name, score and test accuracy of each run."""
    found = []
    for folder in folders:
        run = Run.open(folder)
        result = evaluate_run(run, data.load(run.config().data, "test"), "best", torch.device("cpu")).to_dict()
        found.append({key: result[key] for key in ("run", "score", "accuracy")})
        print(f"{run.name}: score {result['score']:.4f} nats, accuracy {result['accuracy']:.2%}", flush=True)
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return Spearman's correlation and the regret in accuracy."""
    scores, accuracies = ([run[key] for run in runs] for key in ("score", "accuracy"))
    chosen = max(runs, key=lambda run: run["score"])
    return {
        "runs": len(runs),
        "spearman": float(spearmanr(scores, accuracies).statistic),
        "chosen": chosen["run"],
        "regret": max(accuracies) - chosen["accuracy"],
    }


def drawn(runs: list[dict[str, Any]], found: dict[str, Any]) -> Figure:
    """Draw accuracy over score, a colour for each kind of run."""
    figure = Figure(figsize=(6.5, 4.5), layout="constrained")
    title = f"{found['runs']} runs: Spearman {found['spearman']:.2f}, regret {100 * found['regret']:.2f} points"
    axes = figure.add_subplot(xlabel="score (nats)", ylabel="test accuracy", title=title)
    kinds = [run["run"].rpartition("-")[0] or run["run"] for run in runs]
    for kind in dict.fromkeys(kinds):
        points = [(run["score"], run["accuracy"]) for run, its in zip(runs, kinds, strict=True) if its == kind]
        axes.plot(*zip(*points, strict=True), "o", label=kind)
    axes.legend(fontsize="small")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, help="JSON file of all figures")
    parser.add_argument("--figure", type=Path, help="PNG file of accuracy over score")
    arguments = parser.parse_args()
    runs = measured(arguments.runs)
    found = summary(runs)
    print(json.dumps(found))
    if arguments.out:
        write_json(arguments.out, found | {"of_each": runs})
    if arguments.figure:
        with atomic_file(arguments.figure) as file:
            drawn(runs, found).savefig(file, dpi=120, format="png")


if __name__ == "__main__":
    main()
