"""How right are the categories that a run settled without labels? Against the labels of its training images.

    python benchmarks/settled.py RUN... [--links L...]

For each settlement (`vote.npy`): the share of images that were given a category, how many of these rightly, and
the kinds most often wrong. With --links, the same for what the classifier of the best checkpoint answers, and for what
would be settled from that with so many `pseudo_labels.anchor_hops`. A look at labels, so not a way to choose a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae import data, metrics
from infoae.pseudolabels import pairs, vote
from infoae.runs.run import Run

KINDS = 6


def counts(settled: NDArray[np.int64], labels: NDArray[np.int64], num_categories: int) -> dict[str, Any]:
    """Return the shares given a category and right of these, and the commonest kinds (class, answered as, how many).

    Categories (N,), -1 for none, and labels (N,); the category that is a class is the one matched to it.
    """
    known = settled >= 0
    num_classes = int(labels.max()) + 1
    confusion = metrics.confusion_matrix(settled[known], labels[known], num_categories, num_classes)
    matching = metrics.match_categories(confusion)
    wrong = [
        (label, matching[category], int(confusion[category, label]))
        for category in matching
        for label in range(num_classes)
        if label != matching[category]
    ]
    return {
        "given": float(known.mean()),
        "right": metrics.accuracy(confusion, matching),
        "kinds": sorted(wrong, key=lambda kind: -kind[2])[:KINDS],
    }


def show(name: str, found: dict[str, Any]) -> None:
    """Print one line."""
    kinds = ", ".join(f"{label} as {answer} {count}" for label, answer, count in found["kinds"] if count)
    print(f"{name}: {found['given']:.1%} given, {found['right']:.2%} of these right; {kinds}", flush=True)


def main() -> None:
    """Print the table of each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--links", nargs="+", type=int, default=[])
    arguments = parser.parse_args()
    for path in arguments.runs:
        run = Run.open(path)
        config = run.config()
        train = data.load(config.data, "train")
        labels = np.asarray(train.labels)
        model = InfoAE.of_run(run)
        for number, settled in enumerate(np.load(run.path / PSEUDO_LABELS, allow_pickle=False), 1):
            show(f"{run.name}, settlement {number}", counts(settled.astype(np.int64), labels, model.num_categories))
        if arguments.links:
            votes = vote.of_classifier(model, train.images)
            show(f"{run.name}, classifier", counts(votes.categories[0], labels, model.num_categories))
            nearest = np.load(run.path / pairs.FILE, allow_pickle=False)["neighbours"]
            links = nearest[:, : config.neighbours.count]
            for number in arguments.links:
                certain = propagation.anchors(votes.categories[0], links, number)
                show(f"  {number} links, certain", counts(certain, labels, model.num_categories))
                share = config.pseudo_labels.propagation_agreement
                settled = propagation.propagate(certain, links, model.num_categories, share)
                show(f"  {number} links, settled", counts(settled, labels, model.num_categories))


if __name__ == "__main__":
    main()
