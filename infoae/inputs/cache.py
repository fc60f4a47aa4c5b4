"""Shards that a user need not know of: the pictures of `--data PATH`, prepared once and kept (`infoae.kept`).

The key is the pictures' names, sizes and times and all settings: other pictures, or other settings, are another folder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

from infoae import kept
from infoae.config import Config, Data
from infoae.data.decode import DecodeOptions
from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError, Notice, UsageError
from infoae.inputs import image_size
from infoae.inputs.blocks import Source
from infoae.inputs.convert import Converted, convert_files
from infoae.inputs.featuring import Featuring
from infoae.inputs.sources import Files, Listing, open_sources

FORMAT = 1
"""Of what is kept; with another one everything is prepared anew."""
REDUCED_JPEG = 1
"""Of how JPEG files are decoded at a part of their size; with another one everything of that kind is prepared anew."""
SHARDS = "shards"


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

    return kept.folder_of(f"{json.dumps(settings)}\n{_fingerprint(inputs, image, given)}", inputs[0], make)


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
        f"{done.num_test:,} of them kept for tests, in {done.seconds:.0f} s; kept in {kept.cache_folder()}{skipped}"
    )
