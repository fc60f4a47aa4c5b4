from __future__ import annotations

import colorsys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor
from torchvision.transforms.v2 import functional

from infoae.augment import augmented, blurred, draw_colours, draw_maps, recoloured, warped
from infoae.config import Augment
from infoae.config.augment import KINDS
from infoae.distributed.collectives import Share


def only(**changes: Any) -> Augment:
    """These changes and no other."""
    return Augment(kind="none", **changes)


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
    cut = augmented(image, only(crop=0.4), torch.Generator().manual_seed(0))[:, :, 1:-1, 1:-1]
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
    found = augmented(torch.from_numpy(x), only(blur=1.5), torch.Generator().manual_seed(0)).numpy()
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
    moved = (augmented(image, only(elastic=3), torch.Generator().manual_seed(0)) - image)[:, :, 4:-4, 4:-4] * 32
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


def seeded(x: Tensor, config: Augment, seed: int = 0) -> Tensor:
    return augmented(x, config, torch.Generator().manual_seed(seed))


def test_kind_none_gives_the_images_themselves() -> None:
    x = torch.rand(5, 3, 9, 9)
    assert torch.equal(augmented(x, Augment(kind="none"), torch.Generator()), x)


def test_strokes_draw_five_numbers_an_image_and_are_one_map() -> None:
    """So that runs of earlier versions are resumed, and trained again, to the bit."""
    x, random, again = torch.rand(6, 1, 12, 12), torch.Generator().manual_seed(5), torch.Generator().manual_seed(5)
    found = augmented(x, Augment(kind="strokes"), random)
    assert torch.equal(found, warped(x, draw_maps(6, Augment(), again)))
    torch.rand(6, 5, generator=again.manual_seed(5))
    assert torch.equal(random.get_state(), again.get_state())


