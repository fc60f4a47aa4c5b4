from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, gaussian_filter, sobel

from infoae.config import Augment, Neighbours, NeighbourSearch
from infoae.data import ImageSet
from infoae.pseudolabels import image_distortion, knn, neighbour_graph

ANGLE_ALONE = Augment(degrees=0, translate=0, scale=0, shear=0)


def components(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blurred images, the axes of their components, and unit vectors of these."""
    blurred = np.stack(
        [gaussian_filter(image[0].astype(np.float64), 1.0, mode="mirror", truncate=3) for image in images]
    )
    points = blurred.reshape(len(images), -1)
    axes = np.linalg.svd(points, full_matrices=False)[2][: neighbour_graph.COMPONENTS].T
    return blurred, axes, points @ axes / np.linalg.norm(points @ axes, axis=1, keepdims=True)


def nearest(
    images: NDArray[np.uint8],
    count: int,
    augment: Augment = Augment(),  # noqa: B008
    **rule: Any,
) -> NDArray[np.int32]:
    return neighbour_graph.nearest_neighbours(images, Neighbours(count=count, **rule), augment)


def test_without_augmentation_neighbours_are_those_of_a_brute_force_search(mnist: tuple[ImageSet, ImageSet]) -> None:
    """Few enough images that 50 components lose little; the nearest must agree nearly always."""
    images = mnist[0].images
    found = nearest(images, 3, augment=ANGLE_ALONE)
    points = components(images)[2]
    cosine = points @ points.T
    np.fill_diagonal(cosine, -1)
    expected = (-cosine).argsort(1)[:, :3]
    assert found.shape == (300, 3)
    assert found.dtype == np.int32
    assert (found == expected).mean() > 0.99


def test_neighbours_are_those_of_least_tangent_distance(mnist: tuple[ImageSet, ImageSet]) -> None:
    """Against a least-squares fit for every pair, of tangents that scipy's affine maps give."""
    images = mnist[0].images[:100]
    blurred, axes, points = components(images)
    half = 14.0
    moves = []
    for row in range(2):
        for column in range(3):
            change = np.zeros((2, 3))  # of (y, x) and a shift in half images, about the centre
            change[row, column] = 0.05
            moves.append(change)

    def warped(image: np.ndarray, change: np.ndarray) -> np.ndarray:
        linear = np.eye(2) + change[:, :2]
        centre = np.full(2, half - 0.5)
        return np.asarray(affine_transform(image, linear, centre - linear @ centre + change[:, 2] * half, order=1))

    distance = np.full((100, 100), np.inf)
    for i in range(100):
        tangents = [(warped(blurred[i], move) - warped(blurred[i], -move)).ravel() @ axes for move in moves]
        plane = np.stack([*tangents, points[i]], 1)
        left = points.T - plane @ np.linalg.lstsq(plane, points.T, rcond=None)[0]
        distance[i] = (left**2).sum(0)
    distance += distance.T
    np.fill_diagonal(distance, np.inf)
    found = nearest(images, 3)
    assert (found[:, :1] == distance.argsort(1)[:, :1]).mean() > 0.9
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found, distance.argsort(1)[:, :3], strict=True)]) > 2.7


def test_an_image_that_was_moved_a_little_is_still_near(mnist: tuple[ImageSet, ImageSet]) -> None:
    images = mnist[0].images[:150]
    both = np.concatenate([images, np.roll(images, (1, 1), (2, 3))])
    partner = np.roll(np.arange(300), 150)
    with_maps = (nearest(both, 1)[:, 0] == partner).mean()
    without = (nearest(both, 1, augment=ANGLE_ALONE)[:, 0] == partner).mean()
    assert with_maps > 0.7
    assert with_maps > 2 * without


def test_a_time_shift_varies_the_shift_along_the_width_alone() -> None:
    """Of a bump moved right, one moved down and a wider one, the wider is nearest where no shift is allowed for."""
    y, x = np.mgrid[:16, :16]

    def bump(row: float, column: float, width: float = 2.0) -> NDArray[np.uint8]:
        strength = 250 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))
        return np.asarray(strength.round(), np.uint8)

    images = np.stack([bump(8, 8), bump(8, 9.5), bump(9.5, 8), bump(8, 8, 2.6)])[:, None]
    assert nearest(images, 3, augment=Augment(kind="sound"))[0].tolist() == [1, 3, 2]
    assert nearest(images, 3, augment=Augment(kind="none", translate=0.1))[0, 2] == 3
    assert nearest(images, 3, augment=Augment(kind="none"))[0, 0] == 3


def distance_pixel_by_pixel(a: np.ndarray, b: np.ndarray, reach: int) -> float:
    """Of gradients (2, H, W): the sum over pixels of the least squared distance of 3 x 3 surroundings."""
    height, width = a.shape[1:]
    total = 0.0
    for y in range(height):
        for x in range(width):
            least = np.inf
            for down in range(-reach, reach + 1):
                for right in range(-reach, reach + 1):
                    apart = 0.0
                    for i in range(max(y - 1, 0), min(y + 2, height)):
                        for j in range(max(x - 1, 0), min(x + 2, width)):
                            inside = 0 <= i + down < height and 0 <= j + right < width
                            there = b[:, i + down, j + right] if inside else np.zeros(2)
                            apart += ((a[:, i, j] - there) ** 2).sum()
                    least = min(least, apart)
            total += least
    return total


EVERY = torch.ones(2, 3, dtype=torch.bool)


