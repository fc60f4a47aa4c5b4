"""Shuffling more images than fit in memory: each goes into a random bucket, and each bucket is shuffled by itself.

One bucket after the other, they are all images in random order, every order being as likely.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

NUM_BUCKETS = 64
BUCKET_BYTES = 128 * 1024 * 1024
"""A larger bucket is not read whole, but divided among buckets of its own."""

Rows: TypeAlias = NDArray[np.void]
"""Images with their classes, of the type that `row_type` returns."""


def row_type(shape: tuple[int, int, int], num_features: int | None = None) -> np.dtype[np.void]:
    """Return the type of a row: `pixels` uint8 of `shape` (C, H, W), and the number of their `class`.

    With `num_features` also as many float32 `features`.
    """
    features = [] if num_features is None else [("features", np.float32, (num_features,))]
    return np.dtype([("pixels", np.uint8, shape), ("class", np.int32), *features])


class Buckets:
    """Rows on disk, in a `folder` that is made for them: `add` them inside the context, read them `shuffled` after it.

    Their order follows from `random` and the rows that were added. Raises OSError where the disk does not play along.
    """

    def __init__(self, folder: Path, kind: np.dtype[np.void], random: np.random.Generator) -> None:
        self.kind, self.num_rows = kind, 0
        self._folder, self._random = folder, random
        self._paths = [folder / f"{bucket:02}" for bucket in range(NUM_BUCKETS)]
        self._files: list[IO[bytes]] = []
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._files = [self._open.enter_context(path.open("wb")) for path in self._paths]
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def add(self, rows: Rows) -> None:
        """Put each row into a bucket drawn at random."""
        drawn = self._random.integers(NUM_BUCKETS, size=len(rows))
        for bucket in np.unique(drawn):
            self._files[bucket].write(rows[drawn == bucket].tobytes())
        self.num_rows += len(rows)

    def shuffled(self) -> Iterator[Rows]:
        """Yield all rows in random order, at most BUCKET_BYTES of them at a time, and remove them from the disk."""
        for path in self._paths:
            if path.stat().st_size <= max(BUCKET_BYTES, self.kind.itemsize):
                rows = np.fromfile(path, self.kind)
                path.unlink()
                self._random.shuffle(rows)
                yield rows
            else:
                with Buckets(path.with_suffix(".divided"), self.kind, self._random) as buckets:
                    for rows in _read(path, self.kind):
                        buckets.add(rows)
                path.unlink()
                yield from buckets.shuffled()
        self._folder.rmdir()


def _read(path: Path, kind: np.dtype[np.void]) -> Iterator[Rows]:
    at_once = max(1, BUCKET_BYTES // 8 // kind.itemsize)
    with path.open("rb") as file:
        while len(rows := np.fromfile(file, kind, at_once)):
            yield rows
