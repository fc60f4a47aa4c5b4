"""Neighbours, places on the map, and from which level of zoom a picture shows."""

from __future__ import annotations

import numpy as np
import pytest

from infoae.gallery import layout


def clusters(count: int, width: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Latents of three kinds far apart, and the kind of each."""
    random = np.random.default_rng(0)
    kinds = random.integers(0, 3, count)
    return (random.normal(size=(count, width)) + 20 * np.eye(3, width)[kinds]).astype(np.float32), kinds


def test_neighbours_are_those_of_the_smallest_angle() -> None:
    latents, _ = clusters(50)
    found = layout.neighbours(latents)
    centred = latents - latents.mean(0)
    for index in range(len(latents)):
        cosines = [
            -2.0 if other == index else float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
            for other, (a, b) in enumerate((centred[index], other) for other in centred)
        ]
        assert found[index].tolist() == np.argsort(cosines)[::-1][: layout.NEIGHBOURS].tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_pictures_have_places_and_what_neighbours_there_are(count: int) -> None:
    latents, _ = clusters(count)
    places = layout.places(latents)
    assert places.shape == (count, 2)
    assert np.isfinite(places).all()
    assert places.min() >= 0
    assert places.max() <= 1
    assert layout.neighbours(latents).shape == (count, min(layout.NEIGHBOURS, count - 1))


def test_pictures_that_are_all_alike_have_places() -> None:
    assert np.isfinite(layout.places(np.ones((20, 4), np.float32))).all()


def test_like_latents_lie_together_in_the_sample_and_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LANDMARKS", 90)
    latents, kinds = clusters(300)
    places = layout.places(latents)
    assert np.array_equal(places, layout.places(latents))
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (kinds[apart.argmin(1)] == kinds).mean() > 0.99
    assert places.min() >= 0
    assert places.max() <= 1


def test_each_level_shows_the_most_prominent_of_each_cell() -> None:
    random = np.random.default_rng(0)
    places, prominence = random.random((300, 2)).astype(np.float32) ** 2, random.random(300)
    levels = layout.levels(places, prominence)
    for level in (0, 1, 3):
        count = layout.CELLS * 2**level
        best: dict[tuple[int, int], int] = {}
        for index in range(300):
            cell = int(places[index, 0] * count), int(places[index, 1] * count)
            if cell not in best or prominence[index] < prominence[best[cell]]:
                best[cell] = index
        assert set(np.flatnonzero(levels <= level)) == set(best.values())
    assert (levels < layout.LEVELS).all()
    hidden = layout.levels(np.full((3, 2), 0.3, np.float32), np.array([2.0, 1.0, 3.0]))
    assert hidden.tolist() == [layout.LEVELS, 0, layout.LEVELS]


def test_thumbnails_are_laid_out_as_they_are_shown() -> None:
    random = np.random.default_rng(0)
    places = random.random((500, 2)).astype(np.float32)
    levels = layout.levels(places, random.random(500))
    order = layout.reading_order([7, 3], levels, places)
    assert sorted(order) == list(range(500))
    assert order[:2].tolist() == [7, 3]
    assert (np.diff(levels[order[2:]]) >= 0).all()
    finest = order[2:][levels[order[2:]] == levels.max()]
    steps = np.linalg.norm(np.diff(places[finest], axis=0), axis=1).mean() if len(finest) > 9 else 0
    assert steps < 0.4  # of any order: 0.52
