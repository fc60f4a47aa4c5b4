"""The convolutions next to the image, which has few channels: torch's, with gradients that CPUs compute fast.

A convolution of kernel 4, stride 2 and padding 1 is one of kernel 2 and stride 1 on the four phases of the padded
image, its even and odd rows and columns as channels: the same products, summed. oneDNN is slow at the former where
channels are few, most of all at the gradient of the image. Only training on a CPU takes that way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL, STRIDE, PADDING = 4, 2, 1


class PhaseConv2d(nn.Conv2d):
    """Images (B, C, H, W) -> features (B, `channels`, H // 2, W // 2)."""

    def __init__(self, image_channels: int, channels: int) -> None:
        super().__init__(image_channels, channels, KERNEL, STRIDE, PADDING)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, `channels`, H // 2, W // 2) of images x (B, C, H, W)."""
        if not (self.training and x.device.type == "cpu"):
            return super().forward(x)
        height, width = x.shape[2:]
        padded = F.pad(x, (PADDING, PADDING - width % 2, PADDING, PADDING - height % 2))
        return F.conv2d(_phases(padded), _phases(self.weight), self.bias)


class PhaseConvTranspose2d(nn.ConvTranspose2d):
    """Features (B, `channels`, H, W) -> images (B, C, 2 H + `odd`, 2 W + `odd`), `odd` 0 or 1."""

    def __init__(self, channels: int, image_channels: int, odd: int) -> None:
        super().__init__(channels, image_channels, KERNEL, STRIDE, PADDING, output_padding=odd)
        self.odd = odd

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return images (B, C, 2 H + `odd`, 2 W + `odd`) of features x (B, `channels`, H, W)."""
        if output_size is not None or not (self.training and x.device.type == "cpu"):
            return super().forward(x, output_size)
        image = F.pixel_shuffle(F.conv_transpose2d(x, _phases(self.weight)), STRIDE)
        height, width = (slice(PADDING, PADDING + STRIDE * size + self.odd) for size in x.shape[2:])
        assert self.bias is not None
        return image[:, :, height, width] + self.bias[:, None, None]


def _phases(x: Tensor) -> Tensor:
    return F.pixel_unshuffle(x, STRIDE).contiguous(memory_format=torch.channels_last)