@pytest.mark.parametrize("shape", [(40, 1, 8, 8), (40, 3, 9, 14)])
def test_a_flip_is_numpys_and_as_likely_as_asked_for(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_allclose(seeded(torch.from_numpy(x), only(flip=1)).numpy(), x[..., ::-1], atol=1e-5)
    some = seeded(torch.from_numpy(x), only(flip=0.25)).numpy()
    flipped = np.isclose(some, x[..., ::-1], atol=1e-5).all((1, 2, 3))
    assert np.isclose(some, x, atol=1e-5).all((1, 2, 3)).sum() == len(x) - flipped.sum()
    assert 4 <= flipped.sum() <= 16


def test_a_time_shift_moves_columns_alone_and_as_far_as_asked_for() -> None:
    rows = torch.arange(20)[:, None].expand(20, 20) / 20
    found = seeded(torch.stack([rows, rows.T]).expand(60, 2, 20, 20).contiguous(), only(time_shift=0.2))
    inside = found[:, :, :, 5:-5]
    torch.testing.assert_close(inside[:, 0], rows[:, 5:-5].expand(60, 20, 10), rtol=0, atol=1e-5)
    moved = (inside[:, 1] - rows.T[:, 5:-5]) * 20
    torch.testing.assert_close(moved, moved[:, :1, :1].expand_as(moved), rtol=0, atol=1e-4)
    assert -4 <= moved.min() < -3
    assert 3 < moved.max() <= 4


def test_a_mirror_outside_is_numpys_symmetric_padding() -> None:
    x = np.random.default_rng(0).random((1, 2, 10, 10), np.float32)
    shift = torch.tensor([[[1.0, 0, 2 * 3 / 10], [0, 1, -2 * 4 / 10]]])  # of the place that is looked at
    padded = np.pad(x, ((0, 0), (0, 0), (4, 4), (4, 4)), "symmetric")
    found = warped(torch.from_numpy(x), shift, outside="mirror").numpy()
    np.testing.assert_allclose(found, padded[:, :, 0:10, 7:17], atol=1e-5)


def test_textures_have_no_black_corners() -> None:
    x = torch.full((50, 3, 16, 16), 0.7)
    torch.testing.assert_close(seeded(x, Augment(kind="textures")), x, rtol=0, atol=1e-5)
    assert (seeded(x, Augment(kind="textures", outside="black")) < 0.1).any()


def test_objects_are_not_darker_at_the_edge() -> None:
    """A crop may touch the edge of the image, half a pixel beside its outermost centres."""
    x = torch.full((200, 1, 8, 8), 0.5)
    torch.testing.assert_close(seeded(x, only(crop=0.55, outside="mirror")), x, rtol=0, atol=1e-5)


COLOURS = torch.from_numpy(np.random.default_rng(1).random((1, 3, 6, 7), np.float32))
FACTORS = (0.0, 0.3, 1.0, 1.4)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize(
    ("place", "expected"),
    [(0, functional.adjust_brightness), (1, functional.adjust_contrast), (2, functional.adjust_saturation)],
)
def test_a_change_of_colours_is_torchvisions(place: int, expected: Callable[..., Tensor], factor: float) -> None:
    colours = torch.tensor([[1.0, 1, 1, 0]])
    colours[0, place] = factor
    torch.testing.assert_close(recoloured(COLOURS, colours), expected(COLOURS, factor), rtol=0, atol=1e-3)
    if place < 2:  # those that images of one channel have
        grey = COLOURS[:, :1]
        torch.testing.assert_close(recoloured(grey, colours), expected(grey, factor), rtol=0, atol=1e-5)


def test_images_that_are_not_rgb_have_no_hue_and_no_saturation() -> None:
    for channels in (1, 2, 4):
        x = torch.rand(3, channels, 5, 5)
        changed = seeded(x, only(saturation=1, hue=0.5, grey=1))
        torch.testing.assert_close(changed, x, rtol=0, atol=1e-6)


def test_grey_is_torchvisions() -> None:
    expected = functional.rgb_to_grayscale(COLOURS, num_output_channels=3)
    torch.testing.assert_close(seeded(COLOURS, only(grey=1)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("angle", [-0.6, 0.2, 3.1])
def test_a_hue_turns_the_plane_of_i_and_q(angle: float) -> None:
    """A complex number turned; the coefficients are those of colorsys, with two digits."""
    x = 0.4 + 0.2 * COLOURS[0].double().flatten(1).numpy().T  # so that nothing is clamped
    turned = recoloured(torch.from_numpy(x.T.reshape(1, 3, 6, 7)).float(), torch.tensor([[1.0, 1, 1, angle]]))
    for before, after in zip(x, turned[0].flatten(1).numpy().T.astype(float), strict=True):
        (y, i, q), (luma, *chroma) = colorsys.rgb_to_yiq(*before), colorsys.rgb_to_yiq(*after)
        expected = complex(i, q) * np.exp(1j * angle)
        np.testing.assert_allclose([luma, *chroma], [y, expected.real, expected.imag], atol=6e-3)


def test_changes_of_colours_together_are_each_after_the_other() -> None:
    x = 0.4 + 0.2 * COLOURS
    together = torch.tensor([[1.1, 0.7, 1.3, 0.4]])
    apart = x
    for place in (3, 1, 0, 2):
        colours = torch.tensor([[1.0, 1, 1, 0]])
        colours[0, place] = together[0, place]
        apart = recoloured(apart, colours)
    torch.testing.assert_close(recoloured(x, together), apart, rtol=0, atol=1e-5)


def test_colours_are_drawn_over_their_ranges_and_as_often_as_asked_for() -> None:
    config = only(colour=0.8, brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1, grey=0.25)
    drawn = draw_colours(4000, config, torch.Generator().manual_seed(0)).numpy()
    assert abs((drawn[:, 0] != 1).mean() - 0.8) < 0.03
    assert abs((drawn[:, 2] == 0).mean() - 0.25) < 0.03
    kept = drawn[drawn[:, 2] != 0] - [1, 1, 1, 0]
    ends = np.array([0.4, 0.3, 0.2, 0.2 * np.pi])
    assert (np.abs(kept) <= ends + 1e-6).all()
    np.testing.assert_allclose([kept.max(0), -kept.min(0)], [ends, ends], rtol=0.02)
    assert np.abs(np.corrcoef(drawn[(drawn[:, 2] != 0) & (drawn[:, 0] != 1)].T) - np.eye(4)).max() < 0.06


@given(
    rows=st.integers(1, 12), columns=st.integers(1, 12), seed=st.integers(0, 10**6),
    time=st.floats(0, 0.99), frequency=st.floats(0, 0.99),
)  # fmt: skip
def test_masks_blank_rows_and_columns_side_by_side(
    rows: int, columns: int, seed: int, time: float, frequency: float
) -> None:
    found = seeded(torch.ones(4, 2, rows, columns), only(time_mask=time, frequency_mask=frequency), seed).numpy()
    for image in found:
        whole_rows, whole_columns = (image == 0).all((0, 2)), (image == 0).all((0, 1))
        np.testing.assert_array_equal(image[0] == 0, whole_rows[:, None] | whole_columns)
        for blank, fraction in ((whole_rows, frequency), (whole_columns, time)):
            assert blank.sum() <= fraction * len(blank)
            assert np.abs(np.diff(np.pad(blank.astype(int), 1))).sum() in (0, 2)  # one beginning, one end


def test_masks_are_as_long_as_asked_for_and_anywhere() -> None:
    blank = (seeded(torch.ones(2000, 1, 10, 20), only(time_mask=0.2)) == 0)[:, 0].numpy()
    assert (blank == blank[:, :1]).all()  # of all frequencies
    lengths = blank[:, 0].sum(1)
    np.testing.assert_allclose(np.bincount(lengths) / 2000, np.full(5, 0.2), atol=0.03)
    assert blank[:, 0, 0].any()
    assert blank[:, 0, -1].any()


EVERYTHING = Augment(
    degrees=40, translate=0.2, scale=0.2, shear=0.2, crop=0.3, flip=0.5, time_shift=0.2, outside="mirror", blur=0.7,
    elastic=2.0, colour=0.8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, grey=0.2, time_mask=0.3,
    frequency_mask=0.3,
)  # fmt: skip


@pytest.mark.parametrize("config", [EVERYTHING, *(Augment(kind=kind) for kind in KINDS)])
@pytest.mark.parametrize("channels", [1, 3])
def test_of_every_kind_ranks_draw_what_one_draws_and_values_stay_values(config: Augment, channels: int) -> None:
    x = torch.rand(9, channels, 11, 11, generator=torch.Generator().manual_seed(1))
    whole = seeded(x, config, 3)
    assert torch.equal(whole, seeded(x, config, 3))
    assert torch.equal(whole, seeded(x, config, 4)) == (config.kind == "none")
    random = torch.Generator
    parts = [augmented(x[s.slice], config, random().manual_seed(3), s) for s in (Share(0, 4, 9), Share(4, 9, 9))]
    torch.testing.assert_close(torch.cat(parts), whole)
    assert -1e-6 <= whole.min() < whole.max() <= 1 + 1e-6
    assert whole.shape == x.shape
