"""What can be classified: folders, globs, lists on standard input, arrays, IDX, Parquet, tar. In order, flat in memory.

Every source is small, picklable and lazy. It gives blocks of inputs; each input has a key that says where it came from:
a path as given, `digits.npz#17`, `shard.tar#cat/001.png` or `photos.parquet#17`. A container that breaks off part way
gives what it has and then one unreadable input under its own path; one that cannot be opened is that input alone.
"""

from __future__ import annotations

import codecs
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from infoae.data.decode import UnreadableImageError
from infoae.deploy.blocks import Block, Encoded, Source, in_blocks, key_of
from infoae.deploy.bundle import ImageSpec
from infoae.errors import InfoAEError, one_line


@dataclass(frozen=True)
class Files:
    """Files, each one image, and folders, each meaning every file below it that is not hidden, in sorted order.

    `exclude` is one path that is no input (the output, where it lies in such a folder).
    """

    paths: tuple[str, ...]
    exclude: str | None = None

    def count(self) -> int:
        """Return the number of files, by listing the folders."""
        return sum(1 for _ in self._items())

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the paths of the files, in blocks; what cannot be listed is an unreadable input."""
        return in_blocks(self._items(), size)

    def _items(self) -> Iterator[tuple[str, Encoded]]:
        excluded = os.path.realpath(self.exclude) if self.exclude else ""
        excluded_name = os.path.basename(excluded)  # noqa: PTH119
        for path in self.paths:
            if not os.path.isdir(path):  # noqa: PTH112 (a Path for each of a million names costs seconds)
                yield key_of(path), Path(path)
                continue
            for name, encoded in _walk(path):
                # Asking the file system for every name would take five times as long as listing them.
                if not excluded or not name.endswith(excluded_name) or os.path.realpath(name) != excluded:
                    yield key_of(name), encoded


@dataclass(frozen=True)
class Broken:
    """A container that cannot be opened: one unreadable input."""

    path: str
    reason: str

    def count(self) -> int:
        """Return 1: the container itself."""
        return 1

    def blocks(self, size: int) -> Iterator[Block]:  # noqa: ARG002
        """Return the one unreadable input."""
        yield Block([key_of(self.path)], [UnreadableImageError(self.reason)])


@dataclass(frozen=True)
class Listing:
    """Standard input as a list of image files, one path a line."""

    def count(self) -> None:
        """Return None: the list may be without end."""

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the paths that are read, in blocks, as they come."""
        names = (os.fsdecode(line.rstrip(b"\r\n")) for line in _without_mark(sys.stdin.buffer))
        return in_blocks(((key_of(name), Path(name)) for name in names if name), size)


def _without_mark(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Leave out the mark that Windows puts before UTF-8."""
    for number, line in enumerate(lines):
        yield line if number else line.removeprefix(codecs.BOM_UTF8)


def open_sources(
    inputs: Sequence[str], image: ImageSpec, *, column: str | None = None, exclude: Path | None = None
) -> list[Source]:
    """Return the sources that `inputs` name: paths, glob patterns, or "-" for a list on standard input.

    `column` is the Parquet column or `.npz` array that holds the images, needed where there are several.
    Raises InfoAEError for an input that does not exist, or holds arrays of another shape than `image`.
    """
    from infoae.deploy.archives import ParquetSource, TarSource
    from infoae.deploy.arrays import ArrayFile

    if inputs.count("-") > 1:
        raise InfoAEError("standard input can be read once: give - once")
    sources: list[Source] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            sources.append(Files(tuple(plain), str(exclude) if exclude else None))
            plain.clear()

    for path in _expand(inputs):
        name = os.path.basename(path).lower()  # noqa: PTH119
        source: Source
        if path == "-":
            source = Listing()
        elif os.path.isdir(path):  # noqa: PTH112
            plain.append(path)
            continue
        else:
            try:
                if name.endswith((".npy", ".npz")) or re.search(r"(-ubyte|\.idx\d?)(\.gz)?$", name):
                    source = ArrayFile.open(path, image, column)
                elif name.endswith((".parquet", ".pq")):
                    source = ParquetSource.open(path, column)
                elif re.search(r"\.(tar(\.(gz|bz2|xz))?|tgz)$", name):
                    source = TarSource.open(path)
                else:
                    plain.append(path)
                    continue
            except UnreadableImageError as error:
                source = Broken(path, str(error))
        flush()
        sources.append(source)
    flush()
    return sources


def _expand(inputs: Sequence[str]) -> Iterator[str]:
    for given in inputs:
        if given == "-" or os.path.lexists(given):  # a link to nothing is there too: it gets a row
            yield given
            continue
        found = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else []  # noqa: PTH207
        if not found:
            raise InfoAEError(f"no input {key_of(given)}: no such file, and no file matches it as a pattern")
        yield from found


def _walk(folder: str) -> Iterator[tuple[str, Encoded]]:
    """Every file below `folder` that is not hidden; linked folders are entered once, so a loop of links ends."""
    failed: list[OSError] = []
    entered = {os.path.realpath(folder)}

    def enter(parent: str, name: str) -> bool:
        path = os.path.join(parent, name)  # noqa: PTH118
        if name.startswith("."):
            return False
        if not os.path.islink(path):  # noqa: PTH114
            return True
        target = os.path.realpath(path)
        above = os.path.realpath(parent) + os.sep
        if target in entered or above.startswith(target + os.sep):
            return False
        entered.add(target)
        return True

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=failed.append):
        folders[:] = sorted(name for name in folders if enter(parent, name))
        for name in sorted(files):
            if not name.startswith("."):
                path = os.path.join(parent, name)  # noqa: PTH118
                yield path, Path(path)
        yield from _unread(failed)
    yield from _unread(failed)


def _unread(failed: list[OSError]) -> Iterator[tuple[str, Encoded]]:
    for error in failed:
        yield str(error.filename), UnreadableImageError(f"cannot list the folder: {one_line(error)}")
    failed.clear()
