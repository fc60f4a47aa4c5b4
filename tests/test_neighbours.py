from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import affine_transform, gaussian_filter

from infoae import neighbours
from infoae.config import Augment
from infoae.data import ImageSet

ANGLE_ALONE = Augment(degrees=0, translate=0, scale=0, shear=0)


def components(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blurred images, the axes of their components, and unit vectors of these."""
    blurred = np.stack(
        [gaussian_filter(image[0].astype(np.float64), 1.0, mode="mirror", truncate=3) for image in images]
    )
    points = blurred.reshape(len(images), -1)
    axes = np.linalg.svd(points, full_matrices=False)[2][: neighbours.COMPONENTS].T
    return blurred, axes, points @ axes / np.linalg.norm(points @ axes, axis=1, keepdims=True)


def test_without_augmentation_neighbours_are_those_of_a_brute_force_search(mnist: tuple[ImageSet, ImageSet]) -> None:
    """Few enough images that 50 components lose little; the nearest must agree nearly always."""
    images = mnist[0].images
    found = neighbours.nearest_neighbours(images, 3, augment=ANGLE_ALONE)
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
    found = neighbours.nearest_neighbours(images, 3)
    assert (found[:, :1] == distance.argsort(1)[:, :1]).mean() > 0.9
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found, distance.argsort(1)[:, :3], strict=True)]) > 2.7


def test_an_image_that_was_moved_a_little_is_still_near(mnist: tuple[ImageSet, ImageSet]) -> None:
    images = mnist[0].images[:150]
    both = np.concatenate([images, np.roll(images, (1, 1), (2, 3))])
    partner = np.roll(np.arange(300), 150)
    with_maps = (neighbours.nearest_neighbours(both, 1)[:, 0] == partner).mean()
    without = (neighbours.nearest_neighbours(both, 1, augment=ANGLE_ALONE)[:, 0] == partner).mean()
    assert with_maps > 0.7
    assert with_maps > 2 * without


def test_no_image_is_its_own_neighbour_across_blocks(
    mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = neighbours.nearest_neighbours(mnist[0].images, 4)
    monkeypatch.setattr(neighbours, "ROWS", 37)
    blocks = neighbours.nearest_neighbours(mnist[0].images, 4)
    assert not (blocks == np.arange(300)[:, None]).any()
    assert (blocks == whole).mean() > 0.99


def test_neighbours_mostly_show_the_same_digit(mnist: tuple[ImageSet, ImageSet]) -> None:
    train = mnist[0]
    assert train.labels is not None
    found = neighbours.nearest_neighbours(train.images, 1)[:, 0]
    assert (train.labels[found] == train.labels).mean() > 0.75


def test_images_of_several_channels_and_without_blur(mnist: tuple[ImageSet, ImageSet]) -> None:
    images = np.concatenate([mnist[0].images[:100]] * 3, axis=1)
    assert (neighbours.nearest_neighbours(images, 1) == neighbours.nearest_neighbours(images[:, :1], 1)).mean() > 0.95
    assert neighbours.nearest_neighbours(images, 2, blur=0).shape == (100, 2)


def test_more_neighbours_than_images_are_refused(mnist: tuple[ImageSet, ImageSet]) -> None:
    with pytest.raises(ValueError, match="more than 5 images, not 5"):
        neighbours.nearest_neighbours(mnist[0].images[:5], 5)
