"""The image distortion model: how far an image is from another whose pixels may each have moved a little.

Keysers, Deselaers, Gollan and Ney 2007, "Deformation models for image recognition".
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SOBEL = torch.tensor([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]) / 4


def gradients(x: Tensor) -> Tensor:
    """Return the derivatives across and down of images (N, C, H, W), by Sobel's filter: (N, 2C, H, W)."""
    kernels = torch.stack([SOBEL, SOBEL.T])[:, None].repeat(x.shape[1], 1, 1, 1)
    return F.conv2d(x, kernels, padding=1, groups=x.shape[1])


def distances(image: Tensor, others: Tensor, reach: int) -> Tensor:
    """Return the squared distance (S,) of `image` (C, H, W) from each of `others` (S, C, H, W), all of them gradients.

    Each pixel of `image`, with the 3 x 3 around it, is compared with that pixel of the other, within `reach` pixels
    across and down, that is most like it.
    """
    height, width = image.shape[-2:]
    padded = F.pad(others, [reach] * 4)
    least: Tensor | None = None
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            there = padded[:, :, down : down + height, right : right + width]
            apart = (image - there).square_().sum(1, keepdim=True)
            apart = F.avg_pool2d(apart, 3, stride=1, padding=1)
            least = apart if least is None else torch.minimum(least, apart, out=least)
    assert least is not None
    return 9 * least.sum((1, 2, 3))
