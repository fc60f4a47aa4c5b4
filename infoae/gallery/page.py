"""`write`: from a run to the gallery's page, with its thumbnails."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae import files
from infoae.category_model import CategoryModel
from infoae.deploy.bundle import MANIFEST, Bundle
from infoae.device import resolve_device
from infoae.errors import InfoAEError, UsageError, counted, shown
from infoae.gallery import html, layout
from infoae.gallery.answers import Answered, answers_for
from infoae.gallery.pictures import Pictures, pictures_of
from infoae.gallery.rows import distances, parts, rows
from infoae.gallery.sheets import COLUMNS, Spool, sheets
from infoae.methods.registry import model_of
from infoae.reporting.images import progress
from infoae.runs import checkpoint, names
from infoae.runs.run import GALLERY, Run

INLINE = 4000
"""Pictures whose thumbnails lie in the page itself; those of more lie in a folder beside it."""
MAX_INLINE_MODEL = 128 * 1024**2
"""Bytes of the largest classifier that is put into the page."""
KINDS = ("typical", "doubtful", "outliers")
"""Of pictures in a row."""
_SHEET = re.compile(r"(thumbnails|reconstructions)-\d{4,}\.webp")


@dataclass(frozen=True)
class Written:
    """A page: its file, the folder of thumbnails beside it if there is one, and what is shown.

    `passed_over` counts the files that are not shown, by reason; `classifies` says whether pictures can be dropped.
    """

    page: Path
    folder: Path | None
    num_pictures: int
    category_sizes: list[int]
    passed_over: Counter[str]
    classifies: bool


def write(
    run: Run,
    out: Path | None = None,
    *,
    data: Path | None = None,
    column: str | None = None,
    bundle: Path | None = None,
    which: str = "best",
    data_root: Path | None = None,
    device: str = "auto",
    say: Callable[[str], object] = lambda _: None,
) -> Written:
    """Write the gallery of a run's checkpoint `which` ("best" or "newest") to `out`, by default in the run's folder.

    Shown are the pictures at `data` (anything that `infoae classify` takes; `column` is that of a table), by default
    those that the run was given as files, or its test images, which `data_root` says the place of if they have moved.
    `bundle`, by default the one in the run's folder, classifies what is dropped on the page. `say` is told of each
    stage. A page that is there is replaced. Raises InfoAEError, and leaves what was there, if anything is wrong.
    """
    out = (run.path / GALLERY if out is None else out).absolute()
    if out.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--out {out}: give the name of an .html file")
    folder = out.with_name(f"{out.stem}-pictures")
    _check_replaceable(folder)
    step = checkpoint.read(run.checkpoint(which)).step
    model = model_of(run, which).to(resolve_device(device))
    classifier = _bundle(run, bundle, step, say)
    pictures = pictures_of(run, model, data, column, data_root)
    given = names.stored(run, model.num_categories, step) or [None] * model.num_categories
    with ExitStack() as stack:
        scratch = stack.enter_context(files.scratch_folder(folder))
        thumbnails = stack.enter_context(Spool(scratch / "thumbnails"))
        drawn = None if model.no_decoder else stack.enter_context(Spool(scratch / "reconstructions"))
        answered = _answered(pictures, model, thumbnails, drawn)
        say(f"map of {counted(len(answered), 'picture')}")
        order, content = _content(answered, model.category_of.cpu().numpy(), model.num_categories)
        content |= {"run": run.name, "step": step, "origin": pictures.origin, "names": given}
        content["key"] = hashlib.blake2b(
            json.dumps([run.name, step, answered.paths]).encode(), digest_size=8
        ).hexdigest()
        say("thumbnails")
        made = scratch / "made"
        made.mkdir()
        inline = len(answered) <= INLINE
        blobs: dict[str, bytes] = {}
        for kind, spool in (("thumbnails", thumbnails), ("reconstructions", drawn)):
            found = [] if spool is None else _write_sheets(spool, order, made, kind)
            content[kind] = {
                "side": 0 if spool is None else spool.side,
                "columns": COLUMNS,
                "files": [None if inline else f"{folder.name}/{file.name}" for file in found],
            }
            if inline:
                blobs |= {f"{kind}-{number}": file.read_bytes() for number, file in enumerate(found)}
        if classifier is not None:
            content["image"] = classifier.manifest.image.model_dump(mode="json")
            blobs["classifier"] = classifier.read(classifier.graph("classifier").file)
        with files.atomic_file(out) as temporary:
            with temporary.open("w", encoding="utf-8") as file:
                file.writelines(html.page(f"{run.name} – infoae gallery", content, blobs, classifier is not None))
            if folder.exists():
                files.remove(folder)
            if not inline:
                made.rename(folder)
    sizes = [row["size"] for row in content["rows"]]
    kept = None if inline else folder
    return Written(out, kept, len(answered), sizes, answered.passed_over, classifier is not None)


def _answered(pictures: Pictures, model: CategoryModel, thumbnails: Spool, drawn: Spool | None) -> Answered:
    with progress("gallery", pictures.count) as advance:
        return answers_for(pictures, model, thumbnails, drawn, advance)


def _content(
    answered: Answered, category_of: NDArray[np.int64], num_categories: int
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Return the order of the pictures on the page, and what it says of them; there, indices are places in that.

    `category_of` (M,) is the category of each over-category.
    """
    categories = answered.categories[:, 0]
    distance = distances(answered.latents, categories, num_categories)
    found = rows(categories, answered.margins, distance, num_categories)
    inside = parts(
        answered.over, distances(answered.latents, answered.over, len(category_of)), category_of, num_categories
    )
    near, places = layout.neighbours(answered.latents), layout.places(answered.latents)
    levels = layout.levels(places, _prominence(categories, distance, num_categories))
    shown = [index for row in found for index in (*row.typical, *row.doubtful, *row.outliers)]
    shown += [index for of_category in inside for part in of_category for index in part.typical]
    first = list(dict.fromkeys(shown))
    order = layout.reading_order(first, levels, places)
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    return order, {
        "rows": [
            asdict(row)
            | {kind: place_of[getattr(row, kind)].tolist() for kind in KINDS}
            | {"parts": [asdict(part) | {"typical": place_of[part.typical].tolist()} for part in inside[row.category]]}
            for row in found
        ],
        "num_categories": num_categories,
        "paths": [answered.paths[index] for index in order],
        "categories": answered.categories[order].tolist(),
        "probabilities": _rounded(answered.probabilities[order], 4),
        "distances": _rounded(distance[order], 1),
        "neighbours": place_of[near[order]].tolist(),
        "map": {
            "places": (places[order] * layout.GRID).astype(int).tolist(),
            "levels": levels[order].tolist(),
            "num_levels": layout.LEVELS,
            "cells": layout.CELLS,
            "grid": layout.GRID,
        },
    }


