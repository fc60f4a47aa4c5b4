"""What can be classified: folders, globs, lists on standard input, arrays, IDX, Parquet, tar. In order, flat in memory.

Every source is small, picklable and lazy. It gives blocks of inputs; each input has a key that says where it came from:
a path as given, `digits.npz#17`, `shard.tar#cat/001.png` or `photos.parquet#17`. A container that breaks off part way
gives what it has and then one unreadable input under its own path; one that cannot be opened is that input alone.
"""

from __future__ import annotations

import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infoae.data.decode import UnreadableImageError
from infoae.deploy.bundle import ImageSpec
from infoae.errors import InfoAEError, one_line

BLOCK_BYTES = 16 * 1024 * 1024
"""A block of images that are held as encoded bytes ends at this size: some files are large."""

Encoded = bytes | Path | UnreadableImageError
"""One image before decoding: a file's bytes, its path, or the reason why there is none."""


@dataclass(frozen=True)
class Block:
    """Consecutive inputs: `keys`, N of them, and `images`, ready pixels uint8 (N, C, H, W) or N encoded images."""

    keys: list[str]
    images: NDArray[np.uint8] | list[Encoded]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: slice) -> Block:
        return Block(self.keys[rows], self.images[rows])


class Source(Protocol):
    """Something that holds images."""

    def count(self) -> int | None:
        """The number of inputs, or None where only reading it all would tell."""

    def blocks(self, size: int) -> Iterator[Block]:
        """All inputs in order, in blocks of at most `size`."""


@dataclass(frozen=True)
class Files:
    """Files, each one image, and folders, each meaning every file below it that is not hidden, in sorted order.

    `exclude` is one path that is no input (the output, where it lies in such a folder).
    """

    paths: tuple[str, ...]
    exclude: str | None = None

    def count(self) -> int:
        return sum(1 for _ in self._items())

    def blocks(self, size: int) -> Iterator[Block]:
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
        return 1

    def blocks(self, size: int) -> Iterator[Block]:  # noqa: ARG002
        yield Block([key_of(self.path)], [UnreadableImageError(self.reason)])


@dataclass(frozen=True)
class Listing:
    """Standard input as a list of image files, one path a line."""

    def count(self) -> None:
        return None

    def blocks(self, size: int) -> Iterator[Block]:
        names = (os.fsdecode(line.rstrip(b"\r\n")) for line in sys.stdin.buffer)
        return in_blocks(((key_of(name), Path(name)) for name in names if name), size)


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


def in_blocks(items: Iterable[tuple[str, Encoded]], size: int) -> Iterator[Block]:
    """Gather single inputs into blocks of at most `size` and about BLOCK_BYTES."""
    keys: list[str] = []
    images: list[Encoded] = []
    held = 0
    for key, encoded in items:
        keys.append(key)
        images.append(encoded)
        held += len(encoded) if isinstance(encoded, bytes) else 0
        if len(keys) >= size or held >= BLOCK_BYTES:
            yield Block(keys, images)
            keys, images, held = [], [], 0
    if keys:
        yield Block(keys, images)


def key_of(name: str) -> str:
    r"""Return a file's name as valid text: a byte that is not UTF-8 shows as \xNN, so that any reader takes it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


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
