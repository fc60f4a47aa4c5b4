"""Whether the recipe that is chosen without labels is the one of the best accuracy: over data sets, seeds and recipes.

    python benchmarks/choice.py mnist SHARDS... [--seeds 0 1] [--limit 20000] [--out choice.json]

Of each data set, mnist or a folder that `infoae convert --labels` wrote, every candidate of `train --config auto`
is tried on a few training images (`infoae.choosing`), and evaluated on 2,000 test images with their labels. Printed of
each data set and seed: what is chosen; Spearman's rank correlation of score and accuracy over the recipes that seek
neighbours in pixels, and over those that learn features; and the regret, which is the accuracy of the best recipe less
that of the chosen one.
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
from infoae.reporting.images import progress

TESTED = 2000


def tried(source: str, seed: int, limit: int) -> list[dict[str, Any]]:
    """Return, of each candidate, its name, score in nats, and accuracy and NMI on test images."""
    given = Data(name="mnist") if source == "mnist" else Data(name="shards", root=Path(source))
    train = data.load_training(given).images[:limit]
    test = data.load(given, "test")
    if test.labels is None:
        raise SystemExit(f"{source} has no labels of the test images: infoae convert --labels writes them")
    images, classes = test.images[:TESTED], test.labels[:TESTED]
    config = recipes.replaced(Config(), {"seed": seed, "model.num_categories": int(classes.max()) + 1}, "choice")
    device = resolve_device("auto")
    rows = []
    every = (*choosing.IN_PIXELS, *choosing.LEARNED)
    with progress(f"{source}, seed {seed}", len(every)) as advance:
        for trial in choosing.trials(every, train, config, device, resolve_precision("auto", device)):
            found = labelled(trial.model.classify(images).argmax(1).numpy(), classes, trial.model.num_categories)
            rows.append(
                {
                    "candidate": str(trial.candidate),
                    "in_pixels": trial.candidate in choosing.IN_PIXELS,
                    "score": trial.score,
                    "told_by_thumbnail": trial.told_by_thumbnail,
                    "accuracy": found.accuracy,
                    "nmi": found.nmi,
                }
            )
            advance(1)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is chosen, and how far scores agree with accuracy among recipes of one source of neighbours."""
    groups = [[row for row in rows if row["in_pixels"] == in_pixels] for in_pixels in (True, False)]
    first, second = (max(group, key=lambda row: row["score"]) for group in groups)
    chosen, best = second if first["told_by_thumbnail"] else first, max(rows, key=lambda row: row["accuracy"])
    ranks = [spearmanr(*([row[key] for row in group] for key in ("score", "accuracy"))).statistic for group in groups]
    return {
        "chosen": chosen["candidate"],
        "best": best["candidate"],
        "spearman_in_pixels": round(float(ranks[0]), 3),
        "spearman_learned": round(float(ranks[1]), 3),
        "regret": round(best["accuracy"] - chosen["accuracy"], 4),
    }


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
            results.append({"set": Path(source).name, "seed": seed, **summary(rows), "candidates": rows})
            print(f"{source}, seed {seed}: {summary(rows)}", flush=True)
            if given.out is not None:
                write_json(given.out, {"results": results})


if __name__ == "__main__":
    main()
