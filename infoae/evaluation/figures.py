"""The paper's figures for a trained model, and those that show how training went, as PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from infoae import metric_names, metrics
from infoae.category_model import CategoryModel
from infoae.data import ImageSet
from infoae.files import atomic_file
from infoae.pseudolabels import merging
from infoae.runs.run import Run

COLUMNS = 12  # images in a row
TSNE_IMAGES = 2000  # of the test images: t-SNE takes seconds for these and minutes for all


def draw_all(run: Run, model: CategoryModel, test: ImageSet) -> Iterator[tuple[str, Path]]:
    """Draw every figure into the run's figures folder; yields name and path as each is written."""
    answers = model.classify(test.inputs).argmax(1).numpy()
    figures: dict[str, Figure | None] = {
        "samples": samples(model),
        "reconstructions": reconstructions(model, test),
        "interpolation_between": interpolation(model, test, answers, within=False),
        "interpolation_within": interpolation(model, test, answers, within=True),
        "losses": losses(list(run.metrics())),
        "categories": categories(run),
    }
    if test.labels is not None:
        figures["confusion"] = confusion(answers, test.labels, model.num_categories)
    figures["tsne"] = tsne(model, test, answers)
    for name, figure in figures.items():
        if figure is None:
            continue
        path = run.figures / f"{name}.png"
        with atomic_file(path) as file:
            figure.savefig(file, dpi=120, format="png")
        yield name, path


def samples(model: CategoryModel, seed: int = 0) -> Figure:
    """Draw generated images, a row for each category (paper figure 2a): of no generator, by what they are answered."""
    title = "Generated images, a row for each category"
    if model.no_generator is not None:
        title += " that they are answered with"
    return _grid(sample_images(model, COLUMNS, seed), title, [str(k) for k in range(model.num_categories)])


def sample_images(model: CategoryModel, columns: int, seed: int = 0) -> Tensor:
    """Draw images (K, columns, C, H, W) in [0, 1] of each category.

    Of no generator they are those that are answered with the category, and black where there are too few.
    """
    asked = torch.arange(model.num_categories).repeat_interleave(columns)
    if model.no_generator is None:
        images: Tensor = model.draw_images(asked, seed).unflatten(0, (-1, columns))
        return images
    drawn = model.draw_images(asked.repeat(5), seed)
    answers, images = model.classify(drawn).argmax(1), drawn.new_zeros(model.num_categories, columns, *drawn.shape[1:])
    for category in range(model.num_categories):
        found = drawn[answers == category][:columns]
        images[category, : len(found)] = found
    return images


def categories(run: Run) -> Figure | None:
    """Draw the information kept against the number of categories; None where their number was given."""
    kept = run.information_kept()
    if not kept:
        return None
    chosen = merging.choose_number(kept)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(list(kept), list(kept.values()), marker=".")
    axes.axvline(chosen, color="tab:red", linestyle="--", label=f"chosen: {chosen}")
    axes.set(xlabel="categories", ylabel="information kept, nats", title="Merging the over-categories")
    axes.legend()
    return figure


