"""Shards that a user need not know of: the pictures of `--data PATH`, prepared once and kept.

A folder each below the user's cache, named by a hash of the pictures' names, sizes and times and of all settings: other
pictures, or other settings, are another folder. Whoever reads one holds it, and what nobody holds goes once all take
more than INFOAE_MAX_CACHE_BYTES, the longest unused first.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from infoae.config import Config, Data
from infoae.data.decode import DecodeOptions
from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError, Notice, UsageError
from infoae.files import atomic_folder, remove, remove_leftovers, user_cache, write_json
from infoae.inputs import image_size
from infoae.inputs.blocks import Source
from infoae.inputs.convert import Converted, convert_files
from infoae.inputs.featuring import Featuring
from infoae.inputs.sources import Files, Listing, open_sources
from infoae.limits import MAX_CACHE_BYTES
from infoae.locks import share, try_lock, waited_for

FORMAT = 1
"""Of what is kept; with another one everything is prepared anew."""
REDUCED_JPEG = 1
"""Of how JPEG files are decoded at a part of their size; with another one everything of that kind is prepared anew."""
DESCRIPTION, SHARDS = "source.json", "shards"


@dataclass(frozen=True)
class Entry:
    """Prepared pictures: the folder, what they were made from, bytes, and when they were last used (seconds)."""

    folder: Path
    source: str
    num_bytes: int
    used: float


def ready(config: Config, moved_to: Path | None = None) -> Data:
    """Return the data of a configuration as `infoae.data` reads it: where that is files, shards made from them.

    `moved_to` is where the data lie if they have moved. Raises InfoAEError if there are none, or none can be read,
    and UsageError for classes of what is not files.
    """
    given = config.data.moved(moved_to)
    if given.name != "files":
        if given.labels is not None:
            raise UsageError(f"--labels {given.labels}: data {given.name} has its own classes, or none")
        return given
    if given.root is None:
        raise InfoAEError(
            "data files needs the pictures: --data PATH, a folder, pattern, list, archive, table or array"
        )
    inputs = [str(given.root.expanduser())]
    channels, size = config.model.channels, config.model.image_size
    image = image_size.chosen(inputs, given.column, size, channels)
    features = None if config.features.encoder is None else Featuring(config.features)
    folder = _prepared(given, inputs, image, features)
    return Data(name="shards", root=folder / SHARDS, limit=given.limit, held_out=given.held_out)


def cache_folder() -> Path:
    """Return where prepared pictures are kept."""
    return user_cache("pictures")


def entries() -> list[Entry]:
    """Return what is kept, the longest unused first."""
    found = []
    for folder in cache_folder().glob("[0-9a-f]*"):
        with suppress(OSError):
            if folder.is_dir():
                num_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
                found.append(Entry(folder, _source(folder), num_bytes, folder.stat().st_mtime))
    return sorted(found, key=lambda entry: entry.used)


def clear() -> Iterator[tuple[Entry, bool]]:
    """Remove all that is kept, and yield for each whether it is gone: what a process reads stays."""
    for entry in entries():
        yield entry, _remove_unless_held(entry.folder)


def _prepared(given: Data, inputs: list[str], image: ImageSpec, features: Featuring | None) -> Path:
    """Return the folder with the shards of `inputs`, held until this process ends, and make it if need be."""
    settings = [FORMAT, image.model_dump(mode="json"), given.labels, given.test_share, given.column]
    settings += [] if features is None else [features.digest]
    settings += [f"reduced JPEG {REDUCED_JPEG}"] if given.reduced_jpeg else []

    def make(made: Path) -> Notice:
        done = convert_files(
            inputs,
            made / SHARDS,
            image,
            test_share=given.test_share,
            labels=given.labels,
            column=given.column,
            options=DecodeOptions(reduced_jpeg=bool(given.reduced_jpeg)),
            features=features,
        )
        return _notice(inputs[0], image, done)

    return kept(f"{json.dumps(settings)}\n{_fingerprint(inputs, image, given)}", inputs[0], make)


def kept(key: str, source: str, make: Callable[[Path], Notice | None]) -> Path:
    """Return the folder that is kept for `key`, held until this process ends; `make` fills it if it is not there.

    `source` says in `infoae cache` what it was made from; what `make` returns is told once the folder is there.
    """
    folder = cache_folder() / hashlib.blake2b(key.encode(), digest_size=10).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder.parent)  # also of pictures that have changed since, which have another name now
    while True:
        with waited_for(folder.with_suffix(".lock")):
            if not folder.exists():
                with atomic_folder(folder) as made:
                    write_json(made / DESCRIPTION, {"source": source})
                    told = make(made)
                if told is not None:
                    warnings.warn(told, stacklevel=2)
        if share(folder):
            break
    os.utime(folder)
    _make_room(folder)
    return folder


def _fingerprint(inputs: list[str], image: ImageSpec, given: Data) -> str:
    """Of the names, sizes and times of all files that are read: cheap, and another one for other pictures."""
    digest = hashlib.blake2b(digest_size=16)
    sources = open_sources(inputs, image, column=given.column)
    paths: Iterable[str | Path] = itertools.chain([given.labels or ""], *map(_paths, sources))
    for path in paths:
        try:
            status = os.stat(path)  # noqa: PTH116 (of a million files)
            state = f"{status.st_size} {status.st_mtime_ns}"
        except OSError:  # whoever reads it says why
            state = "-"
        digest.update(f"{path}\0{state}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _paths(source: Source) -> Iterator[Path]:
    if isinstance(source, Files | Listing):
        yield from (picture for block in source.blocks(4096) for picture in block.images if isinstance(picture, Path))
    else:
        yield Path(cast(Any, source).path)  # every container has one


def _notice(source: str, image: ImageSpec, done: Converted) -> Notice:
    kind = "grey" if image.channels == 1 else "RGB"
    skipped = f"; {done.num_failed:,} inputs cannot be read, the first: {done.reasons[0]}" if done.num_failed else ""
    what = "sounds became pictures of" if done.num_sounds else "pictures became"
    return Notice(
        f"{source}: {done.num_train + done.num_test:,} {what} {image.width} x {image.height} {kind}, "
        f"{done.num_test:,} of them kept for tests, in {done.seconds:.0f} s; kept in {cache_folder()}{skipped}"
    )


def _source(folder: Path) -> str:
    try:
        return str(json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["source"])
    except (OSError, ValueError, KeyError, TypeError):
        return "-"


def _make_room(kept: Path) -> None:
    found = entries()
    too_much = sum(entry.num_bytes for entry in found) - MAX_CACHE_BYTES
    for entry in found:
        if too_much > 0 and entry.folder != kept and _remove_unless_held(entry.folder):
            too_much -= entry.num_bytes


def _remove_unless_held(folder: Path) -> bool:
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if try_lock(descriptor) is False:
                return False
            remove(folder)
            folder.with_suffix(".lock").unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return not folder.exists()
