"""Classes of pictures, for evaluation alone: from the folders they lie in, or from a table."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import TypeAlias

from infoae.addresses import without_options
from infoae.data.selection import container_kind
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError, UsageError
from infoae.inputs.archives import TarSource, ZipSource
from infoae.inputs.arrays import ArrayFile
from infoae.inputs.blocks import Source, key_of
from infoae.inputs.columns import ParquetSource
from infoae.inputs.sources import Files
from infoae.inputs.stored import StoredContainer, StoredPictures

FOLDERS = "folders"
COLUMNS = ("path", "label")
"""Of a table of classes, as `infoae classify` names them, too."""

ClassOf: TypeAlias = Callable[[str], str]
"""The class of a picture by its key. Raises InfoAEError if it has none."""


def rules(labels: str | None, sources: Sequence[Source]) -> list[ClassOf | None]:
    """Return for each source how its keys tell the class; `labels` is "folders", a CSV file, or None for no classes.

    Raises UsageError for a table that is not there, InfoAEError for one that is damaged and for a source that cannot
    tell.
    """
    if labels is None:
        return [None] * len(sources)
    if labels == FOLDERS:
        return [_of_folders(source) for source in sources]
    table = _read(Path(labels).expanduser())
    return [_of_table(source, table, labels) for source in sources]


def _of_folders(source: Source) -> ClassOf:
    if isinstance(source, StoredContainer):
        name, _ = source.version()
        has_folders = container_kind(name) in ("tar", "zip")
    elif isinstance(source, ArrayFile | ParquetSource | TarSource | ZipSource):
        name, has_folders = key_of(source.path), isinstance(source, TarSource | ZipSource)
    else:  # also one that cannot be opened, of which no image comes
        return lambda key: Path(key).absolute().parent.name
    if not has_folders:
        raise InfoAEError(f"{name} has no folders to take classes from: image files and archives have")
    prefix = f"{name}#"

    def folder_of_member(key: str) -> str:
        name = PurePosixPath(key.removeprefix(prefix)).parent.name
        if not name:
            raise InfoAEError(f"{key} lies in no folder that could tell its class")
        return name

    return folder_of_member


def _of_table(source: Source, table: dict[str, str], labels: str) -> ClassOf:
    """A picture is in the table by its key, its absolute path, or its path below the folder, address or archive."""
    given: Sequence[str] = source.paths if isinstance(source, Files) else ()
    if isinstance(source, StoredPictures):
        given = [without_options(source.folder)]
    above = [key_of(path).rstrip("/") + "/" for path in given]

    def class_in_table(key: str) -> str:
        below = next((key.removeprefix(folder) for folder in above if key.startswith(folder)), key.partition("#")[2])
        for name in (key, below, os.path.abspath(key)):  # noqa: PTH100 (of a million keys)
            if name in table:
                return table[name]
        raise InfoAEError(f"{labels} has no label for {key}: give each picture one, by its path as here or as {below}")

    return class_in_table


def _read(path: Path) -> dict[str, str]:
    """Return the class by path, as written and, where that is relative, as an absolute one from the table's folder."""
    if not path.is_file():
        raise UsageError(f"labels {path}: give {FOLDERS}, or a CSV file with the columns {' and '.join(COLUMNS)}")
    table: dict[str, str] = {}
    try:
        with unreadable(), path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
                raise UsageError(f"labels {path} has no column {missing[0]}: {' and '.join(COLUMNS)} are needed")
            for row in reader:
                name, label = row["path"], row["label"]
                if not name or label is None or table.get(name, label) != label:
                    raise UsageError(f"line {reader.line_num} of labels {path}: one path and its one label are needed")
                table[name] = label
                table[os.path.abspath(path.parent / name)] = label  # noqa: PTH100
    except UnreadableImageError as error:
        raise InfoAEError(f"labels {path} cannot be read: {error}") from None
    return table
