"""What every source gives: blocks of inputs, each with a key that says where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infoae.data.unreadable import UnreadableImageError

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
