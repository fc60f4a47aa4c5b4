"""The six networks of InfoAE as plain modules (paper section 2 and 3).

Convolutions halve the image by stride, without max-pooling; batch normalisation everywhere except in each network's
first and last layer (paper section 3). The paper states no sizes: kernel 4, stride 2 and channels that double at
every halving follow DCGAN (Radford et al. 2015), as do the activations.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from infoae.config import Norm
from infoae.polyphase import PhaseConv2d, PhaseConvTranspose2d


def stage_sizes(image_size: int) -> list[int]:
    """Side lengths from the image down to at most 4 pixels, each half of the one before: 28 -> [28, 14, 7, 3]."""
    sizes = [image_size]
    while sizes[-1] > 4:
        sizes.append(sizes[-1] // 2)
    return sizes


def stage_channels(width: int, num_stages: int) -> list[int]:
    """Channels after each halving: `width`, doubling, at most 8 times `width`."""
    return [width * min(2**stage, 8) for stage in range(num_stages)]


class ConvFeatures(nn.Sequential):
    """Strided convolutions: images (B, C, H, W) -> features (B, `num_features`)."""

    num_features: int

    def __init__(self, channels: int, image_size: int, width: int, norm: Norm = "batch") -> None:
        sizes = stage_sizes(image_size)
        layers: list[nn.Module] = []
        before = channels
        for stage, after in enumerate(stage_channels(width, len(sizes) - 1)):
            normalised = norm == "batch" and stage > 0
            conv = (
                nn.Conv2d(before, after, kernel_size=4, stride=2, padding=1, bias=not normalised)
                if stage
                else PhaseConv2d(before, after)
            )
            layers.append(nn.utils.parametrizations.spectral_norm(conv) if norm == "spectral" else conv)
            if normalised:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
            before = after
        layers.append(nn.Flatten())
        super().__init__(*layers)
        self.num_features = before * sizes[-1] ** 2


class Encoder(nn.Module):
    """E: images (B, C, H, W) -> latents (B, Z)."""

    def __init__(self, channels: int, image_size: int, width: int, latent_dim: int) -> None:
        super().__init__()
        self.features = ConvFeatures(channels, image_size, width)
        self.latent = nn.Linear(self.features.num_features, latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, Z) of images x (B, C, H, W) in [0, 1]."""
        z: Tensor = self.latent(self.features(x))
        return z


class Decoder(nn.Module):
    """D: latents (B, Z) -> image logits (B, C, H, W); their sigmoid is the image."""

    def __init__(self, channels: int, image_size: int, width: int, latent_dim: int) -> None:
        super().__init__()
        sizes = stage_sizes(image_size)[::-1]
        widths = stage_channels(width, len(sizes) - 1)[::-1]
        *odd, last_odd = (after - 2 * before for before, after in pairwise(sizes))
        layers: list[nn.Module] = [
            nn.Linear(latent_dim, widths[0] * sizes[0] ** 2),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (widths[0], sizes[0], sizes[0])),
        ]
        for (before, after), padding in zip(pairwise(widths), odd, strict=True):
            layers += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, output_padding=padding, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        layers.append(PhaseConvTranspose2d(widths[-1], channels, last_odd))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Return image logits (B, C, H, W) of latents (B, Z)."""
        logits: Tensor = self.layers(z)
        return logits


class Generator(nn.Module):
    """G: noise u (B, U) and one-hot categories c (B, K) -> latents (B, Z). Two layers."""

    def __init__(self, noise_dim: int, num_categories: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(noise_dim + num_categories, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, latent_dim)
        )

    def forward(self, u: Tensor, c: Tensor) -> Tensor:
        """Return latents (B, Z) of noise u (B, U) and one-hot categories c (B, K)."""
        z_gen: Tensor = self.layers(torch.cat([u, c], dim=1))
        return z_gen


class Classifier(nn.Module):
    """C: latents (B, Z) -> category logits (B, K). Two layers."""

    def __init__(self, latent_dim: int, hidden_dim: int, num_categories: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, num_categories)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Return category logits (B, K) of latents (B, Z)."""
        logits: Tensor = self.layers(z)
        return logits


def classify_all(classifiers: Sequence[Classifier], z: Tensor) -> Tensor:
    """Latents (B, Z) -> logits (H, B, K) of H classifiers alike, at once: so small, each operation costs the same."""
    x = z.expand(len(classifiers), -1, -1)
    for index, layer in enumerate(classifiers[0].layers):
        if isinstance(layer, nn.Linear):
            names = (f"layers.{index}.weight", f"layers.{index}.bias")
            weight, bias = (torch.stack([each.get_parameter(name) for each in classifiers]) for name in names)
            x = torch.baddbmm(bias[:, None], x, weight.mT)
        else:
            x = layer(x)
    return x


class Discriminator(nn.Module):
    """Dis: images (B, C, H, W) -> real/generated logits (B,)."""

    def __init__(self, channels: int, image_size: int, width: int, norm: Norm = "batch") -> None:
        super().__init__()
        self.features = ConvFeatures(channels, image_size, width, norm)
        self.logit = nn.Linear(self.features.num_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,) of images x (B, C, H, W) being real."""
        logits: Tensor = self.logit(self.features(x))
        return logits.squeeze(1)


class SelfCritic(nn.Module):
    """S: images (B, C, H, W) with latents (B, Z) -> logits (B,) of "this pair came from the generator"."""

    def __init__(
        self, channels: int, image_size: int, width: int, latent_dim: int, hidden_dim: int, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        self.features = ConvFeatures(channels, image_size, width, norm)
        self.joint = nn.Sequential(
            nn.Linear(self.features.num_features + latent_dim, hidden_dim),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(hidden_dim, 1),
        )

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return logits (B,) of images x (B, C, H, W) with latents z (B, Z) being the generator's."""
        logits: Tensor = self.joint(torch.cat([self.features(x), z], dim=1))
        return logits.squeeze(1)
