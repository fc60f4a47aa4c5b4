"""infoae sort."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infoae.cli.options import JsonOption, echo, print_json

if TYPE_CHECKING:
    from infoae.placing.transfer import How
    from infoae.sorting.sort import Sorted


def sort(
    photos: Annotated[
        Path | None,
        typer.Argument(
            metavar="PHOTOS",
            help="Pictures to sort: a folder and all below, a pattern in quotes, a list (.txt), an archive or a table.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the result. Default: <PHOTOS>-sorted in the current folder."),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto", help="Number of categories. Default: auto, which finds it, from 2 to 50 by the recipes."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            help="Train no longer than about this, once a recipe is chosen. Default: as long as it says.",
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            "--config",
            metavar="RECIPE",
            help="Recipe to train: a name of infoae config list, or a YAML file. Default: those for strokes, things, "
            "textures and sound are tried on some of the pictures.",
        ),
    ] = None,
    unsure: Annotated[
        float, typer.Option(metavar="SHARE", help="Probability below which an answer is marked as unsure.")
    ] = 0.6,
    quality: Annotated[
        bool,
        typer.Option("--quality", help="Say which pictures are damaged, dark, blurred, near-duplicates or outliers."),
    ] = False,
    corrections: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Correct the categories by corrections.json of the page, and label anew."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Then place the pictures in a folder of DIR for each category."),
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="With --into: copy the pictures.")] = False,
    link: Annotated[bool, typer.Option("--link", help="With --into: link them, hard where that can be.")] = False,
    move: Annotated[bool, typer.Option("--move", help="With --into: move them, once all are labelled.")] = False,
    undo: Annotated[
        Path | None, typer.Option(metavar="JOURNAL", help="Take back what --into did, by the journal beside DIR.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Train anew, on the pictures that there are now.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, how long and in how much memory; change nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Sort a folder of pictures: find categories, and label every file. Only --move changes the folder.

    The same command goes on where it was stopped; once done, it labels what is new. Exit code 0: all are labelled; 3:
    some are unreadable; 130: stopped.
    """
    import math
    import os

    from infoae.errors import UsageError
    from infoae.sorting import into as placed
    from infoae.sorting import sort as sorting
    from infoae.sorting.state import Asked

    def tell(text: str) -> None:
        echo(text, err=True)

    if undo is not None:
        others = {"PHOTOS": photos, "--out": out, "--categories": categories, "--minutes": minutes, "--config": config}
        others |= {"--quality": quality, "--corrections": corrections, "--into": into, "--copy": copy, "--link": link}
        others |= {"--move": move, "--again": again, "--dry-run": dry_run}
        if given := [name for name, value in others.items() if value not in (None, False)]:
            raise UsageError(f"--undo {undo} takes no {given[0]}: the journal knows which pictures, and from where")
        if placed.undo(undo, tell).left:
            raise typer.Exit(3)
        return
    if photos is None:
        raise UsageError("say which pictures: infoae sort PHOTOS")
    how = _how(into, copy=copy, link=link, move=move)
    if not 0 <= unsure <= 1:
        raise UsageError(f"--unsure {unsure:g}: give a probability, from 0 to 1")
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise UsageError(f"--minutes {minutes:g}: give a number above 0")
    if config is not None and Path(config).is_file():  # the next command may be typed in another folder
        config = str(Path(config).absolute())
    asked = Asked(categories=categories, minutes=minutes, config=config)
    photos, out = sorting.where(photos, out)
    if into is not None:
        into = Path(os.path.abspath(into.expanduser()))  # noqa: PTH100 (.. has no place beside it)
        if not into.name:
            raise UsageError(f"--into {into}: give a folder that can have a journal beside it")
    if dry_run:
        from infoae.sorting.preview import preview

        found = preview(photos, out, asked, again=again)
        print_json(found) if as_json else echo(*_described(found))
        if into is not None:
            placed.place(photos, out, into, how, unsure, look=True, say=tell)
        return
    if into is not None and corrections is None and not again and placed.is_all_moved(photos, out, into, how):
        placed.place(photos, out, into, how, unsure, look=False, say=tell)
        return
    try:
        done = sorting.sort(photos, out, asked, unsure, again=again, corrections=corrections, say=tell)
    except KeyboardInterrupt as stop:
        echo(f"stopped; go on with the same command: {shlex.join(['infoae', *sys.argv[1:]])}", err=True)
        raise typer.Exit(130) from stop
    for warning in done.warnings:
        echo(f"warning: {warning}", err=True)
    print_json(done.to_dict()) if as_json else _print(done)
    if quality:
        from infoae.sorting.checked import check

        tell(check(out))
    left = into is not None and placed.place(photos, out, into, how, unsure, look=False, say=tell).left
    if done.num_unreadable or left:
        raise typer.Exit(3)


def _how(into: Path | None, *, copy: bool, link: bool, move: bool) -> How:
    from infoae.errors import UsageError

    ways: tuple[tuple[How, bool], ...] = (("copy", copy), ("link", link), ("move", move))
    asked = [how for how, wanted in ways if wanted]
    if (into is not None) != (len(asked) == 1):
        given = " ".join([*([f"--into {into}"] if into else []), *(f"--{how}" for how in asked)])
        raise UsageError(f"{given}: give --into DIR with one of --copy, --link and --move")
    return asked[0] if asked else "copy"


def _described(found: dict[str, Any]) -> Iterator[str]:
    for name, value in found.items():
        if isinstance(value, dict):
            for recipe, told in value.items():
                yield (
                    f"training {recipe}: {told['epochs']} epochs, {told['minutes']:g} minutes, categories "
                    f"{told['categories']}, {told['memory_gb']:.2g} GB of memory, on {told['device']}"
                )
        else:
            shown = " x ".join(map(str, value)) if isinstance(value, list) else value
            yield f"{name.replace('_', ' ')}: {shown}"


def _print(done: Sorted) -> None:
    from infoae.errors import counted
    from infoae.sorting.state import BUNDLE, CSV, GALLERY

    echo(
        f"{done.new:,} new, {done.changed:,} changed, {done.gone:,} gone: {counted(done.num_pictures, 'picture')} in "
        f"{len(done.sizes)} categories of {min(done.sizes):,} to {max(done.sizes):,}; {done.num_unsure:,} unsure, "
        f"{done.num_unreadable:,} unreadable; {done.seconds:.0f} s",
        f"labels {done.out / CSV}; the model, for infoae classify: {done.out / BUNDLE}",
    )
    if (done.out / GALLERY).exists():  # there is none of too many pictures
        echo(f"look at them, and correct them: {done.out / GALLERY}")
