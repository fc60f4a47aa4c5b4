"""What turns images into features: strided convolutions, for encoders and critics.

They halve the image by stride, without max-pooling. Architecture `dcgan` goes down to at most 4 pixels, as Radford et
al. (2015) do; `infogan` to at most 8, followed by a fully connected layer, as in Chen et al. (2016, appendix C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from infoae.config import Model, Norm
from infoae.patches import PatchConv2d
from infoae.polyphase import PhaseConv2d


def stage_sizes(image_size: int, smallest: int = 4) -> list[int]:
    """Side lengths from the image down to at most `smallest`, each half of the one before: 28 -> [28, 14, 7, 3]."""
    sizes = [image_size]
    while len(sizes) == 1 or sizes[-1] > smallest:
        sizes.append(sizes[-1] // 2)
    return sizes


def stage_channels(width: int, num_stages: int) -> list[int]:
    """Channels after each halving: `width`, doubling, at most 8 times `width`."""
    return [width * min(2**stage, 8) for stage in range(num_stages)]


class Features(nn.Sequential):
    """Images (B, C, H, W) -> features (B, `num_features`)."""

    num_features: int

    @property
    def normalises(self) -> bool:
        """Whether what it makes of an image in training depends on the others of the batch."""
        return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.modules())

    def of_several(self, images: Sequence[Tensor]) -> Tensor:
        """Return the features of several batches as of one.

        The first layer, which mixes no images, sees them apart: only those that were generated need a gradient there.
        """
        first, *others = self
        x = torch.cat([first(each) for each in images])
        for layer in others:
            x = layer(x)
        return x


class Flatten(nn.Flatten):
    """Features (B, C, H, W) -> (B, C H W), whose gradient lies in memory as the features do."""

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) as (B, C H W)."""
        return super().forward(_AsItLies.apply(x) if self.training and x.device.type == "cpu" else x)


class _AsItLies(torch.autograd.Function):
    """Nothing forward; backward the gradient is brought to channels_last: next to x, two layouts cost ten times."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:  # noqa: ARG004
        return gradients[0].contiguous(memory_format=torch.channels_last)


class ConvFeatures(Features):
    """Architecture `dcgan`: strided convolutions."""

    def __init__(self, channels: int, image_size: int, width: int, norm: Norm = "batch") -> None:
        sizes = stage_sizes(image_size)
        super().__init__(*_convolutions(channels, stage_channels(width, len(sizes) - 1), norm, 0.2), Flatten())
        self.num_features = stage_channels(width, len(sizes) - 1)[-1] * sizes[-1] ** 2


class FullyConnectedFeatures(Features):
    """Architecture `infogan`: strided convolutions, then a fully connected layer."""

    def __init__(self, channels: int, image_size: int, width: int, num_features: int, norm: Norm = "batch") -> None:
        sizes = stage_sizes(image_size, 8)
        widths = stage_channels(width, len(sizes) - 1)
        linear = nn.Linear(widths[-1] * sizes[-1] ** 2, num_features, bias=norm != "batch")
        super().__init__(
            *_convolutions(channels, widths, norm, 0.1),
            Flatten(),
            with_spectral_norm(linear) if norm == "spectral" else linear,
            *([nn.BatchNorm1d(num_features)] if norm == "batch" else []),
            nn.LeakyReLU(0.1, inplace=True),
        )
        self.num_features = num_features


def features(config: Model, norm: Norm = "batch") -> Features:
    """Return what turns images into features in the configured architecture."""
    if config.architecture == "dcgan":
        return ConvFeatures(*config.image_shape(), config.width, norm)
    return FullyConnectedFeatures(*config.image_shape(), config.width, config.feature_dim, norm)


def _convolutions(channels: int, widths: Sequence[int], norm: Norm, slope: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    before = channels
    for stage, after in enumerate(widths):
        normalised = norm == "batch" and stage > 0
        conv = PatchConv2d(before, after, bias=not normalised) if stage else PhaseConv2d(before, after)
        layers.append(with_spectral_norm(conv) if norm == "spectral" else conv)
        if normalised:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.LeakyReLU(slope, inplace=True))
        before = after
    return layers


def with_spectral_norm(layer: nn.Module) -> nn.Module:
    """Return the layer, its weight divided by its spectral norm."""
    return nn.utils.parametrizations.spectral_norm(layer)
