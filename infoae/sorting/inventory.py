"""Which pictures there are now: every file by name, size and time, in the order of the labels. No torch."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from infoae.data.image_spec import ImageSpec
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError, printable
from infoae.inputs.blocks import Block, Encoded, PassedOver, Source, in_blocks, key_of
from infoae.inputs.sources import Files, Listing, open_sources

AT_ONCE = 4096  # names


@dataclass(frozen=True, slots=True)
class State:
    """What a file looks like without reading it: bytes, and nanoseconds of its last change; -1 where nobody can say."""

    size: int
    modified_ns: int


@dataclass(frozen=True)
class Listed:
    """Files of an inventory as a source of their own, by their numbers."""

    inventory: Inventory
    numbers: Sequence[int]

    def count(self) -> int:
        """Return the number of files."""
        return len(self.numbers)

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the files in order, in blocks: keys with a path, or why there is no picture."""
        paths, unreadable = self.inventory.paths, self.inventory.unreadable
        items: Iterator[tuple[str, Encoded | PassedOver]] = (
            (key_of(paths[number]), unreadable.get(number) or Path(paths[number])) for number in self.numbers
        )
        return in_blocks(items, size)


@dataclass(frozen=True)
class Container:
    """What holds many pictures; where it holds none, it is one input that cannot be read."""

    path: str
    source: Source

    def count(self) -> int | None:
        """Return the number of pictures, None where only reading it all would tell."""
        return self.source.count()

    def blocks(self, size: int) -> Iterator[Block]:
        """Return the pictures in order, in blocks."""
        num_inputs = 0
        for block in self.source.blocks(size):
            num_inputs += len(block)
            yield block
        if not num_inputs:
            yield Block([key_of(self.path)], [UnreadableImageError("holds no images")])


@dataclass
class Inventory:
    """The files in order: pictures, and containers of many, whose sources are in `containers` by the file's number.

    `unreadable` has the reason, by number, of what was found and cannot even be listed.
    """

    paths: list[str] = field(default_factory=list)
    """As the file system calls them: os.fsencode gives their bytes."""
    states: list[State] = field(default_factory=list)
    containers: dict[int, Source] = field(default_factory=dict)
    unreadable: dict[int, UnreadableImageError] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.paths)

    def num_pictures(self) -> int | None:
        """Return how many pictures the files hold, None where only reading them would tell."""
        counts = [source.count() for source in self.containers.values()]
        return None if None in counts else len(self) - len(counts) + sum(filter(None, counts))

    def source(self, numbers: Sequence[int]) -> Listed:
        """Return the files of these numbers, which are no containers, as a source."""
        return Listed(self, numbers)

    def container(self, number: int) -> Container:
        """Return the container of this number as a source."""
        return Container(self.paths[number], self.containers[number])

    def digest(self, numbers: Sequence[int]) -> str:
        """Return a digest of the names, sizes and times of the files of these numbers."""
        found = hashlib.blake2b(digest_size=16)
        for number in numbers:
            state = self.states[number]
            found.update(os.fsencode(self.paths[number]) + f"\0{state.size} {state.modified_ns}\n".encode())
        return found.hexdigest()


def take(photos: Path, image: ImageSpec) -> Inventory:
    """Return what lies at `photos`, an absolute path: a folder, pattern, list, archive, table or array.

    A file that a list names twice counts once. Raises InfoAEError for what does not exist, for arrays of another shape
    than `image`, and for a list that names folders.
    """
    found, seen = Inventory(), set[str]()
    for source in open_sources([str(photos)], image):
        if not isinstance(source, Files | Listing):
            found.containers[len(found)] = source
            _add(found, str(cast(Any, source).path))  # every container has one
            continue
        for block in source.blocks(AT_ONCE):
            found.passed_over += block.passed_over
            for key, encoded in zip(block.keys, block.images, strict=True):
                path = str(encoded) if isinstance(encoded, Path) else key
                if path in seen:
                    continue
                seen.add(path)
                if isinstance(source, Listing) and os.path.isdir(path):  # noqa: PTH112
                    raise InfoAEError(f"{photos} names the folder {printable(path)}: a list is one of files")
                if isinstance(encoded, UnreadableImageError):
                    found.unreadable[len(found)] = encoded
                _add(found, path)
    return found


def _add(found: Inventory, path: str) -> None:
    state = State(-1, -1)
    if len(found) not in found.unreadable:
        try:
            status = os.stat(path)  # noqa: PTH116 (of a million files)
            state = State(status.st_size, status.st_mtime_ns)
        except OSError:  # whoever reads it says why
            pass
    found.paths.append(path)
    found.states.append(state)
