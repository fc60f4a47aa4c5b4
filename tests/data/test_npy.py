"""Headers of arrays are read by many threads at once, as shards of an object store are."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from infoae.data import npy


@pytest.mark.usefixtures("threads_take_turns")
def test_headers_are_read_by_many_threads_at_once() -> None:
    file = io.BytesIO()
    np.save(file, np.zeros((3, 1, 28, 28), np.uint8))
    content = file.getvalue()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: npy.header(io.BytesIO(content), "images.npy", len(content)), range(300)))
    assert set(found) == {npy.Header((3, 1, 28, 28), "C", np.dtype(np.uint8), len(content) - 3 * 28 * 28)}
