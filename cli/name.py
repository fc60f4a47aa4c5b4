"""infoae name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infoae.cli.options import (
    CheckpointChoice,
    CheckpointOption,
    JsonOption,
    LabelsOption,
    RunArgument,
    RunsOption,
    echo,
    print_json,
)

_EXAMPLES = "Labelled images: a folder with a subfolder for each name, or a CSV file with the columns path and name."


def name(
    run: RunArgument = "latest",
    examples: Annotated[Path | None, typer.Option(metavar="DIR|FILE", help=_EXAMPLES)] = None,
    labels: LabelsOption = None,
    checkpoint: CheckpointOption = CheckpointChoice.best,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Name a run's categories, by a handful of labelled images or by a list of names.

    A category gets the name that most of its examples have. The names are kept in the run and go into its bundles.
    """
    from infoae.data.decode import DecodeOptions
    from infoae.errors import UsageError
    from infoae.methods.registry import model_of
    from infoae.runs import names
    from infoae.runs.checkpoint import read
    from infoae.runs.run import Run

    if (examples is None) == (labels is None):
        raise UsageError("give either --examples or --labels")
    found = Run.open(run, runs)
    with found.locked():
        model = model_of(found, checkpoint.value)
        naming, num_examples = None, 0
        if labels is not None:
            given = names.read_names(labels, model.num_categories)
        else:
            assert examples is not None
            options = DecodeOptions(reduced_jpeg=bool(found.config().data.reduced_jpeg))
            images, truth = names.read_examples(examples, model.seen_shape, options)
            answers = model.classify(images).argmax(1).numpy()
            naming = names.by_majority(answers, truth, model.num_categories)
            given, num_examples = naming.names, len(truth)
        names.store(found, given, read(found.checkpoint(checkpoint.value)).step)
    if as_json:
        content = {"run": str(found.path), "names": given, "num_examples": num_examples}
        if naming is not None:
            content |= {"votes": naming.votes, "tied": naming.tied, "unseen": naming.unseen}
        print_json(content)
        return
    for category, text in enumerate(given):
        votes = {} if naming is None else naming.votes[category]
        counts = ", ".join(f"{votes[other]} {other}" for other in sorted(votes, key=votes.__getitem__, reverse=True))
        echo(f"category {category}: {'(no name)' if text is None else text}{f' of {counts}' if counts else ''}")
    if naming is not None:
        for category, tied in naming.tied.items():
            echo(f"category {category} has no name: {' and '.join(tied)} are equally common in it", err=True)
        for category in naming.unseen:
            echo(f"category {category} has no name: none of the {num_examples} examples is in it", err=True)
