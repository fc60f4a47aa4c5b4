from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter, map_coordinates

from infoae.augment import augmented, blurred, draw_maps, warped
from infoae.config import Augment
from infoae.distributed.collectives import Share


@pytest.mark.parametrize("shape", [(7, 1, 28, 28), (3, 3, 9, 12)])
def test_an_affine_map_is_torchs_own(shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    x, maps = torch.rand(shape, generator=random), draw_maps(shape[0], Augment(degrees=90, shear=0.5), random)
    expected = F.grid_sample(x, F.affine_grid(maps, list(shape), align_corners=False), align_corners=False)
    torch.testing.assert_close(warped(x, maps), expected, rtol=0, atol=1e-5)
    assert (expected - x).abs().max() > 0.1


def test_nothing_is_changed_where_nothing_is_asked_for() -> None:
    x = torch.rand(5, 2, 9, 9)
    none = Augment(degrees=0, translate=0, scale=0, shear=0)
    torch.testing.assert_close(augmented(x, none, torch.Generator()), x, rtol=0, atol=1e-5)


def test_a_crop_shows_a_part_of_the_image_enlarged() -> None:
    """On an image whose two channels are a pixel's own coordinates, the output says what it was cut from."""
    ramp = torch.linspace(-1, 1, 33)
    image = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij")).expand(50, 2, 33, 33) * (32 / 33)
    only = Augment(degrees=0, translate=0, scale=0, shear=0, crop=0.4)
    cut = augmented(image, only, torch.Generator().manual_seed(0))[:, :, 1:-1, 1:-1]
    width = (cut[:, 1, 0, -1] - cut[:, 1, 0, 0]) / (2 * 30 / 33)
    assert 0.59 < width.min() < 0.65
    assert 0.95 < width.max() <= 1.01
    torch.testing.assert_close(width, (cut[:, 0, -1, 0] - cut[:, 0, 0, 0]) / (2 * 30 / 33), rtol=0, atol=1e-4)
    assert cut.abs().max() <= 1


def test_a_blur_is_scipys_mixed_in_by_a_random_part() -> None:
    random = np.random.default_rng(0)
    x = random.random((20, 1, 15, 15)).astype(np.float32)
    expected = np.stack([gaussian_filter(image, (0, 1.5, 1.5), mode="mirror", radius=5) for image in x])
    torch.testing.assert_close(blurred(torch.from_numpy(x), 1.5).numpy(), expected, rtol=0, atol=1e-5)
    only = Augment(degrees=0, translate=0, scale=0, shear=0, blur=1.5)
    found = augmented(torch.from_numpy(x), only, torch.Generator().manual_seed(0)).numpy()
    parts = ((found - x) * (expected - x)).sum((1, 2, 3)) / ((expected - x) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(found, x + parts[:, None, None, None] * (expected - x), atol=1e-4)
    assert 0 <= parts.min() < 0.2 < 0.8 < parts.max() <= 1


def test_an_elastic_image_takes_each_pixel_from_where_scipy_does() -> None:
    shape = (12, 17)
    random = np.random.default_rng(0)
    image = gaussian_filter(random.random(shape), 1.0)
    shifts = random.uniform(-2, 2, (2, 5, 5))  # right, down
    pixels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).astype(float)
    ends = tuple(np.linspace(0, size - 1, 5) for size in shape)
    right, down = (RegularGridInterpolator(ends, each)(pixels) for each in shifts)
    expected = map_coordinates(image, [pixels[..., 0] + down, pixels[..., 1] + right], order=1, mode="grid-constant")
    x, identity = torch.from_numpy(image).float()[None, None], torch.eye(2, 3)[None]
    found = warped(x, identity, torch.from_numpy(shifts).float()[None])
    np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


def test_elastic_shifts_are_each_images_own_and_as_large_as_asked_for() -> None:
    ramp = torch.arange(33) / 32
    image = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij")).expand(50, 2, 33, 33)
    only = Augment(degrees=0, translate=0, scale=0, shear=0, elastic=3)
    moved = (augmented(image, only, torch.Generator().manual_seed(0)) - image)[:, :, 4:-4, 4:-4] * 32
    assert moved.abs().max() <= 3 + 1e-4
    assert moved.amax((2, 3)).max() > 2
    assert moved.flatten(1).std(0).min() > 0.5


def test_ranks_together_draw_what_one_draws() -> None:
    x, strong = torch.rand(7, 1, 12, 12), Augment(crop=0.3, blur=1.0, elastic=2.0)
    whole = augmented(x, strong, torch.Generator().manual_seed(3))
    parts = [
        augmented(x[s.slice], strong, torch.Generator().manual_seed(3), s) for s in (Share(0, 3, 7), Share(3, 7, 7))
    ]
    torch.testing.assert_close(torch.cat(parts), whole)
