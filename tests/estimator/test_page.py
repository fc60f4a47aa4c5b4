"""What a notebook shows."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from infoae.config import Config
from infoae.estimator import page
from infoae.methods.registry import method_of
from tests.estimator.settings import on_rows


def surest(config: Config) -> page.Surest:
    torch.manual_seed(0)
    return page.Surest(method_of(config).build(config))


def test_the_surest_pictures_of_each_category_are_kept_whatever_the_blocks(tiny_config: Config) -> None:
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (90, 1, 28, 28), np.uint8)
    probabilities = random.dirichlet(np.ones(3), 90).astype(np.float32)
    found = surest(tiny_config)
    for start in range(0, 90, 25):
        found.add(pictures[start : start + 25], probabilities[start : start + 25])
    kept, of = found.examples()
    for category in range(3):
        mine = [row for row in range(90) if probabilities[row].argmax() == category]
        best = sorted(mine, key=lambda row: -probabilities[row].max())[: page.EACH]
        np.testing.assert_array_equal(kept[of == category], pictures[best])


def test_categories_are_shown_with_size_name_and_pictures_escaped() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 8, 8), np.uint8)
    shown = page.categories(
        np.array([0, 0, 1, -1]), ['<script>"x"</script>', None], pictures, np.array([0, 1, 1], np.int64)
    )
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    rows = re.findall(r"<tr><td>(\d)</td><td>([^<]*)</td><td>(\d*)</td><td>(.*?)</td></tr>", shown)
    assert [(row[0], row[2]) for row in rows] == [("0", "2"), ("1", "1")]
    assert rows[1][1] == "category 1"
    drawn = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(content)))).transpose(2, 0, 1)
        for row in rows
        for content in re.findall(r"data:image/png;base64,([^\"]+)", row[3])
    ]
    np.testing.assert_array_equal(drawn, pictures)
    assert re.findall(r'(?:src|href)="(?!data:)', shown) == []


@pytest.mark.parametrize("count", [1, 60])
def test_many_categories_are_not_all_shown(count: int) -> None:
    shown = page.categories(None, [None] * count, np.empty((0, 1, 8, 8), np.uint8), np.empty(0, np.int64))
    assert shown.count("<tr><td>") == min(count, page.CATEGORIES)
    assert ("and 10 more categories" in shown) == (count == 60)
    assert re.findall("<th>(.*?)</th>", shown) == ["", "category"]  # of a run that was loaded nothing else is known


def test_an_unfitted_estimator_shows_its_parameters_alone() -> None:
    assert "infoae-categories" not in on_rows()._repr_mimebundle_()["text/html"]
