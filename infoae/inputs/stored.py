"""Inputs in an object store: what lies below s3://bucket/path, gs://bucket/path or file:///folder, or one file there.

Picture files are read when their block is, and no further ahead. A container is copied to this machine for as long as
it is read, so what reads it is what reads local ones, and takes no more memory. What is listed when a command begins is
what it reads: a file that changes meanwhile is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infoae import kept
from infoae.addresses import check_address, is_address, within, without_options
from infoae.data.image_spec import ImageSpec
from infoae.data.object_store import AT_ONCE, Listed, StoredFile, below, content, look, retried
from infoae.data.selection import container_kind, is_hidden, why_passed_over
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.inputs.blocks import BLOCK_BYTES, Block, Encoded, Source, key_of
from infoae.inputs.sources import Broken, open_container, open_found, open_sources
from infoae.limits import MAX_BYTES

GROUP = 8192
"""So many pictures are one source, whose version a job keeps."""
_NAME_BYTES = 40
"""Of a container's name, its ending among them, are kept for its copy."""


@dataclass(frozen=True)
class StoredPictures:
    """Picture files below the address `folder`, each one image."""

    folder: str
    files: tuple[Listed, ...]
    passed_over: Counter[str] = field(default_factory=Counter, repr=False)

    def count(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the files' bytes, a block at a time. Raises InfoAEError where one cannot be read, or has changed."""
        if self.passed_over:
            yield Block([], [], self.passed_over)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for files in _parts(self.files, size):
                yield Block([self._key(file) for file in files], list(pool.map(self._content, files)))

    def version(self) -> tuple[str, str]:
        """Return a name of these files for people, and a text that is another if any of them has changed."""
        first, last = self._key(self.files[0]), self._key(self.files[-1])
        name = first if first == last else f"a picture of {first} to {last}"
        return name, hashlib.sha256(repr(self.files).encode()).hexdigest()

    def _key(self, file: Listed) -> str:
        return key_of(f"{without_options(self.folder)}/{file.name}")

    def _content(self, file: Listed) -> Encoded:
        if file.size > MAX_BYTES:
            return UnreadableImageError(f"{file.size} bytes, more than {MAX_BYTES}")
        return content(self.folder, file)


@dataclass(frozen=True)
class StoredContainer:
    """A Parquet file, archive or array file in a store, opened by what opens local ones.

    Its keys begin with its address. `column` is as `open_sources` has it; `is_named` is whether a person named this
    very file: then one that holds no such images is an error, and no unreadable input.
    """

    file: StoredFile
    image: ImageSpec
    column: str | None
    is_named: bool

    def count(self) -> None:
        """Return None: only reading the file tells."""

    def blocks(self, size: int) -> Iterator[Block]:
        """Return what the file holds, while there is a copy of it here. Raises InfoAEError, as StoredFile.copy."""
        name, _ = self.version()
        with _copied(self.file) as copy:
            try:
                source = (open_container if self.is_named else open_found)(str(copy), self.image, self.column)
            except InfoAEError as error:
                raise type(error)(str(error).replace(str(copy), name)) from None
            if isinstance(source, Broken):
                source = Broken(str(copy), source.reason.replace(str(copy), name))
            known = len(key_of(str(copy)))
            for block in source.blocks(size):
                yield Block([name + key[known:] for key in block.keys], _own(block.images), block.passed_over)

    def version(self) -> tuple[str, str]:
        """Return the file's name for people, and a text that is another if it has changed."""
        return key_of(without_options(self.file.address)), f"{self.file.size} {self.file.version}"


def open_inputs(
    inputs: Sequence[str],
    image: ImageSpec,
    *,
    column: str | None = None,
    exclude: Path | None = None,
    null: bool = False,
) -> list[Source]:
    """Return the sources that `inputs` name: addresses in an object store, and what `open_sources` takes.

    Raises UsageError for what is no address, and InfoAEError where nothing lies, or the store cannot be read.
    """
    if inputs.count("-") > 1:
        raise InfoAEError("standard input can be read once: give - once")
    sources: list[Source] = []
    for in_store, group in groupby(inputs, is_address):
        if in_store:
            for address in group:
                sources.extend(_stored(address, image, column))
        else:
            sources.extend(open_sources(list(group), image, column=column, exclude=exclude, null=null))
    return sources


def versions(sources: Iterable[object]) -> dict[str, str]:
    """Return the versions of what of `sources` lies in a store, by name; a job on others is another job."""
    stored = (each for each in sources if isinstance(each, StoredContainer | StoredPictures))
    return dict(each.version() for each in stored if isinstance(each, StoredContainer) or each.files)


def _stored(given: str, image: ImageSpec, column: str | None) -> Iterator[Source]:
    """Yield the pictures that an address names, and then each container."""
    try:
        address = check_address(given)
    except ValueError as error:
        raise UsageError(str(error)) from None
    folder, files = below(address)
    is_named = folder != address
    if not files:
        raise InfoAEError(f"no input {given}: nothing has this address, and nothing lies below it")
    pictures: list[Listed] = []
    containers: list[str] = []
    passed_over: Counter[str] = Counter()
    for file in files:
        kind = container_kind(file.name)
        if kind == "list" and is_named:
            raise UsageError(f"{given}: a list of files is read from this machine alone: copy it here")
        packed = kind in ("parquet", "tar", "zip") and not any(map(is_hidden, file.name.split("/")))
        if packed or (is_named and kind is not None):
            containers.append(file.name)
        elif not is_named and (reason := why_passed_over(file.name)):
            passed_over[reason] += 1
        else:
            pictures.append(file)
    for start in range(0, max(len(pictures), bool(passed_over)), GROUP):
        yield StoredPictures(folder, tuple(pictures[start : start + GROUP]), Counter() if start else passed_over)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(lambda name: _container(folder, name, image, column, is_named), containers)


def _container(folder: str, name: str, image: ImageSpec, column: str | None, is_named: bool) -> Source:
    key = f"{without_options(folder)}/{name}"
    if set("?#") & set(name):
        return Broken(key, "cannot be opened: a ? or # in the name of a container, which no address can have")
    file = look(within(folder, name))
    if file is None:
        raise InfoAEError(f"{key} is gone since this command began: put back what it was, or begin anew")
    return StoredContainer(file, image, column, is_named)


@contextmanager
def _copied(file: StoredFile) -> Iterator[Path]:
    """Yield a copy of a file on this machine, which is there within the block alone.

    One that a killed process leaves is one of what `kept` keeps, and goes with it. Raises as StoredFile.copy does.
    """
    key, name = f"input {file.address} {file.size} {file.version}", f"copy-{file.name[-_NAME_BYTES:]}"

    def folder() -> Path:
        source = without_options(file.address)
        try:
            return stack.enter_context(kept.reading(key, source, lambda made: file.copy(made / name)))
        except OSError as error:
            raise InfoAEError(f"{source} cannot be copied to {kept.cache_folder()}: {one_line(error)}") from error

    try:
        with ExitStack() as stack:
            yield retried(file.address, folder) / name
    finally:
        kept.drop(key)


def _own(images: NDArray[np.uint8] | list[Encoded]) -> NDArray[np.uint8] | list[Encoded]:
    """A row that is the path of another file means one beside the container, and there is none beside its copy."""
    if not isinstance(images, list):
        return images
    reason = "no image, but the path of another file: only a Parquet file of this machine can have that"
    return [UnreadableImageError(reason) if isinstance(image, Path) else image for image in images]


def _parts(files: Sequence[Listed], size: int) -> Iterator[list[Listed]]:
    """Files in lists of at most `size`, which end at BLOCK_BYTES."""
    part: list[Listed] = []
    held = 0
    for file in files:
        part.append(file)
        held += file.size
        if len(part) == size or held >= BLOCK_BYTES:
            yield part
            part, held = [], 0
    if part:
        yield part
