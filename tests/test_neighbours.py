from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from infoae import neighbours
from infoae.data import ImageSet


def test_neighbours_are_those_of_a_brute_force_search(mnist: tuple[ImageSet, ImageSet]) -> None:
    """Few enough images that 50 components lose little; the nearest must agree nearly always."""
    images = mnist[0].images
    found = neighbours.nearest_neighbours(images, 3)
    blurred = np.stack(
        [gaussian_filter(image[0].astype(np.float64), 1.0, mode="mirror", truncate=3) for image in images]
    )
    points = blurred.reshape(len(images), -1)
    directions = np.linalg.svd(points, full_matrices=False)[2][: neighbours.COMPONENTS]
    points = points @ directions.T
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    cosine = points @ points.T
    np.fill_diagonal(cosine, -1)
    expected = (-cosine).argsort(1)[:, :3]
    assert found.shape == (300, 3)
    assert found.dtype == np.int32
    assert (found == expected).mean() > 0.99


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
