"""Headers of arrays are read by many threads at once, as shards of an object store are."""

from __future__ import annotations

import gc
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from infoae.data import npy


@pytest.fixture
def _threads_take_turns() -> Iterator[None]:
    """Another thread goes on whenever garbage is collected, which is soon."""
    thresholds = gc.get_threshold()

    def give_way(*_: object) -> None:
        time.sleep(0)

    gc.callbacks.append(give_way)
    gc.set_threshold(20)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(give_way)


@pytest.mark.usefixtures("_threads_take_turns")
def test_headers_are_read_by_many_threads_at_once() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((3, 1, 28, 28), np.uint8))
    content = file.getvalue()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: npy.header(io.BytesIO(content), "images.npy", len(content)), range(300)))
    assert set(found) == {npy.Header((3, 1, 28, 28), "C", np.dtype(np.uint8), len(content) - 3 * 28 * 28)}