def _rounded(values: NDArray[np.float32], digits: int) -> list[Any]:
    rounded: list[Any] = values.astype(np.float64).round(digits).tolist()
    return rounded


def _prominence(
    categories: NDArray[np.int64], distance: NDArray[np.float32], num_categories: int
) -> NDArray[np.float64]:
    """Return the rank of each picture in its category by distance, as a share of it: (N,), below 1, typical first.

    So small categories are on the map as soon as large ones.
    """
    found = np.empty(len(categories))
    for category in range(num_categories):
        members = np.flatnonzero(categories == category)
        found[members[np.argsort(distance[members], kind="stable")]] = np.arange(len(members)) / max(len(members), 1)
    return found


def _write_sheets(spool: Spool, order: NDArray[np.int64], folder: Path, kind: str) -> list[Path]:
    written = []
    for number, content in enumerate(sheets(spool, order.tolist())):
        path = folder / f"{kind}-{number:04d}.webp"
        path.write_bytes(content)
        written.append(path)
    return written


def _check_replaceable(folder: Path) -> None:
    """Raise InfoAEError where the folder for thumbnails holds what no gallery wrote."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InfoAEError(f"{folder} is in the way: move it, or give another --out")
    strange = [each.name for each in folder.glob("*") if not _SHEET.fullmatch(each.name)]
    if strange:
        raise InfoAEError(f"{folder} holds {shown(strange[0])}, which no gallery wrote: move it, or give another --out")


def _bundle(run: Run, given: Path | None, step: int, say: Callable[[str], object]) -> Bundle | None:
    """Return the bundle that classifies what is dropped, None without one. Raises InfoAEError for one of another run.

    One that lies in the run's folder, of another checkpoint, is left out.
    """
    path = run.path / "bundle" if given is None else given
    if given is None and not (path / MANIFEST).is_file():
        return None
    bundle = Bundle.load(path)
    of = bundle.manifest.run
    if (of.name, of.step) != (run.name, step):
        wrong = f"{path} is of {of.name}, step {of.step}, and the page of {run.name}, step {step}"
        if given is not None:
            raise UsageError(f"--bundle {wrong}: export this checkpoint, or show that run")
        say(f"no dropping of pictures: {wrong}")
        return None
    size = (path / bundle.graph("classifier").file).stat().st_size
    if size > MAX_INLINE_MODEL:
        say(f"no dropping of pictures: the classifier has {size:,} bytes, more than {MAX_INLINE_MODEL:,}")
        return None
    return bundle
