"""All rows of a table, trained on the same seeds: one table of what came out beside what was published, one picture.

OUT/<budget>/<row>/ holds what there is of a single recipe. OUT/<table>.json, OUT/<table>.md and OUT/samples.png are of
all rows. A repeated command finishes the job, as it does for a recipe. Processes that train other seeds may share OUT
and RUNS: what is of all seeds is then of those of the last to end, until the command is given with all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from infoae.errors import InfoAEError
from infoae.evaluation.figures import draw_grid, sample_images
from infoae.files import atomic_file, write_json
from infoae.methods.registry import model_of
from infoae.reproduce.seeds import SeedResult, run_seeds
from infoae.reproduce.summary import Summary, summarize
from infoae.reproduce.tables import Entry, Table
from infoae.runs.run import Run

HEADINGS = (
    "row", "categories", "published error, %", "error one-to-one, %", "worst", "error many-to-one, %", "worst", "NMI",
    "Fréchet distance", "training (s)", "parameters", "seeds",
)  # fmt: skip
PROTOCOLS = """\
Errors are of the test images, by the checkpoint that the label-free score chose. One-to-one: each class is given one
category (Hungarian method), and images of the categories left over are wrong. Many-to-one: each category is given the
class of most of its images, which is the easier the more categories there are. Mean (± deviation) and worst are over
seeds; training takes the time of its steps alone.
"""
CATEGORIES, COLUMNS = 10, 8  # of a block of samples
BLOCKS = 5  # side by side


@dataclass(frozen=True)
class Trained:
    """A row in a budget, trained on all seeds."""

    entry: Entry
    results: list[SeedResult]
    summary: Summary

    @property
    def num_parameters(self) -> int | None:
        """Of all its networks; None where only older results are there, which do not say."""
        return next((n for result in self.results if (n := result.evaluation.get("num_parameters"))), None)

    def to_dict(self) -> dict[str, Any]:
        """Return what the table's JSON has of it; accuracies are shares, not errors in %."""
        row, summary = self.entry.row, self.summary.to_dict()
        return {
            "budget": self.entry.budget,
            "heading": row.heading,
            "recipe": row.recipe,
            "settings": list(self.entry.settings),
            "categories": self.entry.config.model.num_categories,
            "published": None if row.published is None else row.published.model_dump(),
            "num_parameters": self.num_parameters,
        } | {name: summary[name] for name in ("seeds", "measures", "best_by_score")}


@dataclass(frozen=True)
class Comparison:
    """All rows of a table."""

    command: str
    table: Table
    rows: list[Trained]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"command": self.command, "title": self.table.title, "rows": [row.to_dict() for row in self.rows]}

    def to_markdown(self) -> str:
        """Return it as Markdown: a table a budget, and what the protocols are."""
        lines = [f"# {self.table.title}", "", f"`{self.command}`"]
        for budget, rows in groupby(self.rows, lambda row: row.entry.budget):
            settings = ", ".join(f"`{setting}`" for setting in self.table.budgets[budget])
            lines += ["", f"## Budget {budget}: {settings or 'as in each recipe'}", ""]
            lines += [f"| {' | '.join(cells)} |" for cells in (HEADINGS, ["---"] * len(HEADINGS), *map(_cells, rows))]
        return "\n".join([*lines, "", PROTOCOLS])


def train(
    entries: Sequence[Entry], seeds: Sequence[int], command: str, out: Path, runs: Path, say: Callable[[str], object]
) -> Iterator[Trained]:
    """Train what has no result yet, and write each row's summary once it has all `seeds`; yields every row.

    Ends early if training is stopped (Ctrl-C). Raises InfoAEError as `run_seeds` does.
    """
    for entry in entries:
        folder = out / entry.budget / entry.row.slug

        def told(line: str, entry: Entry = entry) -> None:
            say(f"{entry}: {line}")

        results = list(run_seeds(entry.row.recipe, entry.settings, seeds, folder, runs, told, entry.run))
        if len(results) < len(seeds):
            return
        yield Trained(entry, results, summarize(command, entry.row.recipe, results, folder))


def write(found: Comparison, folder: Path, name: str, runs: Path, say: Callable[[str], object]) -> list[Path]:
    """Write `name`.json, `name`.md and samples.png into `folder`; returns what was written.

    A row whose best run is gone from `runs` has no samples, and `say` is told.
    """
    table, text, picture = (folder / file for file in (f"{name}.json", f"{name}.md", "samples.png"))
    write_json(table, found.to_dict())
    with atomic_file(text) as file:
        file.write_text(found.to_markdown(), encoding="utf-8")
    drawn = _samples(found.rows, runs, say)
    if drawn is None:
        return [table, text]
    with atomic_file(picture) as file:
        drawn.savefig(file, dpi=120, format="png")
    return [table, text, picture]


def _samples(trained: Sequence[Trained], runs: Path, say: Callable[[str], object]) -> Figure | None:
    """Draw generated images of each row's best seed by the score, a line for each of the first categories."""
    blocks: list[tuple[str, Tensor]] = []
    for row in trained:
        name = f"{row.entry.run}-seed-{row.summary.best_by_score.seed}"
        try:
            model = model_of(Run.open(name, runs))
        except InfoAEError as error:
            say(f"{row.entry}: no samples: {error}")
            continue
        blocks.append((f"{row.entry.row.heading}\n{row.entry.budget}", sample_images(model, COLUMNS)[:CATEGORIES]))
    if not blocks:
        return None
    lines = ceil(len(blocks) / BLOCKS)
    drawn = Figure(figsize=(3 * BLOCKS, 4.2 * lines), layout="constrained")
    for number, (title, images) in enumerate(blocks, start=1):
        axes = drawn.add_subplot(lines, BLOCKS, number, title=title)
        draw_grid(axes, images, [str(category) for category in range(len(images))])
    return drawn


def _cells(row: Trained) -> list[str]:
    published, measures = row.entry.row.published, row.summary.measures
    mean = {name: measure.mean for name, measure in measures.items()}
    return [
        row.entry.row.heading,
        str(row.entry.config.model.num_categories),
        "–" if published is None else f"{published.error} {published.protocol} ({published.source})",
        *_error(row.summary, "accuracy"),
        *_error(row.summary, "many_to_one"),
        f"{mean['nmi']:.3f}" if "nmi" in mean else "–",
        f"{mean['frechet_distance']:.1f}" if "frechet_distance" in mean else "–",
        f"{mean['seconds_training']:,.0f}",
        "–" if row.num_parameters is None else f"{row.num_parameters:,}",
        str(len(row.results)),
    ]


def _error(summary: Summary, name: str) -> tuple[str, str]:
    """Return mean and worst error in %; of a single seed it alone, and of results that do not have it nothing."""
    found = summary.measures.get(name)
    if found is None:
        return "–", "–"
    mean = f"{100 - 100 * found.mean:.2f}"
    if len(summary.seeds) == 1:
        return mean, "–"
    return f"{mean} (± {100 * found.deviation:.2f})", f"{100 - 100 * found.worst:.2f}"