def distances(x: np.ndarray, varied: torch.Tensor, reach: int = 1) -> NDArray[np.float32]:
    """Distances of the first of the images (N, C, H, W) from the others."""
    images = torch.from_numpy(x).float()
    found = image_distortion.distances(images, torch.zeros(1).long(), torch.arange(1, len(x))[None], varied, reach)
    return np.asarray(found[0])


@pytest.mark.parametrize("reach", [1, 2])
def test_distortion_is_the_least_over_every_pixels_moves(reach: int) -> None:
    x = np.random.default_rng(reach).random((4, 9, 7))
    slopes = np.stack([[sobel(image, axis, mode="constant") for axis in (1, 0)] for image in x]) / 4
    found = image_distortion.gradients(torch.from_numpy(x[:, None]).float())
    np.testing.assert_allclose(found.abs().numpy(), np.abs(slopes), atol=1e-5)
    expected = [distance_pixel_by_pixel(slopes[0], other, reach) for other in slopes[1:]]
    np.testing.assert_allclose(distances(x[:, None], ~EVERY, reach), expected, rtol=1e-4)


def test_an_image_is_found_again_through_an_affine_map(
    mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """scipy's maps of a real image, in two channels; what is left after registration is what interpolating blurs."""
    monkeypatch.setattr(image_distortion, "ITERATIONS", 20)
    monkeypatch.setattr(image_distortion, "RIDGE", 1e-4)
    image = gaussian_filter(mnist[0].images[0, 0] / 255, 0.7)
    centre = np.full(2, 13.5)
    maps = [
        (np.array([[1.0, 0.15], [0.0, 1.0]]), np.zeros(2)),  # slant
        (np.array([[0.9, 0.0], [0.0, 1.1]]), np.zeros(2)),
        (np.array([[np.cos(0.2), np.sin(0.2)], [-np.sin(0.2), np.cos(0.2)]]), np.array([1.0, -0.5])),
        (np.eye(2), np.array([1.5, 1.0])),
    ]
    moved = [affine_transform(image, linear, centre - linear @ centre + shift, order=1) for linear, shift in maps]
    x = np.stack([image, *moved])[:, None].repeat(2, 1)
    registered, as_they_are = distances(x, EVERY, 0), distances(x, ~EVERY, 0)
    assert (registered < 0.1 * as_they_are).all()
    shifts = torch.tensor([[False, False, True]]).expand(2, 3)
    only_shifted = distances(x, shifts, 0)
    assert only_shifted[3] < 0.1 * as_they_are[3]
    assert (only_shifted[:3] > 2 * registered[:3]).all()  # a slant or a rotation is no shift


def test_blank_and_equal_images_have_distances() -> None:
    image = np.random.default_rng(0).random((1, 28, 28))
    assert distances(np.stack([image, image]), EVERY) < 1e-6
    assert distances(np.zeros((2, 1, 28, 28)), EVERY) == 0
    assert np.isfinite(distances(np.stack([np.zeros_like(image), image]), EVERY)).all()


def test_neighbours_by_distortion_are_the_least_distorted_of_the_thirty_nearest(
    mnist: tuple[ImageSet, ImageSet],
) -> None:
    images = mnist[0].images[:200]
    found = nearest(images, 3, distortion=1)
    candidates = nearest(images, neighbour_graph.DISTORTED)
    blurred = torch.from_numpy(gaussian_filter(images / 1.0, (0, 0, 0.7, 0.7), mode="mirror", truncate=5)).float()
    rows = torch.arange(0, 200, 20)
    apart = image_distortion.distances(blurred, rows, torch.from_numpy(candidates[rows]).long(), EVERY, 1)
    for row, nearest_first in zip(rows, apart.argsort(1)[:, :3].numpy(), strict=True):
        assert set(found[row]) == set(candidates[row][nearest_first])


def test_no_image_is_its_own_neighbour_across_blocks(
    mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nearest(mnist[0].images, 4)
    monkeypatch.setattr(knn, "ROWS", 37)
    blocks = nearest(mnist[0].images, 4)
    assert not (blocks == np.arange(300)[:, None]).any()
    assert (blocks == whole).mean() > 0.99


def test_neighbours_mostly_show_the_same_digit(mnist: tuple[ImageSet, ImageSet]) -> None:
    train = mnist[0]
    assert train.labels is not None
    found = nearest(train.images, 1)[:, 0]
    assert (train.labels[found] == train.labels).mean() > 0.75


def test_images_of_several_channels_and_without_blur(mnist: tuple[ImageSet, ImageSet]) -> None:
    images = np.concatenate([mnist[0].images[:100]] * 3, axis=1)
    assert (nearest(images, 1) == nearest(images[:, :1], 1)).mean() > 0.95
    assert nearest(images, 2, blur=0).shape == (100, 2)
    assert nearest(images, 2, distortion=1).shape == (100, 2)


def test_more_neighbours_than_images_are_refused(mnist: tuple[ImageSet, ImageSet]) -> None:
    with pytest.raises(ValueError, match="5 neighbours need as many other images, not 4"):
        nearest(mnist[0].images[:5], 5)


def test_candidates_are_searched_as_asked(mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch) -> None:
    searched = []

    def recording(directions: torch.Tensor, count: int, search: NeighbourSearch) -> Any:
        searched.append(search)
        return knn.closest(directions, count, search)

    monkeypatch.setattr(neighbour_graph, "closest", recording)
    for search in ("auto", "exact", "approximate"):
        nearest(mnist[0].images, 1, search=search)
    assert searched == ["auto", "exact", "approximate"]
