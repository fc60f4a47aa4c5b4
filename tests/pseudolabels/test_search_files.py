"""Files that the tasks of a search keep their results in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from infoae.config import Augment, Neighbours
from infoae.data import ImageSet
from infoae.pseudolabels.search_files import Search
from infoae.pseudolabels.search_vectors import Pixels


@pytest.mark.usefixtures("threads_take_turns")
def test_tasks_at_once_read_what_others_kept(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> None:
    np.save(tmp_path / "images.npy", mnist[0].images)
    search = Search.of(tmp_path, Pixels(tmp_path, Neighbours(), Augment()), 250)
    value = np.arange(12.0).reshape(3, 4)
    search.save("sums", 7, value)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(lambda _: search.load("sums", 7), range(300)):
            np.testing.assert_array_equal(found, value)
