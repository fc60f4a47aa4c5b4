"""The augmented twin of an image: a random map, blur, colours and masks, drawn for each of a batch."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae.config import Augment
from infoae.distributed.collectives import Share

ELASTIC_POINTS = 5  # to a side: shifts of strokes, not of single pixels
MOVING = {"degrees", "translate", "scale", "shear", "crop", "flip", "time_shift", "elastic"}
COLOURING = {"brightness", "contrast", "saturation", "hue", "grey"}

# RGB -> YIQ of the NTSC standard (FCC 1953): luma, which is the grey, and a plane of hue and saturation.
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
GREY, QUARTER_TURN = (
    torch.linalg.solve(YIQ, torch.tensor(change) @ YIQ)
    for change in ([[1.0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
)
"""What these changes of YIQ are of RGB (3, 3): to keep the luma alone, and to turn hues by 90 degrees without it."""


def augmented(x: Tensor, config: Augment, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """Change each image of x (B, C, H, W), in [0, 1], by its own random draws.

    With several ranks x are the images of `share`, and what is drawn is drawn for the whole batch.
    """
    share = Share(0, len(x), len(x)) if share is None else share
    asked = {name for name, value in config if value}
    maps = draw_maps(share.total, config, generator)[share.slice]
    shifts = None
    if config.elastic:
        unit = torch.rand(share.total, 2, ELASTIC_POINTS, ELASTIC_POINTS, generator=generator)[share.slice] * 2 - 1
        shifts = unit * config.elastic
    if asked & MOVING:
        x = warped(x, maps, shifts, config.outside)
    if config.blur:
        part = torch.rand(share.total, generator=generator)[share.slice].to(x.device)
        x = torch.lerp(x, blurred(x, config.blur), part[:, None, None, None])
    if asked & COLOURING:
        x = recoloured(x, draw_colours(share.total, config, generator)[share.slice])
    if config.time_mask or config.frequency_mask:
        unit = torch.rand(share.total, 2, 2, generator=generator)[share.slice]
        x = blanked(x, unit, (config.frequency_mask, config.time_mask))
    return x


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Blur x (B, C, H, W) by a Gaussian of `sigma` pixels, cut off at three of them."""
    from torchvision.transforms.v2.functional import gaussian_blur

    reach = min(math.ceil(3 * sigma), min(x.shape[2:]) - 1)  # it mirrors at the edge, which needs so many pixels
    result: Tensor = gaussian_blur(x, [2 * reach + 1, 2 * reach + 1], [sigma, sigma])
    return result


def draw_maps(count: int, config: Augment, generator: torch.Generator) -> Tensor:
    """Draw affine maps (count, 2, 3) on the CPU, so that the same are drawn whatever device the images are on.

    torchvision's RandomAffine draws one map for a whole batch, so the maps are built here.
    """
    unit = torch.rand(count, 5, generator=generator) * 2 - 1
    angle = unit[:, 0] * math.radians(config.degrees)
    zoom = 1 + unit[:, 1] * config.scale
    shear = unit[:, 2] * config.shear
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # affine_grid maps output to input coordinates, which span [-1, 1]: a shift of a whole side is 2.
    rows = [
        torch.stack([cos, -sin + shear, unit[:, 3] * 2 * config.translate], 1),
        torch.stack([sin, cos, unit[:, 4] * 2 * config.translate], 1),
    ]
    maps = torch.stack(rows, 1)
    if config.crop:
        cut = config.crop * torch.rand(count, 1, generator=generator)
        centre = cut * (torch.rand(count, 2, generator=generator) * 2 - 1)
        linear, shift = maps[:, :, :2], maps[:, :, 2:]
        maps = torch.cat([linear * (1 - cut)[:, :, None], linear @ centre[:, :, None] + shift], 2)
    if config.flip:
        maps[torch.rand(count, generator=generator) < config.flip, :, 0] *= -1
    if config.time_shift:
        maps[:, 0, 2] += (torch.rand(count, generator=generator) * 2 - 1) * 2 * config.time_shift
    return maps


