"""`infoae sort`: the stages from a folder of pictures to labels, each from where an earlier command stopped."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from infoae import locks
from infoae.data.selection import told
from infoae.deploy.bundle import Bundle
from infoae.errors import InfoAEError, UsageError, shown
from infoae.files import remove_leftovers
from infoae.limits import MAX_GALLERY
from infoae.sorting import inventory, labelling, likeness
from infoae.sorting.inventory import Inventory
from infoae.sorting.labelling import Labelled
from infoae.sorting.state import BUNDLE, CSV, GALLERY, LOCK, RUNS, WORK, Asked, Progress, read

UNSURE = 0.6
"""An answer of less probability is unsure, where nobody says."""

FEWEST = 50
"""Fewer pictures are too few to find categories in."""

Say = Callable[[str], object]


@dataclass
class Sorted:
    """What a sort has done, and what it found."""

    out: Path
    num_pictures: int
    num_unreadable: int
    num_unsure: int
    new: int
    changed: int
    gone: int
    sizes: list[int]
    """Pictures in each category."""
    run: Path
    recipe: str
    seconds: float
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return what --json prints."""
        return {name: value for name, value in vars(self).items() if name != "out"} | {
            "out": str(self.out),
            "labels": str(self.out / CSV),
            "bundle": str(self.out / BUNDLE),
            "gallery": str(self.out / GALLERY),
            "run": str(self.run),
            "num_categories": len(self.sizes),
            "seconds": round(self.seconds, 1),
        }


