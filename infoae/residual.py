"""Residual features for the encoder (He et al. 2016, the form for CIFAR), beside the strided ones of `networks`.

A stem of 3 x 3 convolutions halves the image to at most 16 pixels, where a block costs a quarter of what it does at 32.
Then come stages of basic blocks: the first keeps the size, each later one halves it and doubles the channels, until 4
pixels. The mean over what is left of the image, normalised, is the features. Every convolution is followed by batch
normalisation.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from infoae.config import Model
from infoae.convolutional import Features, features

STEM_SIZE = 16
"""Pixels of a side that the stem halves down to."""
SMALLEST = 4
"""The same of the stages."""


class BasicBlock(nn.Module):
    """Two convolutions beside a shortcut: (B, `inputs`, H, W) -> (B, `outputs`, H / stride, W / stride), rounded up.

    The shortcut is the input itself, or a 1 x 1 convolution of it where the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_normalised(inputs, outputs, 3, stride), nn.ReLU(inplace=True), *_normalised(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Sequential(*([] if same else _normalised(inputs, outputs, 1, stride)))

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, `outputs`, H / stride, W / stride) of x (B, `inputs`, H, W)."""
        return F.relu(self.body(x) + self.shortcut(x), inplace=True)


class ResidualFeatures(Features):
    """Images (B, C, H, W) -> features (B, `num_features`): stem, stages of `num_blocks` blocks, global average.

    Features have mean 0 and deviation 1, so that in the angle between two, and for the heads, all of them count alike.
    """

    def __init__(self, channels: int, image_size: int, width: int, num_blocks: int) -> None:
        strides, num_stages = stem_strides(image_size), number_of_stages(image_size)
        layers: list[nn.Module] = []
        before = channels
        for stride in strides:
            layers += [*_normalised(before, width, 3, stride), nn.ReLU(inplace=True)]
            before = width
        for stage in range(num_stages):
            for block in range(num_blocks):
                layers.append(BasicBlock(before, width * 2**stage, stride=2 if stage and not block else 1))
                before = width * 2**stage
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(before, affine=False))
        self.num_features = before
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def encoder_features(config: Model) -> Features:
    """Return what an encoder of the configured kind turns images into features with."""
    if config.encoder == "strided":
        return features(config)
    return ResidualFeatures(*config.image_shape(), config.width, config.encoder_blocks)


def stem_strides(image_size: int) -> tuple[int, ...]:
    """Strides of the stem's convolutions: 1 up to 16 pixels, else as many of 2 as lead down to them."""
    size, strides = image_size, list[int]()
    while size > STEM_SIZE:
        size, strides = -(-size // 2), [*strides, 2]
    return tuple(strides) or (1,)


def number_of_stages(image_size: int) -> int:
    """Return how many stages lead from an image's stem down to at most 4 pixels."""
    size, stages = image_size, 1
    for stride in stem_strides(image_size):
        size = -(-size // stride)
    while size > SMALLEST:
        size, stages = -(-size // 2), stages + 1
    return stages


def _normalised(inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride, padding=kernel_size // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]
