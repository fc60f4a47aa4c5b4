"""Near-duplicates: made ones are found among real digits, and the rule against a slow computation of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates, shift

from infoae.data import ImageSet
from infoae.sorting import duplicates

Images = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits(mnist: tuple[ImageSet, ImageSet]) -> Images:
    """300 real digits, 28 x 28."""
    return np.asarray(mnist[0].images[:300])[:, 0]


def thumbnail(picture: Images) -> Images:
    return np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.LANCZOS))


def noisy(picture: Images) -> Images:
    noise = np.random.default_rng(int(picture.sum())).normal(0, 6, picture.shape)
    return (picture + noise).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: np.roll(picture, 1, 0),
        lambda picture: np.roll(picture, (-1, 1), (0, 1)),
        lambda picture: picture[1:-1, 1:-1],
        noisy,
        lambda picture: (picture * 0.7).astype(np.uint8),
    ],
    ids=["down", "up and right", "cropped", "noise", "darker"],
)
def test_a_changed_copy_is_of_its_picture_and_nothing_else_is_a_copy(
    digits: Images, change: Callable[[Images], Images]
) -> None:
    pile = [*digits, *(change(digit) for digit in digits[:40])]
    first = duplicates.first_alike(np.stack([thumbnail(picture) for picture in pile]))
    assert (first[300:] == np.arange(40)).mean() >= 0.97
    assert (first[:300] >= 0).sum() <= 2


def test_what_is_unexplained_is_that_of_the_best_shift_or_zoom(digits: Images) -> None:
    pile = np.stack([thumbnail(digit) for digit in digits[:6]])
    one, others = pile[0].astype(float), pile[1:].astype(float)
    middle = np.linspace(3.5, 27.5, 13)

    def looked_at(picture: NDArray[np.float64], down: float = 0, right: float = 0, factor: float = 1) -> Any:
        blurred = gaussian_filter(picture, 1.25, mode="constant", truncate=8)
        weight = gaussian_filter(np.ones_like(picture), 1.25, mode="constant", truncate=8)  # less at the edge
        places = np.meshgrid(*(15.5 + factor * (middle - 15.5) + by for by in (down, right)), indexing="ij")
        return map_coordinates(blurred / weight, places, order=3, mode="nearest")

    pixel = 32 / 28
    changes = [(y, x, 1.0) for y in (-pixel, 0, pixel) for x in (-pixel, 0, pixel)]
    changes += [(0, 0, factor) for factor in (0.93, 0.965, 1.035, 1.075)]
    expected = [
        1 - max(np.corrcoef(looked_at(one, *change).ravel(), looked_at(other).ravel())[0, 1] for change in changes)
        for other in others
    ]
    found = duplicates.residuals(pile[:1], pile[None, 1:])[0]
    np.testing.assert_allclose(found, expected, atol=0.003)


def slow_first_alike(pile: Images) -> list[int]:
    """All compared with all, and the rule in words of its docstring."""
    residual = duplicates.residuals(pile, np.broadcast_to(pile, (len(pile), *pile.shape)))
    np.fill_diagonal(residual, np.inf)
    tenth = np.sort(residual, axis=1)[:, 9]
    alike = residual <= np.maximum(0.001, np.minimum(0.02, 0.1 * np.minimum(tenth[:, None], tenth)))
    first: list[int] = []
    for row in range(len(pile)):
        found = [other for other in range(row) if first[other] < 0 and (alike[row, other] or alike[other, row])]
        first.append(found[0] if found else -1)
    return first


def test_near_duplicates_are_those_of_comparing_all_with_all(digits: Images) -> None:
    rng = np.random.default_rng(0)
    pile = [thumbnail(digit) for digit in digits[:100]]
    pile += [thumbnail(shift(digits[row], rng.uniform(-1.5, 1.5, 2), order=1)) for row in rng.integers(0, 100, 80)]
    thumbnails = np.stack(pile)
    expected = slow_first_alike(thumbnails)
    assert 40 < sum(row >= 0 for row in expected) < 85
    found = duplicates.first_alike(thumbnails)
    assert np.mean(found == expected) > 0.98  # but for candidates that waves did not give
    assert all(found[row] < 0 for row in found[found >= 0])


def test_many_copies_are_of_the_first_and_only_pictures_asked_for_are_compared(digits: Images) -> None:
    pile = np.stack([thumbnail(digit) for digit in digits[:30]])
    copies = np.repeat(pile[:1], 40, axis=0)
    copies[:20, 0, 0] += 1 + np.arange(20, dtype=np.uint8)  # twenty kinds, so that the tenth nearest is a copy, too
    among = np.ones(70, bool)
    among[3] = False
    thumbnails = np.concatenate([pile, copies])
    thumbnails[9] = pile[3]
    first = duplicates.first_alike(thumbnails, among)
    assert (first[30:] == 0).all()
    assert first[9] == -1
    assert duplicates.first_alike(thumbnails)[9] == 3


def test_plain_pictures_are_alike_if_they_are_of_one_grey() -> None:
    greys = np.array([10, 200, 10, 11, 0], np.uint8)
    thumbnails = np.broadcast_to(greys[:, None, None], (5, 32, 32)).copy()
    assert duplicates.first_alike(thumbnails).tolist() == [-1, -1, 0, 0, -1]
    assert duplicates.first_alike(thumbnails[:0]).tolist() == []


def test_lists_find_what_comparing_all_finds(digits: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    pile = np.stack([thumbnail(np.roll(digit, 1, 0)) for digit in digits] + [thumbnail(digit) for digit in digits])
    wanted = duplicates.first_alike(pile)
    monkeypatch.setattr(duplicates, "MANY", 100)
    assert (duplicates.first_alike(pile) == wanted).mean() > 0.98