def reconstructions(model: CategoryModel, data: ImageSet) -> Figure | None:
    """Draw images above their reconstructions; None where the model has no decoder."""
    if model.no_decoder is not None:
        return None
    columns = min(COLUMNS, len(data.images))
    whole_rows = min(3, len(data.images) // columns)
    real = model.to_input(data.images[: whole_rows * columns])
    decoded = model.decode(model.encode(data.inputs[: len(real)]))
    rows = [half for pair in zip(real.split(columns), decoded.split(columns), strict=True) for half in pair]
    return _grid(torch.stack(rows), "Test images, each above its reconstruction", ["image", "recon."] * whole_rows)


def interpolation(
    model: CategoryModel, data: ImageSet, answers: NDArray[np.int64], within: bool, rows: int = 8
) -> Figure | None:
    """Draw the line between the latents of two images (paper figures 2c and 2d).

    `within` pairs two images answered with one category, otherwise with different ones. None if there is no pair or no
    decoder.
    """
    if model.no_decoder is not None:
        return None
    starts: list[int] = []
    ends: list[int] = []
    for first in range(len(answers)):
        matches = np.flatnonzero((answers == answers[first]) == within)
        later = matches[matches > first]
        if len(later) and answers[first] not in answers[starts]:  # one row for each starting category
            starts.append(first)
            ends.append(int(later[0]))
        if len(starts) == rows:
            break
    if not starts:
        return None
    images = model.interpolate(data.inputs[starts], data.inputs[ends], COLUMNS)
    title = "within one category" if within else "between categories"
    return _grid(images, f"Interpolation {title}, test images at both ends", [""] * len(images))


def tsne(model: CategoryModel, data: ImageSet, answers: NDArray[np.int64]) -> Figure | None:
    """Draw t-SNE of the latents of test images, coloured by class and by category (paper figure 2b).

    None of a single image, which has no neighbour.
    """
    from sklearn.manifold import TSNE

    count = min(TSNE_IMAGES, len(data))
    if count < 2:
        return None
    latents = model.encode(data.inputs[:count]).numpy()
    perplexity = min(30.0, (count - 1) / 3)
    points = TSNE(init="pca", random_state=0, perplexity=perplexity).fit_transform(latents)
    colourings = {"category": answers[:count]}
    if data.labels is not None:
        colourings = {"class": data.labels[:count]} | colourings
    figure = Figure(figsize=(6.5 * len(colourings), 6), layout="constrained")
    for index, (name, values) in enumerate(colourings.items()):
        axes = figure.add_subplot(1, len(colourings), index + 1, xticks=[], yticks=[], title=f"by {name}")
        for value in np.unique(values):
            chosen = points[values == value]
            axes.scatter(chosen[:, 0], chosen[:, 1], s=5, label=str(value), color=f"C{value % 10}")
        axes.legend(markerscale=3, fontsize="small", loc="upper right", ncols=2)
    figure.suptitle(f"t-SNE of the latents of {count} test images")
    return figure


def losses(lines: list[dict[str, float]]) -> Figure:
    """Draw the losses, the discriminator's accuracy and the measures at each epoch's end, over steps."""
    recorded = sorted({key for line in lines for key in line if key.startswith(metric_names.of_loss(""))})
    critics = [key for key in recorded if key.endswith(("discriminator", "self_critic"))]
    model_losses = [key for key in recorded if key not in (*critics, metric_names.of_loss("reconstruction"))]
    scores = ["mutual_information", "recovered", "diversity_pixels", "diversity_latent"]
    panels = {
        "model's losses (nats)": model_losses,
        "reconstruction loss": [metric_names.of_loss("reconstruction")],
        "critics' losses (nats); 1.39 is chance": critics,
        "scores, and the discriminator (0.5 is chance)": [
            *(metric_names.of_evaluation(name) for name in scores),
            metric_names.DISCRIMINATOR_ACCURACY,
        ],
    }
    figure = Figure(figsize=(12, 8), layout="constrained")
    for index, (title, keys) in enumerate(panels.items()):
        axes = figure.add_subplot(2, 2, index + 1, title=title, xlabel="step")
        for key in keys:
            points = [(line["step"], line[key]) for line in lines if key in line]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    label=key.partition("/")[2] or key,
                    marker="." if len(points) < 50 else "",
                )
        if axes.lines:
            axes.legend(fontsize="small")
    return figure


def confusion(answers: NDArray[np.int64], labels: NDArray[np.int64], num_categories: int) -> Figure:
    """Draw how many images of each class got each category, the matched ones on the diagonal."""
    counts = metrics.confusion_matrix(answers, labels, num_categories, int(labels.max()) + 1)
    matching = metrics.match_categories(counts)
    order = sorted(range(num_categories), key=lambda category: matching.get(category, num_categories))
    figure = Figure(figsize=(7, 6.5), layout="constrained")
    axes = figure.add_subplot(
        xlabel="class", ylabel="category", title=f"Test images, accuracy {metrics.accuracy(counts, matching):.2%}"
    )
    axes.imshow(counts[order], cmap="Blues")
    axes.set_xticks(range(counts.shape[1]))
    axes.set_yticks(range(num_categories), [str(category) for category in order])
    _write_counts(axes, counts[order])
    return figure


def _write_counts(axes: Axes, counts: NDArray[np.int64]) -> None:
    if counts.size > 400:
        return  # too small to read
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if count > counts.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", fontsize="small", color=colour)


def _grid(images: Tensor, title: str, names: list[str]) -> Figure:
    figure = Figure(figsize=(0.75 * images.shape[1], 0.75 * len(images) + 0.6), layout="constrained")
    draw_grid(figure.add_subplot(title=title), images, names)
    return figure


def draw_grid(axes: Axes, images: Tensor, names: list[str]) -> None:
    """Lay out images (rows, columns, C, H, W) in [0, 1] with a name for each row."""
    rows, columns, channels, height, width = images.shape
    canvas = torch.nn.functional.pad(images, (1, 1, 1, 1), value=0.5)  # a grey line between images
    canvas = canvas.permute(0, 3, 1, 4, 2).reshape(rows * (height + 2), columns * (width + 2), channels)
    axes.imshow(canvas.squeeze(2).numpy(), cmap="gray", vmin=0, vmax=1)
    axes.set_xticks([])
    axes.set_yticks([(row + 0.5) * (height + 2) for row in range(rows)], names)
    axes.tick_params(length=0)
