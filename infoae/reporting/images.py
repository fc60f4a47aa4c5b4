"""Progress in images: how many are read, classified, converted, compared. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infoae.reporting.bars import Bar


@contextmanager
def progress(verb: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more images are done; the `done` ones at the start cost no time.

    Shows images/s, and the time left where `total` is known.
    """
    with Bar(verb, "images", total, done) as bar:
        bar.show()
        yield bar.advance
