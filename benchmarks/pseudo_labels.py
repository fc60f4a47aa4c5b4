"""How right are the pseudo-labels of a run? Against the labels of its training images.

    python benchmarks/pseudo_labels.py RUN... [--hops H...]

For each time that they were made: the share of images that have one, how many of these are right, and the kinds most
often wrong. With --hops, the same for what the classifier of the best checkpoint answers, and for what label
propagation would make of that with so many `pseudo_labels.anchor_hops`. A look at labels, so not a way to choose a run.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae import data, metrics
from infoae.model import InfoAE
from infoae.pseudolabels import propagation, vote
from infoae.runs.run import NEIGHBOURS, PSEUDO_LABELS, Run

KINDS = 6


def counts(pseudo: NDArray[np.int64], labels: NDArray[np.int64], num_categories: int) -> dict[str, Any]:
    """Return the shares with a pseudo-label and right of these, and the commonest kinds (class, answered as, number).

    Categories (N,), -1 for none, and labels (N,); the category that is a class is the one matched to it.
    """
    known = pseudo >= 0
    num_classes = int(labels.max()) + 1
    confusion = metrics.confusion_matrix(pseudo[known], labels[known], num_categories, num_classes)
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
    parser.add_argument("--hops", nargs="+", type=int, default=[])
    arguments = parser.parse_args()
    for path in arguments.runs:
        run = Run.open(path)
        config = run.config()
        train = data.load(config.data, "train")
        labels = np.asarray(train.labels)
        model = InfoAE.of_run(run)
        for number, made in enumerate(np.load(run.path / PSEUDO_LABELS, allow_pickle=False), 1):
            show(f"{run.name}, pseudo-labels {number}", counts(made.astype(np.int64), labels, model.num_categories))
        if arguments.hops:
            votes = vote.of_classifier(model, train.images)
            show(f"{run.name}, classifier", counts(votes.categories[0], labels, model.num_categories))
            nearest = np.load(run.path / NEIGHBOURS, allow_pickle=False)["neighbours"]
            links = nearest[:, : config.neighbours.count]
            for number in arguments.hops:
                anchored = propagation.anchors(votes.categories[0], links, number)
                show(f"  {number} hops, anchors", counts(anchored, labels, model.num_categories))
                share = config.pseudo_labels.propagation_agreement
                spread = propagation.propagate(anchored, links, model.num_categories, share)
                show(f"  {number} hops, propagated", counts(spread, labels, model.num_categories))


if __name__ == "__main__":
    main()
