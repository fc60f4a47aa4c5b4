"""What can be classified: folders, globs, lists on standard input, arrays, Parquet, tar, zip. In order, flat in memory.

What counts as an input is one rule everywhere, `infoae.data.selection`; what is passed over by it is counted.
Every source is small, picklable and lazy. It gives blocks of inputs; each input has a key that says where it came from:
a path as given, `digits.npz#17`, `shard.tar#cat/001.png` or `photos.parquet#17`. A container that breaks off part way
gives what it has and then one unreadable input under its own path; one that cannot be opened is that input alone.
"""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoae.data.image_spec import ImageSpec
from infoae.data.selection import container_kind, is_hidden, why_passed_over
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError, one_line
from infoae.inputs.blocks import Block, Encoded, PassedOver, Source, in_blocks, key_of
from infoae.limits import MAX_NAME_BYTES


@dataclass(frozen=True)
class Files:
    """Files, each one image, and folders, each meaning every input below it, in sorted order, but for containers.

    `exclude` is one path that is no input (the output, where it lies in such a folder).
    """

    paths: tuple[str, ...]
    exclude: str | None = None

    def count(self) -> int:
        """Return the number of files, by listing the folders."""
        return sum(1 for _, encoded in self._items() if not isinstance(encoded, PassedOver))

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the paths of the files, in blocks; what cannot be listed is an unreadable input."""
        return in_blocks(self._items(), size)

    def containers(self) -> Iterator[str]:
        """Return the Parquet files and archives below the folders, which are sources of their own."""
        for path in self.paths:
            for name, encoded in self._below(path):
                if isinstance(encoded, PassedOver) and encoded.reason == _CONTAINER:
                    yield name

    def _items(self) -> Iterator[tuple[str, Encoded | PassedOver]]:
        for path in self.paths:
            if os.path.isdir(path):  # noqa: PTH112 (a Path for each of a million names costs seconds)
                for name, encoded in self._below(path):
                    if not isinstance(encoded, PassedOver) or encoded.reason != _CONTAINER:
                        yield key_of(name), encoded
            else:
                yield key_of(path), Path(path)

    def _below(self, folder: str) -> Iterator[tuple[str, Encoded | PassedOver]]:
        excluded = os.path.realpath(self.exclude) if self.exclude else ""
        excluded_name = os.path.basename(excluded)  # noqa: PTH119
        for name, encoded in _walk(folder):
            # Asking the file system for every name would take five times as long as listing them.
            if not excluded or not name.endswith(excluded_name) or os.path.realpath(name) != excluded:
                yield name, encoded


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
    """A list of image files, one path a line; or, where names may hold newlines, ended by NUL."""

    null: bool = False
    path: str | None = None
    """The file that holds it; standard input if not given."""

    def count(self) -> None:
        """Return None: the list may be without end."""

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the paths that are read, in blocks, as they come."""
        with nullcontext(sys.stdin.buffer) if self.path is None else Path(self.path).open("rb") as stream:
            what = "standard input" if self.path is None else key_of(self.path)
            names = map(os.fsdecode, _ended_by_null(stream, what) if self.null else _lines(stream, what))
            yield from in_blocks(((key_of(name), Path(name)) for name in names if name), size)


def _lines(stream: Any, what: str) -> Iterator[bytes]:
    first = True
    while line := stream.readline(MAX_NAME_BYTES):
        if len(line) == MAX_NAME_BYTES or b"\0" in line:
            hint = (
                "with --null, names end with NUL" if b"\0" in line else f"a line has more bytes than {MAX_NAME_BYTES}"
            )
            raise InfoAEError(f"{what} is no list of files, one a line: {hint}")
        line = line.removeprefix(codecs.BOM_UTF8) if first else line  # Windows puts a mark before UTF-8
        first = False
        yield line.rstrip(b"\r\n")


def _ended_by_null(stream: Any, what: str) -> Iterator[bytes]:
    rest = b""
    while content := stream.read1(MAX_NAME_BYTES):
        *names, rest = (rest + content).split(b"\0")
        if len(rest) > MAX_NAME_BYTES:
            raise InfoAEError(f"{what} is no list of files ended by NUL: one has more bytes than {MAX_NAME_BYTES}")
        yield from names
    yield rest