def warped(
    x: Tensor, maps: Tensor, shifts: Tensor | None = None, outside: Literal["black", "mirror"] = "black"
) -> Tensor:
    """Map each image of x (B, C, H, W) by its own of `maps` (B, 2, 3), affine on [-1, 1].

    `shifts` (B, 2, P, P) move each place further, by pixels right and down, given at P x P points from corner to corner
    and interpolated linearly between them. `outside` is what enters over the edge.
    """
    height, width = x.shape[2:]
    rows, columns = _centres(height, x.device)[:, None], _centres(width, x.device)
    points = torch.stack(torch.broadcast_tensors(columns, rows, torch.ones_like(rows))).flatten(1)
    # As F.affine_grid, in one product for all images and not one each: a quarter of the time on a CPU.
    grid = (maps.to(x.device).flatten(0, 1) @ points).view(-1, 2, height, width)
    if shifts is not None:
        pixels = torch.tensor([2 / width, 2 / height], device=x.device)[:, None, None]
        grid = grid + F.interpolate(shifts.to(x.device), (height, width), mode="bilinear", align_corners=True) * pixels
    padding = "zeros" if outside == "black" else "reflection"
    return F.grid_sample(x, grid.permute(0, 2, 3, 1), padding_mode=padding, align_corners=False)


def _centres(size: int, device: torch.device) -> Tensor:
    """Centres of `size` pixels on [-1, 1]."""
    return (torch.arange(size, device=device) * 2 + 1) / size - 1


def draw_colours(count: int, config: Augment, generator: torch.Generator) -> Tensor:
    """Draw factors of brightness, contrast and saturation, and an angle of hue in radians: (count, 4), on the CPU."""
    unit = torch.rand(count, 6, generator=generator)
    ranges = torch.tensor([config.brightness, config.contrast, config.saturation, 2 * math.pi * config.hue])
    colours = (unit[:, :4] * 2 - 1) * ranges * (unit[:, 4:5] < config.colour) + torch.tensor([1.0, 1, 1, 0])
    colours[unit[:, 5] < config.grey, 2] = 0
    return colours


def recoloured(x: Tensor, colours: Tensor) -> Tensor:
    """Change the colours of each image of x (B, C, H, W) by its own of `colours` (B, 4), as `draw_colours` draws them.

    They are changed as by torchvision's ColorJitter, but for hues, which turn in YIQ, not in HSV. There brightness and
    contrast scale the luma, saturation and hue its complement. So these maps commute, and are one affine map of RGB;
    values are clamped to [0, 1] once, after it. Images that are not RGB have neither saturation nor hue.
    """
    channels = x.shape[1]
    brightness, contrast, saturation, hue = colours.to(x.device)[:, :, None, None].unbind(1)
    matrix = torch.eye(channels, device=x.device)
    mean = x.mean((1, 2, 3))[:, None, None]
    if channels == 3:
        grey, quarter_turn = GREY.to(x.device), QUARTER_TURN.to(x.device)
        matrix = grey + saturation * (torch.cos(hue) * (matrix - grey) + torch.sin(hue) * quarter_turn)
        mean = (x.mean((2, 3)) @ grey[0])[:, None, None]
    changed = torch.baddbmm(brightness * (1 - contrast) * mean, brightness * contrast * matrix, x.flatten(2))
    return changed.clamp_(0, 1).view(x.shape)


def blanked(x: Tensor, unit: Tensor, fractions: tuple[float, float]) -> Tensor:
    """Blank rows and columns, side by side, of each image of x (B, C, H, W) (SpecAugment: Park et al. 2019).

    At most the `fractions` of height and width are; how many, and where, follows from `unit` (B, 2, 2), uniform on
    [0, 1): for rows and for columns.
    """
    rows, columns = (
        _span(size, fraction, drawn).to(x.device)
        for size, fraction, drawn in zip(x.shape[2:], fractions, unit.unbind(1), strict=True)
    )
    return x.masked_fill((rows[:, :, None] | columns[:, None, :])[:, None], 0)


def _span(size: int, fraction: float, unit: Tensor) -> Tensor:
    """Return which of `size` places (B, size) are in the span that `unit` (B, 2) draws: its length, then its start."""
    length = (unit[:, :1] * (int(fraction * size) + 1)).floor()
    start = (unit[:, 1:] * (size - length + 1)).floor()
    place = torch.arange(size)
    return (start <= place) & (place < start + length)
