"""The augmented twin of an image: a small random affine map, drawn for each image of a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae.config import Augment


def random_affine(x: Tensor, config: Augment, generator: torch.Generator) -> Tensor:
    """Map each image of x (B, C, H, W) by its own random rotation, shear, zoom and shift; what enters is black.

    torchvision's RandomAffine draws one map for a whole batch, so the maps are built here. `generator` is a CPU one:
    the same numbers are drawn whatever device x is on.
    """
    unit = torch.rand(len(x), 5, generator=generator) * 2 - 1
    angle = unit[:, 0] * math.radians(config.degrees)
    zoom = 1 + unit[:, 1] * config.scale
    shear = unit[:, 2] * config.shear
    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    # affine_grid maps output to input coordinates, which span [-1, 1]: a shift of a whole side is 2.
    rows = [
        torch.stack([cos, -sin + shear, unit[:, 3] * 2 * config.translate], 1),
        torch.stack([sin, cos, unit[:, 4] * 2 * config.translate], 1),
    ]
    theta = torch.stack(rows, 1).to(x.device)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
