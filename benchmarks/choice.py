"""Whether the recipe that is chosen without labels is the one of the best accuracy: over data sets, seeds and recipes.

    python benchmarks/choice.py mnist SHARDS... [--seeds 0 1] [--limit 20000] [--out choice.json]

Of each data set, mnist or a folder that `infoae convert --labels` wrote, every candidate of `train --config auto`
is tried on a few training images (`infoae.choosing`), and evaluated on 2,000 test images with their labels. Printed of
each data set and seed: what is chosen; Spearman's rank correlation of score and accuracy over the candidates whose
categories no thumbnail tells; and the regret, which is the accuracy of the best candidate less that of the chosen one.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr

from infoae import choosing, data
from infoae.config import Config, Data, recipes
from infoae.device import resolve_device, resolve_precision
from infoae.evaluation.evaluate import labelled
from infoae.files import write_json
from infoae.reporting.bars import Bar

TESTED = 2000


Row = tuple[choosing.Trial, dict[str, float]]


def tried(source: str, seed: int, limit: int) -> list[Row]:
    """Return the trial of each candidate, with accuracy and NMI on test images."""
    given = Data(name="mnist") if source == "mnist" else Data(name="shards", root=Path(source))
    train = data.load_training(given).images[:limit]
    test = data.load(given, "test")
    if test.labels is None:
        raise SystemExit(f"{source} has no labels of the test images: infoae convert --labels writes them")
    images, classes = test.images[:TESTED], test.labels[:TESTED]
    config = recipes.replaced(Config(), {"seed": seed, "model.num_categories": int(classes.max()) + 1}, "choice")
    device = resolve_device("auto")
    rows: list[Row] = []
    with Bar(f"{source}, seed {seed}", "recipes", len(choosing.CANDIDATES)) as bar:
        bar.show()
        for trial in choosing.trials(train, config, device, resolve_precision("auto", device)):
            found = labelled(trial.model.classify(images).argmax(1).numpy(), classes, trial.model.num_categories)
            rows.append((trial, {"accuracy": found.accuracy, "nmi": found.nmi}))
            bar.advance(1)
    return rows


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return what is chosen, how far scores agree with accuracy, and what the choice costs."""
    accuracy = {str(trial.candidate): found["accuracy"] for trial, found in rows}
    chosen = str(choosing.best_of([trial for trial, _ in rows]).candidate)
    best = max(accuracy, key=accuracy.__getitem__)
    counted = [(trial.score, found["accuracy"]) for trial, found in rows if not trial.told_by_thumbnail]
    rank = spearmanr(*zip(*counted, strict=True)).statistic if len(counted) > 1 else None
    return {
        "chosen": chosen,
        "best": best,
        "spearman": None if rank is None else round(float(rank), 3),
        "regret": round(accuracy[best] - accuracy[chosen], 4),
    }


def described(rows: list[Row]) -> list[dict[str, Any]]:
    """Return a candidate a row: its name, score in nats, and accuracy and NMI on test images."""
    return [
        {"candidate": str(trial.candidate), "score": trial.score, "told_by_thumbnail": trial.told_by_thumbnail} | found
        for trial, found in rows
    ]


def main(arguments: list[str] | None = None) -> None:
    """Try, evaluate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="mnist|SHARDS")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--limit", type=int, default=20_000, help="training images to draw from")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    results = []
    for source in given.sets:
        for seed in given.seeds:
            rows = tried(source, seed, given.limit)
            results.append({"set": Path(source).name, "seed": seed, **summary(rows), "candidates": described(rows)})
            print(f"{source}, seed {seed}: {summary(rows)}", flush=True)
            if given.out is not None:
                write_json(given.out, {"results": results})


if __name__ == "__main__":
    main()