def where(photos: Path, out: Path | None) -> tuple[Path, Path]:
    """Return the absolute path of the pictures, and the folder that the result goes to.

    Raises UsageError if that lies inside the pictures, InfoAEError if it cannot be written.
    """
    photos = photos.expanduser().absolute()
    name = photos.resolve().name if photos.name in ("", "..") else photos.name
    out = (Path(f"{name}-sorted") if out is None else out.expanduser()).absolute()
    if out.resolve().is_relative_to(photos.resolve()):
        raise UsageError(f"{out} lies inside {photos}, in which nothing is written: give an --out elsewhere")
    there = next(folder for folder in (out, *out.parents) if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise InfoAEError(f"cannot write {out}: {there} is {'not writable' if there.is_dir() else 'no folder'}")
    return photos, out


def sort(
    photos: Path, out: Path, asked: Asked, unsure: float, *, again: bool, say: Say, corrections: Path | None = None
) -> Sorted:
    """Sort the pictures at `photos` into `out`, both from `where`, from the stage that an earlier command reached.

    `asked` is what was given now, and `again` trains anew on the pictures that there are now; `corrections` are what a
    person said of the categories, on the gallery's page. `say` is told each stage. Raises InfoAEError, and
    KeyboardInterrupt where it is stopped: the same call goes on.
    """
    start = time.monotonic()
    read(out)  # or a lock would be made in a folder of something else
    with locks.held(out / LOCK, out) if out.exists() else nullcontext():
        remove_leftovers(out)
        progress = begun(photos, out, asked, again)
        if corrections is not None:
            progress = _corrected(out, progress, corrections, say)
        found = inventory.take(photos, progress.image)
        count = found.num_pictures()
        kind = "grey" if progress.image.channels == 1 else "RGB"
        say(
            f"1/6 looking: {'' if count is None else f'{count:,} '}pictures in {photos}, taken as "
            f"{progress.image.width} x {progress.image.height} {kind}"
        )
        if found.passed_over:
            say(f"passed over, for they are no images: {told(found.passed_over)}")
        return _sorted(photos, out, progress, found, unsure, start, say)


def begun(photos: Path, out: Path, asked: Asked, again: bool) -> Progress:
    """Return how far the sort is, or the start of a new one; nothing is written. Raises InfoAEError as `sort` does."""
    progress = read(out)
    if progress is not None:
        _refuse_others(progress, photos, out, asked, again)
        is_done = progress.exported or progress.no_structure is not None
        if not again or not (is_done or asked.differs(progress.asked)):  # --again itself goes on, too
            return progress
        asked = Asked(**progress.asked.model_dump() | asked.model_dump(exclude_none=True))
    from infoae.sorting import training

    training.check(asked)
    number = 1 if progress is None else progress.number + 1
    return Progress(photos=str(photos), asked=asked, number=number, image=training.image_of(photos, asked))


def check_enough(photos: Path, found: Inventory) -> None:
    """Raise InfoAEError if there are too few pictures to find categories in."""
    count = found.num_pictures()
    if count is not None and count < FEWEST:
        passed = f"; passed over: {told(found.passed_over)}" if found.passed_over else ""
        raise InfoAEError(f"{photos}: {count} pictures, at least {FEWEST} are needed to find categories{passed}")


def _refuse_others(progress: Progress, photos: Path, out: Path, asked: Asked, again: bool) -> None:
    """Raise UsageError if `out` is of other pictures, or was trained otherwise than is asked for now."""
    if progress.photos != str(photos):
        raise UsageError(f"{out} is of the pictures in {progress.photos}: give another --out")
    if not again and (others := asked.differs(progress.asked)):
        raise UsageError(
            f"{', '.join(others)} was another when {out} was begun: leave it out, or add --again to train anew"
        )


def _sorted(
    photos: Path, out: Path, progress: Progress, found: Inventory, unsure: float, start: float, say: Say
) -> Sorted:
    if progress.no_structure is None and not progress.exported:
        progress = _trained(photos, out, progress, found, say)
    if progress.no_structure is not None:
        raise InfoAEError(
            f"no structure was found in {photos}, so there are no labels: {progress.no_structure}. If there are kinds, "
            f"ask for them with --categories N --again; the run is in {out / RUNS / progress.run}"
        )
    if not len(found):
        raise InfoAEError(f"{photos} holds no pictures now: the labels in {out} are left as they are")
    say("5/6 labelling")
    bundle = Bundle.load(out / BUNDLE)
    done = labelling.label(out, bundle, found, unsure, first=progress.likeness is None)
    if done.num_unreadable == len(done.table):
        raise InfoAEError(f"not one picture in {photos} can be read: the error column of {out / CSV} says why")
    if progress.likeness is None:
        known = likeness.of_answers(*done.answers(added=False), bundle.manifest.num_categories)
        progress = progress.model_copy(update={"likeness": known})
        progress.save(out)
    if not (progress.shown and (out / GALLERY).exists()):
        progress = _shown(photos, out, progress, len(done.table), say)
    elif done.new or done.changed or done.gone:  # to write it takes as long as all pictures need
        say(f"{out / GALLERY} shows the pictures that there were: remove it, and the same command writes it anew")
    shutil.rmtree(out / WORK, ignore_errors=True)  # only now: a command that is killed before goes on from it
    return _result(out, progress, bundle, done, unsure, time.monotonic() - start)


def _trained(photos: Path, out: Path, progress: Progress, found: Inventory, say: Say) -> Progress:
    """Go through the stages that make a bundle, from the first that is not done."""
    from infoae.sorting import training  # of torch, which a folder that grew does not need

    if progress.num_prepared is None:
        check_enough(photos, found)
        say("2/6 preparing")
        progress = training.prepare(out, photos, progress, FEWEST)
    if not progress.trained:
        say("3/6 training")
    if progress.recipe is None:
        progress = training.choose(out, progress, say)
    if not progress.trained:
        progress = training.train(out, progress, say)
    if not progress.exported and progress.no_structure is None:
        say("4/6 exporting")
        progress = training.export(out, progress, say)
    return progress


def _corrected(out: Path, progress: Progress, corrections: Path, say: Say) -> Progress:
    """Make a run that follows the corrections of the run that they name; what comes after training is then done again.

    That is the run there is, or one that it was made of. What it follows already is not done twice.
    """
    from infoae.correcting.correct import correct, correction_of
    from infoae.gallery import corrections as given
    from infoae.runs.run import Run

    if not progress.trained or progress.no_structure is not None:
        raise UsageError(f"--corrections {corrections}: {out} has no categories yet, to which they could belong")
    said, runs = given.read(corrections), out / RUNS
    made_of, name = list[str](), progress.run
    while (found := correction_of(Run(runs / name))) is not None:
        if not made_of and found == (said.run, said):
            say(f"{name} follows {corrections} already")
            return progress
        name = found[0]
        made_of.append(name)
    if said.run not in (progress.run, *made_of):
        raise UsageError(
            f"--corrections {corrections} is of run {shown(said.run)}, and the categories in {out} are of "
            f"{progress.run}: correct on {out / GALLERY}"
        )
    if said.run != progress.run:
        say(f"correcting {said.run} anew: what was said of {progress.run} does not count any more")
    corrected = correct(Run(runs / said.run), said, Path())
    for line in corrected.described():
        say(line)
    fresh = {"corrected": corrected.run.name, "exported": False, "likeness": None, "shown": False}
    progress = progress.model_copy(update=fresh)
    progress.save(out)
    return progress


def _shown(photos: Path, out: Path, progress: Progress, count: int, say: Say) -> Progress:
    """Write the page that shows the categories, unless there are more pictures than a page can show."""
    if count > MAX_GALLERY:
        say(f"6/6 no gallery: {count:,} pictures are more than {MAX_GALLERY}; infoae gallery shows a part of them")
        return progress
    from infoae.gallery import page
    from infoae.runs.run import Run

    say("6/6 gallery")
    page.write(Run(out / RUNS / progress.run), out / GALLERY, data=photos, bundle=out / BUNDLE, say=say)
    progress = progress.model_copy(update={"shown": True})
    progress.save(out)
    return progress


def _result(out: Path, progress: Progress, bundle: Bundle, done: Labelled, unsure: float, seconds: float) -> Sorted:
    assert progress.likeness is not None
    assert progress.recipe is not None
    added = done.answers(added=True)
    different = ", ".join(likeness.differences(progress.likeness, *added, unsure))
    categories = np.concatenate([done.answers(added=False)[0], added[0]])
    return Sorted(
        out=out,
        num_pictures=len(done.table),
        num_unreadable=done.num_unreadable,
        num_unsure=done.num_unsure,
        new=done.new,
        changed=done.changed,
        gone=done.gone,
        sizes=np.bincount(categories, minlength=bundle.manifest.num_categories).tolist(),
        run=out / RUNS / progress.run,
        recipe=progress.recipe.source,
        seconds=seconds,
        warnings=[
            f"{len(added[0]):,} pictures since the training are not like those before: {different}; train anew "
            "with --again"
        ]
        * bool(different),
    )
