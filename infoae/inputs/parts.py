"""What one task of a cluster takes of the inputs: a container, a group of pictures in a store, or a few files."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from infoae.inputs.archives import TarSource, ZipSource
from infoae.inputs.arrays import ArrayFile
from infoae.inputs.blocks import Block, Source, key_of
from infoae.inputs.columns import ParquetSource
from infoae.inputs.sources import Files, Listing

Part = Block | Source
"""It can be sent to another process."""


def parts_of(sources: Sequence[Source], num_files: int) -> Iterator[Part]:
    """Yield what sources hold: a container, a group of pictures in a store, or `num_files` single files is a part."""
    for source in sources:
        if isinstance(source, Files | Listing):
            yield from source.blocks(num_files)
        else:
            yield source


def blocks_of(part: Part, size: int) -> Iterator[Block]:
    """Yield the inputs of a part, in blocks of at most `size`."""
    if isinstance(part, Block):
        parts = (part[start : start + size] for start in range(0, len(part), size))
        return itertools.chain([Block([], [], part.passed_over)], parts)
    return part.blocks(size)


def absolute(part: Part) -> Part:
    """Return the part as a process in another folder finds it; its keys stay as given."""
    here = Path.cwd()
    if isinstance(part, Block):
        images = [here / image if isinstance(image, Path) else image for image in part.images]
        return Block(part.keys, images, part.passed_over)
    if isinstance(part, ArrayFile | ParquetSource | TarSource | ZipSource):
        return _Elsewhere(replace(part, path=str(here / part.path)), key_of(part.path))
    return part


def digest_of(parts: Sequence[Part]) -> str:
    """Return a text that is another for other parts, of their names alone."""
    digest = hashlib.sha256()
    for part in parts:
        images = [*part.keys, *(key_of(str(image)) for image in part.images)] if isinstance(part, Block) else []
        digest.update(("\0".join(images) or repr(part)).encode() + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class _Elsewhere:
    """A container by its absolute path, whose keys begin with `given`, the path as the user wrote it."""

    container: ArrayFile | ParquetSource | TarSource | ZipSource
    given: str

    def count(self) -> int | None:
        return self.container.count()

    def blocks(self, size: int) -> Iterator[Block]:
        known = len(key_of(self.container.path))
        for block in self.container.blocks(size):
            yield Block([self.given + key[known:] for key in block.keys], block.images, block.passed_over)
