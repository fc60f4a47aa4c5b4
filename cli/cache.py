"""infoae cache."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from infoae.cli.options import JsonOption, echo, print_json


def cache(
    clear: Annotated[
        bool, typer.Option("--clear", help="Remove all prepared pictures that no command reads now.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the pictures that --data PATH has prepared for training, or remove them: they are made anew when needed.

    They lie in the folder INFOAE_CACHE, by default the user's cache, and take at most INFOAE_MAX_CACHE_BYTES.
    """
    from infoae.inputs import cache as kept

    found = list(kept.clear()) if clear else [(entry, False) for entry in kept.entries()]
    if as_json:
        rows = [
            {"folder": str(entry.folder), "source": entry.source, "num_bytes": entry.num_bytes, "removed": gone}
            for entry, gone in found
        ]
        print_json({"folder": str(kept.cache_folder()), "entries": rows})
    elif not found:
        echo(f"nothing is kept in {kept.cache_folder()}")
    elif clear:
        for entry, gone in found:
            echo(f"{'removed' if gone else 'in use, kept'}: {entry.folder} ({entry.num_bytes / 1e6:,.1f} MB)")
    else:
        for entry, _ in found:
            used = datetime.fromtimestamp(entry.used)
            echo(f"{entry.num_bytes / 1e6:>12,.1f} MB, last used {used:%F %R}: {entry.source}")
        echo(f"in {kept.cache_folder()}; infoae cache --clear removes them")
