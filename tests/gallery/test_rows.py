"""Typical, doubtful and outlying pictures, compared with a slow computation of the same."""

from __future__ import annotations

import numpy as np

from infoae.gallery.rows import OF_PART, SHOWN, distances, parts, rows

CATEGORIES = 4


def answers(count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    categories = random.choice([0, 1, 3], count, p=[0.6, 0.38, 0.02])  # one is small, and nothing is in one
    return random.normal(size=(count, 5)).astype(np.float32), categories, random.random(count).astype(np.float32)


def test_distances_are_angles_from_the_mean_of_the_category() -> None:
    latents, categories, _ = answers()
    centre = latents.astype(float).mean(0)
    found = distances(latents, categories, CATEGORIES)
    for index, latent in enumerate(latents):
        mean = np.mean([z - centre for z, c in zip(latents, categories, strict=True) if c == categories[index]], axis=0)
        cosine = (latent - centre) @ mean / np.linalg.norm(latent - centre) / np.linalg.norm(mean)
        assert abs(found[index] - np.arccos(cosine) * 180 / np.pi) < 1e-2


def test_of_one_category_angles_are_from_its_own_mean() -> None:
    found = distances(np.array([[1, 0], [0, 1], [1, 1]], np.float32), np.array([2, 2, 2]), CATEGORIES)
    assert np.allclose(found, [45, 45, 0], atol=1e-3)


def test_rows_are_the_nearest_the_least_sure_and_the_furthest() -> None:
    latents, categories, margins = answers()
    distance = distances(latents, categories, CATEGORIES)
    found = rows(categories, margins, distance, CATEGORIES)
    assert [row.size for row in found] == [list(categories).count(category) for category in range(CATEGORIES)]
    for row in found[:2]:
        members = [index for index in range(len(latents)) if categories[index] == row.category]
        by_distance = sorted(members, key=lambda index: distance[index])
        assert row.typical == by_distance[:SHOWN]
        assert row.outliers == by_distance[::-1][:SHOWN]
        assert row.doubtful == sorted(members, key=lambda index: margins[index])[:SHOWN]
    assert found[2].typical == found[2].doubtful == found[2].outliers == []


def test_no_picture_of_a_small_category_is_typical_and_an_outlier() -> None:
    latents, categories, margins = answers()
    small = rows(categories, margins, distances(latents, categories, CATEGORIES), CATEGORIES)[3]
    assert 0 < small.size < 2 * SHOWN
    assert sorted(small.typical + small.outliers) == np.flatnonzero(categories == 3).tolist()
    assert len(small.typical) == -(-small.size // 2)


def test_parts_of_a_category_are_its_over_categories_the_largest_first() -> None:
    latents, over, _ = answers()
    category_of = np.array([1, 1, 1, 0])
    distance = distances(latents, over, len(category_of))
    found = parts(over, distance, category_of, 2)
    assert found[0] == []  # it is one part
    assert [(part.over, part.size) for part in found[1]] == [(0, list(over).count(0)), (1, list(over).count(1))]
    for part in found[1]:
        members = [index for index in range(len(latents)) if over[index] == part.over]
        assert part.typical == sorted(members, key=lambda index: distance[index])[:OF_PART]
