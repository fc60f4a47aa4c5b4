"""The augmented twin of an image: a small random map, affine or elastic, crop and blur, drawn for each of a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae.config import Augment
from infoae.distributed.collectives import Share

ELASTIC_POINTS = 5  # to a side: shifts of strokes, not of single pixels


def augmented(x: Tensor, config: Augment, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """Change each image of x (B, C, H, W) by its own random draws; what enters from outside is black.

    With several ranks x are the images of `share`, and what is drawn is drawn for the whole batch.
    """
    share = Share(0, len(x), len(x)) if share is None else share
    maps = draw_maps(share.total, config, generator)[share.slice]
    shifts = None
    if config.elastic:
        unit = torch.rand(share.total, 2, ELASTIC_POINTS, ELASTIC_POINTS, generator=generator)[share.slice] * 2 - 1
        shifts = unit * config.elastic
    x = warped(x, maps, shifts)
    if not config.blur:
        return x
    part = torch.rand(share.total, generator=generator)[share.slice].to(x.device)
    return torch.lerp(x, blurred(x, config.blur), part[:, None, None, None])


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
    if not config.crop:
        return maps
    cut = config.crop * torch.rand(count, 1, generator=generator)
    centre = cut * (torch.rand(count, 2, generator=generator) * 2 - 1)
    linear, shift = maps[:, :, :2], maps[:, :, 2:]
    return torch.cat([linear * (1 - cut)[:, :, None], linear @ centre[:, :, None] + shift], 2)


def warped(x: Tensor, maps: Tensor, shifts: Tensor | None = None) -> Tensor:
    """Map each image of x (B, C, H, W) by its own of `maps` (B, 2, 3), affine on [-1, 1].

    `shifts` (B, 2, P, P) move each place further, by pixels right and down, given at P x P points from corner to corner
    and interpolated linearly between them.
    """
    height, width = x.shape[2:]
    rows, columns = _centres(height, x.device)[:, None], _centres(width, x.device)
    points = torch.stack(torch.broadcast_tensors(columns, rows, torch.ones_like(rows))).flatten(1)
    # As F.affine_grid, in one product for all images and not one each: a quarter of the time on a CPU.
    grid = (maps.to(x.device).flatten(0, 1) @ points).view(-1, 2, height, width)
    if shifts is not None:
        pixels = torch.tensor([2 / width, 2 / height], device=x.device)[:, None, None]
        grid = grid + F.interpolate(shifts.to(x.device), (height, width), mode="bilinear", align_corners=True) * pixels
    return F.grid_sample(x, grid.permute(0, 2, 3, 1), align_corners=False)


def _centres(size: int, device: torch.device) -> Tensor:
    """Centres of `size` pixels on [-1, 1]."""
    return (torch.arange(size, device=device) * 2 + 1) / size - 1
