"""infoae cache."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from infoae.cli.options import JsonOption, echo, print_json


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all that no command reads now.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List what is kept for training, or remove it: it is made anew when needed.

    That are the pictures that --data PATH has prepared, and copies of shards that lie in an object store.

    They lie in the folder INFOAE_CACHE, by default the user's cache, and take at most INFOAE_MAX_CACHE_BYTES.
    """
    from infoae import kept

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
        for source, entries in kept.by_source(entry for entry, _ in found):
            num_bytes = sum(entry.num_bytes for entry in entries)
            used = datetime.fromtimestamp(entries[-1].used)
            count = f" ({len(entries):,} files of it)" if len(entries) > 1 else ""
            echo(f"{num_bytes / 1e6:>12,.1f} MB, last used {used:%F %R}: {source}{count}")
        echo(f"in {kept.cache_folder()}; infoae cache --clear removes them")
