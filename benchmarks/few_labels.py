"""Accuracy against the number of labels a class: naming the categories, and a linear probe on the latent.

    python benchmarks/few_labels.py runs/latest [--draws 20] [--out docs/results]

For each draw so many training images of each class are labelled at random. Naming gives each category the commonest
name of its examples (`infoae name`); the images of a category without a name count as wrong. The probe is a logistic
regression on the standardised latent. Both answer the test images; the networks have never seen a label.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from infoae import data, metrics
from infoae.errors import InfoAEError
from infoae.files import atomic_file, write_json
from infoae.model import InfoAE
from infoae.runs import names
from infoae.runs.run import Run

LABELS_PER_CLASS = (1, 2, 5, 10, 100)
METHODS = {"naming": "naming by majority", "probe": "linear probe on the latent"}
Ints = NDArray[np.int64]


def measure(run: Run, draws: int) -> dict[str, Any]:
    """Return mean and standard deviation of the test accuracy, by method and number of labels a class."""
    model = InfoAE.of_run(run)
    whole = run.config().data.model_copy(update={"limit": None})
    train, test = (data.load(whole, split) for split in ("train", "test"))
    if train.labels is None or test.labels is None:
        raise InfoAEError(f"run {run.name}: its data has no labels to draw from")
    latent, test_latent = model.encode(train.images).numpy(), model.encode(test.images).numpy()
    categories = model.classify(train.images).argmax(1).numpy()
    test_categories = model.classify(test.images).argmax(1).numpy()
    scores: dict[str, list[list[float]]] = {method: [] for method in METHODS}
    for count in LABELS_PER_CLASS:
        drawn = [draw(train.labels, count, np.random.default_rng([seed, count])) for seed in range(draws)]
        labels = [train.labels[chosen] for chosen in drawn]
        scores["naming"].append([
            naming_accuracy(categories[chosen], known, test_categories, test.labels, model.num_categories)
            for chosen, known in zip(drawn, labels, strict=True)
        ])  # fmt: skip
        scores["probe"].append([
            probe_accuracy(latent[chosen], known, test_latent, test.labels)
            for chosen, known in zip(drawn, labels, strict=True)
        ])  # fmt: skip
    confusion = metrics.confusion_matrix(test_categories, test.labels, model.num_categories, test.labels.max() + 1)
    return {
        "run": run.name,
        "draws": draws,
        "labels_per_class": list(LABELS_PER_CLASS),
        "matched_accuracy": metrics.accuracy(confusion, metrics.match_categories(confusion)),
        **{
            method: {"mean": [float(np.mean(row)) for row in rows], "deviation": [float(np.std(row)) for row in rows]}
            for method, rows in scores.items()
        },
    }


def draw(labels: Ints, count: int, random: np.random.Generator) -> Ints:
    """Return the indices of `count` random images of each class."""
    parts = [random.choice(np.flatnonzero(labels == label), count, replace=False) for label in np.unique(labels)]
    return np.concatenate(parts)


def naming_accuracy(
    categories: Ints, labels: Ints, test_categories: Ints, test_labels: Ints, num_categories: int
) -> float:
    naming = names.by_majority(categories, [str(label) for label in labels], num_categories)
    answers = np.array([-1 if name is None else int(name) for name in naming.names])
    return float((answers[test_categories] == test_labels).mean())


def probe_accuracy(latent: NDArray[np.float32], labels: Ints, test_latent: NDArray[np.float32], truth: Ints) -> float:
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(latent, labels)
    return float(probe.score(test_latent, truth))


def figure(result: dict[str, Any]) -> Figure:
    drawing = Figure(figsize=(6.5, 4.2), layout="constrained")
    axes = drawing.add_subplot(
        xlabel="labelled training images a class",
        ylabel="accuracy on the test images",
        xscale="log",
        title=f"Few labels: mean and deviation of {result['draws']} draws",
    )
    for method, label in METHODS.items():
        axes.errorbar(
            result["labels_per_class"], result[method]["mean"], result[method]["deviation"], marker="o", capsize=3,
            label=label,
        )  # fmt: skip
    matched = result["matched_accuracy"]
    axes.axhline(matched, color="grey", linestyle="--", label="categories matched with all test labels")
    axes.set_xticks(result["labels_per_class"], [str(count) for count in result["labels_per_class"]])
    axes.legend()
    return drawing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--out", type=Path, help="folder for few_labels.json and few_labels.png")
    arguments = parser.parse_args()
    try:
        result = measure(Run.open(arguments.run), arguments.draws)
    except InfoAEError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
    print(
        f"run {result['run']}: {result['draws']} draws, categories matched one-to-one {result['matched_accuracy']:.2%}"
    )
    print(f"{'labels a class':<15}" + "".join(f"{label:>28}" for label in METHODS.values()))
    for row, count in enumerate(result["labels_per_class"]):
        cells = [f"{result[method]['mean'][row]:.2%} ± {result[method]['deviation'][row]:.2%}" for method in METHODS]
        print(f"{count:<15}" + "".join(f"{cell:>28}" for cell in cells))
    if arguments.out is not None:
        write_json(arguments.out / "few_labels.json", result)
        with atomic_file(arguments.out / "few_labels.png") as file:
            figure(result).savefig(file, dpi=120, format="png")


if __name__ == "__main__":
    main()
