"""What every source gives: blocks of inputs, each with a key that says where it came from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from infoae.data.unreadable import UnreadableImageError, unreadable

BLOCK_BYTES = 16 * 1024 * 1024
"""A block of images that are held as encoded bytes ends at this size: some files are large."""

Encoded = bytes | Path | UnreadableImageError
"""One image before decoding: a file's bytes, its path, or the reason why there is none."""


@dataclass(frozen=True)
class PassedOver:
    """A file that is no input, and why (see `infoae.data.selection`)."""

    reason: str


@dataclass(frozen=True)
class Block:
    """Consecutive inputs: `keys`, N of them, and `images`, ready pixels uint8 (N, C, H, W) or N encoded images.

    `passed_over` counts the files beside them that are no inputs, by reason. N may be 0.
    """

    keys: list[str]
    images: NDArray[np.uint8] | list[Encoded]
    passed_over: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: slice) -> Block:
        """Return some of the inputs; what was passed over stays with the block."""
        return Block(self.keys[rows], self.images[rows])


class Source(Protocol):
    """Something that holds images."""

    def count(self) -> int | None:
        """The number of inputs, or None where only reading it all would tell."""

    def blocks(self, size: int) -> Iterator[Block]:
        """All inputs in order, in blocks of at most `size`."""


def in_blocks(
    items: Iterable[tuple[str, Encoded | PassedOver]], size: int, container: str | None = None
) -> Iterator[Block]:
    """Gather single inputs into blocks of at most `size` and about BLOCK_BYTES.

    Whatever reading the next of `items` raises ends them with an unreadable input, whose key is that of `container`.
    """
    keys: list[str] = []
    images: list[Encoded] = []
    passed_over: Counter[str] = Counter()
    held, last = 0, "its start"
    iterator = iter(items)
    while True:
        try:
            with unreadable():
                item = next(iterator, None)
        except UnreadableImageError as error:
            if container is None:
                raise
            item = container, UnreadableImageError(f"unreadable after {last}: {error}")
            iterator = iter(())
        if item is None:
            break
        key, encoded = item
        if isinstance(encoded, PassedOver):
            passed_over[encoded.reason] += 1
            continue
        last = key.removeprefix(f"{container}#")
        keys.append(key)
        images.append(encoded)
        held += len(encoded) if isinstance(encoded, bytes) else 0
        if len(keys) >= size or held >= BLOCK_BYTES:
            yield Block(keys, images, passed_over)
            keys, images, passed_over, held = [], [], Counter(), 0
    if keys or passed_over:
        yield Block(keys, images, passed_over)


def key_of(name: str) -> str:
    r"""Return a file's name as valid text: a byte that is not UTF-8 shows as \xNN, so that any reader takes it."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
