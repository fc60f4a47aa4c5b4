"""From sources to pixels: blocks are read ahead and decoded in threads, in order, in bounded memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from infoae.data.decode import DEFAULTS, DecodeOptions, Noticed, read_image
from infoae.data.image_spec import ImageSpec
from infoae.data.selection import told
from infoae.data.unreadable import UnreadableImageError
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Block, Source
from infoae.inputs.sources import Listing

In = TypeVar("In")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Decoded:
    """A block after decoding: `images` uint8 (M, C, H, W) are those of the N inputs whose `errors` entry is None.

    `passed_over` is that of the block, `peak` is the largest value of its 16-bit grey images, None if it has none;
    `num_sounds` of the images were made from sound.
    """

    keys: list[str]
    images: NDArray[np.uint8]
    errors: list[str | None]
    passed_over: Counter[str]
    peak: int | None = None
    num_sounds: int = 0


def read_blocks(sources: Sequence[Source], size: int) -> Iterator[Block]:
    """Yield the inputs of all sources in blocks of at most `size`, read ahead of where that is safe."""
    for source in sources:
        blocks = source.blocks(size)
        # Reading ahead would leave a thread waiting on standard input that nothing could interrupt.
        yield from blocks if isinstance(source, Listing) else read_ahead(blocks)


def decode(block: Block, image: ImageSpec, options: DecodeOptions = DEFAULTS) -> Decoded:
    """Make pixels of every input in `block` that can be read, and a reason for every other."""
    if isinstance(block.images, np.ndarray):
        return Decoded(block.keys, block.images, [None] * len(block), block.passed_over)
    images = np.empty((len(block), *image.shape), np.uint8)
    errors: list[str | None] = []
    noticed = Noticed()
    readable = 0
    for encoded in block.images:
        try:
            if isinstance(encoded, UnreadableImageError):
                raise encoded
            images[readable] = read_image(encoded, *image.shape, options, noticed)
        except UnreadableImageError as error:
            errors.append(str(error))
        else:
            errors.append(None)
            readable += 1
    return Decoded(block.keys, images[:readable], errors, block.passed_over, noticed.peak, noticed.num_sounds)


def ordered_map(function: Callable[[In], Out], items: Iterable[In], num_workers: int) -> Generator[Out]:
    """Yield `function` of each item in order, computed in threads, never more than 2 * `num_workers` ahead."""
    pool = ThreadPoolExecutor(num_workers)
    pending: deque[Future[Out]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(items: Iterable[In]) -> Iterator[In]:
    """Yield `items` while a thread already reads the next two."""
    iterator = iter(items)
    end = object()
    reader = ThreadPoolExecutor(1)
    try:
        pending = deque(reader.submit(next, iterator, end) for _ in range(2))
        while (item := pending.popleft().result()) is not end:
            pending.append(reader.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        reader.shutdown(cancel_futures=True)


def check_any(num_rows: int, passed_over: Counter[str]) -> None:
    """Raise InfoAEError if there was no input at all, saying what was passed over."""
    if num_rows == 0:
        raise InfoAEError("the inputs hold no images" + (f"; passed over: {told(passed_over)}" if passed_over else ""))


def largest(*peaks: int | None) -> int | None:
    """Return the largest of what is known."""
    return max((peak for peak in peaks if peak is not None), default=None)
