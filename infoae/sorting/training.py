"""From pictures to a bundle: prepared, a recipe chosen, trained, exported, each by what `infoae train` itself does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from infoae import choosing, launch, planning
from infoae.config import Config, recipes
from infoae.data.image_spec import ImageSpec
from infoae.deploy.export import export_run
from infoae.errors import InfoAEError, UsageError, shown
from infoae.evaluation import structure
from infoae.files import remove
from infoae.inputs import image_size
from infoae.inputs.convert import convert_files
from infoae.inputs.featuring import Featuring
from infoae.limits import MAX_CATEGORIES
from infoae.planning import Plan
from infoae.runs import names
from infoae.runs.checkpoint import read
from infoae.runs.run import CONFIG, EVALUATION, Run
from infoae.sorting import pace
from infoae.sorting.state import BUNDLE, PICTURES, RUNS, Asked, Progress, Recipe

TEST_SHARE = 0.1
TRIED_FROM = "mnist"
"""The recipe that stands for all while it is not known which is taken: none of these says what pictures become."""

Say = Callable[[str], object]


class StoppedError(KeyboardInterrupt):
    """Training was stopped, and saved."""


def image_of(photos: Path, asked: Asked) -> ImageSpec:
    """Return what the pictures become: what the recipe says, or what suits them. Raises InfoAEError."""
    model = recipes.load(asked.config or TRIED_FROM).model
    return image_size.chosen([str(photos)], None, model.image_size, model.channels)


def check(asked: Asked) -> None:
    """Raise UsageError if no recipe that may be trained takes what was asked for, before any picture is prepared."""
    wanted = asked.categories
    if wanted not in (None, "auto") and not (wanted.isdecimal() and 2 <= int(wanted) <= MAX_CATEGORIES):
        raise UsageError(f"--categories {shown(wanted)}: give a number from 2 to {MAX_CATEGORIES}, or auto")
    for source in [asked.config] if asked.config else candidates():
        recipes.load(source, settings_of(source, [], asked))


def candidates() -> list[str]:
    """Return the recipes that are tried where none is given."""
    return list(dict.fromkeys(each.recipe for each in choosing.CANDIDATES))


def settings_of(source: str, chosen: list[str], asked: Asked) -> list[str]:
    """Return the settings of a training by recipe `source`, those `chosen` for it among them. Raises UsageError.

    Where nobody says how many categories there are, their number is found, if the recipe can: of 2 up to as many as it
    has over-categories.
    """
    if asked.categories is not None:
        over = recipes.over_categories(source, chosen, asked.categories)
        return [*chosen, *over, f"model.num_categories={asked.categories}"]
    config = recipes.load(source, chosen)
    finds = config.stages.mutual_information_epochs and config.model.num_over_categories
    return [*chosen, *(["model.num_categories=auto"] if finds else [])]


def prepare(out: Path, photos: Path, progress: Progress, fewest: int) -> Progress:
    """Write the pictures as they are trained on. Raises InfoAEError if fewer than `fewest` can be read."""
    config = recipes.load(progress.asked.config or TRIED_FROM)
    folder = _pictures(out, progress)
    if folder.exists():  # of a command that was killed before it said so
        remove(folder)
    is_new = not out.exists()
    features = None if config.features.encoder is None else Featuring(config.features)
    try:
        done = convert_files([str(photos)], folder, progress.image, test_share=TEST_SHARE, features=features)
        count = done.num_train + done.num_test
        if count < fewest:
            first = f"; of {done.num_failed:,} that cannot be read the first: {done.reasons[0]}" if done.reasons else ""
            raise InfoAEError(f"{photos}: {count} readable pictures, at least {fewest} are needed{first}")
    except BaseException:
        if is_new:
            shutil.rmtree(out, ignore_errors=True)
        raise
    progress = progress.model_copy(update={"num_prepared": count})
    progress.save(out)
    return progress


def choose(out: Path, progress: Progress, say: Say) -> Progress:
    """Decide what is trained: the recipe, by trials where none was given, and epochs that fit --minutes."""
    asked = progress.asked
    source, chosen = asked.config or TRIED_FROM, list[str]()
    if asked.config is None:
        found = choosing.chosen(_planned(out, progress, Recipe(source=source, settings=settings_of(source, [], asked))))
        source, chosen = found.recipe, found.settings
    recipe = Recipe(source=source, settings=settings_of(source, chosen, asked))
    if asked.minutes is not None:
        plan = _planned(out, progress, recipe)
        shorter, told = pace.fitted(plan.config, len(plan.train), pace.measured(plan), 60 * asked.minutes)
        say(told)
        recipe = recipe.model_copy(update={"settings": [*recipe.settings, *shorter]})
    progress = progress.model_copy(update={"recipe": recipe})
    progress.save(out)
    return progress


def train(out: Path, progress: Progress, say: Say) -> Progress:
    """Train to the end, from where an earlier command stopped. Raises StoppedError and InfoAEError."""
    assert progress.recipe is not None
    runs, pictures = out / RUNS, _pictures(out, progress)
    run = Run(runs / progress.run)
    if not (run.path / CONFIG).exists():
        plan = _planned(out, progress, progress.recipe)
        say(f"training recipe {progress.recipe.source}: {described(plan.config)}")
        finished = launch.run(plan, launch.Executor()).finished
    elif not ((run.path / EVALUATION).exists() and run.is_finished(run.config())):
        finished = launch.run(planning.resumed(progress.run, runs, None, None, pictures), launch.Executor()).finished
    else:
        finished = True
    if not finished:
        raise StoppedError
    evaluation: Mapping[str, Any] = json.loads((run.path / EVALUATION).read_text(encoding="utf-8"))
    for warning in evaluation["warnings"]:
        say(f"warning: {warning}")
    why = None
    if run.config().model.num_categories == "auto":  # or so many were asked for, and there is but the warning
        nats = evaluation["label_free"]["mutual_information"]
        why = structure.why_none(evaluation["categories_used"], nats, run.metrics())
    progress = progress.model_copy(update={"trained": True, "no_structure": why})
    progress.save(out)
    return progress


def export(out: Path, progress: Progress, say: Say) -> Progress:
    """Write the verified bundle in place of an earlier one. Raises InfoAEError."""
    run, bundle = Run(out / RUNS / progress.run), out / BUNDLE
    if bundle.exists():
        remove(bundle)
    with run.locked():
        num_categories = run_categories(run)
        given = names.stored(run, num_categories, read(run.checkpoint("best")).step)
        shown = None if given is None else names.display(given)
        exported = export_run(run, bundle, names=shown, data_root=_pictures(out, progress), say=say)
    count, bound = exported.manifest.num_categories, run.config().model.num_over_categories
    found = run.config().model.num_categories == "auto"
    say(f"{count} categories" + (f" were found, of 2 to {bound} that could be" if found else ""))
    progress = progress.model_copy(update={"exported": True})
    progress.save(out)
    return progress


def run_categories(run: Run) -> int:
    """Return how many categories a run has."""
    from infoae.methods.registry import model_of

    return model_of(run, "best").num_categories


def described(config: Config) -> str:
    """Return in words how long is trained, and for how many categories."""
    number = config.model.num_categories
    wanted = f"as many categories as there are, 2 to {config.model.num_over_categories}" if number == "auto" else number
    return f"{config.train.epochs} epochs, {wanted}{'' if number == 'auto' else ' categories'}"


def _planned(out: Path, progress: Progress, recipe: Recipe) -> Plan:
    pictures = _pictures(out, progress)
    data = {"data.name": "shards", "data.root": pictures, "data.labels": None}
    overrides = [recipes.override(key, value) for key, value in data.items() if value is not None]
    return planning.planned(recipe.source, [*recipe.settings, *overrides], out / RUNS, progress.run)


def _pictures(out: Path, progress: Progress) -> Path:
    return out / PICTURES / progress.trained_run