def open_sources(
    inputs: Sequence[str],
    image: ImageSpec,
    *,
    column: str | None = None,
    exclude: Path | None = None,
    null: bool = False,
) -> list[Source]:
    """Return the sources that `inputs` name: paths, glob patterns, lists (.txt), or "-" for one on standard input.

    `column` is the Parquet column or `.npz` array that holds the images, needed where there are several. With `null`
    names in the list end with NUL. Raises InfoAEError for an input that does not exist, or holds arrays of another
    shape than `image`.
    """
    if inputs.count("-") > 1:
        raise InfoAEError("standard input can be read once: give - once")
    sources: list[Source] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            files = Files(tuple(plain), str(exclude) if exclude else None)
            plain.clear()
            sources.append(files)
            sources.extend(open_found(path, image, column) for path in files.containers())

    for path in expanded(inputs):
        if path == "-":
            flush()
            sources.append(Listing(null))
        elif container_kind(path) == "list" and os.path.isfile(path):  # noqa: PTH113
            flush()
            sources.append(Listing(null, path))
        elif os.path.isdir(path) or container_kind(path) is None:  # noqa: PTH112
            plain.append(path)
        else:
            flush()
            sources.append(open_container(path, image, column))
    flush()
    return sources


def open_container(path: str, image: ImageSpec, column: str | None) -> Source:
    """Open the array file, Parquet file or archive `path`, one unreadable input if it is damaged.

    Raises InfoAEError as `open_sources` does.
    """
    from infoae.inputs.archives import TarSource, ZipSource
    from infoae.inputs.arrays import ArrayFile
    from infoae.inputs.columns import ParquetSource

    kind = container_kind(path)
    try:
        with unreadable():
            if kind == "array":
                return ArrayFile.open(path, image, column)
            if kind == "parquet":
                return ParquetSource.open(path, column)
            return TarSource.open(path) if kind == "tar" else ZipSource.open(path)
    except UnreadableImageError as error:
        return Broken(path, f"cannot be opened: {error}")


def open_found(path: str, image: ImageSpec, column: str | None) -> Source:
    """Open a container that nobody named: one without images is a row among those of the others."""
    try:
        return open_container(path, image, column)
    except InfoAEError as error:
        return Broken(path, str(error))


def expanded(inputs: Sequence[str]) -> Iterator[str]:
    """Yield the paths that `inputs` name, patterns by what they match. Raises InfoAEError if nothing does."""
    for given in inputs:
        if given == "-" or os.path.lexists(given):  # a link to nothing is there too: it gets a row
            yield given
            continue
        found = sorted(glob.glob(given, recursive=True)) if glob.has_magic(given) else []  # noqa: PTH207
        if not found:
            raise InfoAEError(f"no input {key_of(given)}: no such file, and no file matches it as a pattern")
        yield from found


_CONTAINER = "a container"


def _walk(folder: str) -> Iterator[tuple[str, Encoded | PassedOver]]:
    """Every file below `folder`; linked folders are entered once, so a loop of links ends."""
    failed: list[OSError] = []
    entered = {os.path.realpath(folder)}

    def why_not_entered(path: str, parent: str, name: str) -> str | None:
        if is_hidden(name):
            return "hidden"
        if not os.path.islink(path):  # noqa: PTH114
            return None
        target = os.path.realpath(path)
        above = os.path.realpath(parent) + os.sep
        if target in entered or above.startswith(target + os.sep):
            return "linked folders met before"
        entered.add(target)
        return None

    for parent, folders, files in os.walk(folder, followlinks=True, onerror=failed.append):
        kept = []
        for name in sorted(folders):
            path = os.path.join(parent, name)  # noqa: PTH118
            reason = why_not_entered(path, parent, name)
            if reason is None:
                kept.append(name)
            else:
                yield path, PassedOver(reason)
        folders[:] = kept
        for name in sorted(files):
            path = os.path.join(parent, name)  # noqa: PTH118
            if container_kind(name) in ("parquet", "tar", "zip") and not is_hidden(name):
                yield path, PassedOver(_CONTAINER)
            else:
                reason = why_passed_over(name)
                yield path, PassedOver(reason) if reason else Path(path)
        yield from _unread(failed)
    yield from _unread(failed)


def _unread(failed: list[OSError]) -> Iterator[tuple[str, Encoded | PassedOver]]:
    for error in failed:
        yield str(error.filename), UnreadableImageError(f"cannot list the folder: {one_line(error)}")
    failed.clear()
