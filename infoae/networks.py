"""The six networks of InfoAE as plain modules (paper section 2 and 3), of which other methods take some.

What turns images into features is in `convolutional`. Batch normalisation everywhere except in each network's first and
last layer (paper section 3). The paper states no sizes (reading): kernel 4, stride 2 and channels that double at every
halving.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from infoae.config import Model
from infoae.convolutional import Features, stage_channels, stage_sizes, with_spectral_norm
from infoae.patches import PatchConvTranspose2d
from infoae.polyphase import PhaseConvTranspose2d


class Encoder(nn.Module):
    """E: images (B, C, H, W), or their features (B, F) -> latents (B, Z)."""

    def __init__(self, features: Features, latent_dim: int) -> None:
        super().__init__()
        self.features, self.num_features = features, features.num_features
        self.latent = nn.Linear(features.num_features, latent_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, Z) of x: images (B, C, H, W) in [0, 1], or features of images (B, F)."""
        z: Tensor = self.latent(x if x.ndim == 2 else self.features(x))
        return z

    def of_several(self, images: Sequence[Tensor]) -> Tensor:
        """Return the latents (B, Z) of several batches as of one."""
        z: Tensor = self.latent(self.features.of_several(images))
        return z


class FeatureEncoder(nn.Module):
    """E on features of a frozen encoder: (B, D) -> latents (B, Z). Two layers; features are normalised first.

    What the second normalisation would take away again, a shift of its inputs, has no parameter.
    """

    def __init__(self, num_features: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.num_features = num_features
        self.layers = nn.Sequential(
            nn.BatchNorm1d(num_features, affine=False),
            nn.Linear(num_features, hidden_dim, bias=False),
            nn.BatchNorm1d(hidden_dim),
            nn.ReLU(inplace=True),
        )
        self.latent = nn.Linear(hidden_dim, latent_dim)

    def forward(self, features: Tensor) -> Tensor:
        """Return latents (B, Z) of `features` (B, D)."""
        z: Tensor = self.latent(self.layers(features))
        return z


class Decoder(nn.Module):
    """D: latents (B, Z) -> image logits (B, C, H, W); their sigmoid is the image.

    In architecture `infogan` a fully connected layer of `feature_dim` units comes first.
    """

    def __init__(
        self, channels: int, image_size: int, width: int, latent_dim: int, feature_dim: int | None = None
    ) -> None:
        super().__init__()
        sizes = stage_sizes(image_size, 4 if feature_dim is None else 8)[::-1]
        widths = stage_channels(width, len(sizes) - 1)[::-1]
        *odd, last_odd = (after - 2 * before for before, after in pairwise(sizes))
        num_values = widths[0] * sizes[0] ** 2
        layers: list[nn.Module] = []
        if feature_dim is None:
            layers += [nn.Linear(latent_dim, num_values), nn.ReLU(inplace=True)]
        else:
            for inputs, outputs in ((latent_dim, feature_dim), (feature_dim, num_values)):
                layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
        layers.append(nn.Unflatten(1, (widths[0], sizes[0], sizes[0])))
        for (before, after), padding in zip(pairwise(widths), odd, strict=True):
            layers += [
                PatchConvTranspose2d(before, after, padding),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        layers.append(PhaseConvTranspose2d(widths[-1], channels, last_odd))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """Return image logits (B, C, H, W) of latents (B, Z)."""
        logits: Tensor = self.layers(z)
        return logits


def decoder(config: Model, latent_dim: int) -> Decoder:
    """Return what turns latents (B, `latent_dim`) into image logits in the configured architecture."""
    feature_dim = config.feature_dim if config.architecture == "infogan" else None
    return Decoder(*config.image_shape(), config.width, latent_dim, feature_dim)


@torch.no_grad()
def initialise(model: nn.Module) -> None:
    """Draw every weight anew from a normal distribution of deviation 0.02, as Chen et al. (2016) do; biases are 0.

    Weights under spectral normalisation, whose scale has no effect, stay as they were drawn.
    """
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            if not nn.utils.parametrize.is_parametrized(module):
                nn.init.normal_(module.weight, 0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@torch.no_grad()
def differ(heads: Sequence[Classifier], latent: nn.Linear) -> None:
    """Draw the weights of heads as He et al. (2015) do, and of the latent they see an orthogonal matrix.

    PyTorch's own are smaller: answers begin alike, and all heads follow what differs most between images.
    """
    nn.init.orthogonal_(latent.weight)
    for head in heads:
        for layer in head.layers:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)


def perceptron(inputs: int, hidden_dim: int, outputs: int, normalised: bool = False) -> list[nn.Module]:
    """Return the layers of a network of two hidden layers, `normalised` or not: (B, `inputs`) -> (B, `outputs`)."""
    layers: list[nn.Module] = []
    for before, after in pairwise((inputs, hidden_dim, hidden_dim, outputs)):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if normalised else []), nn.ReLU(inplace=True)]
    return layers[:-1]


def projector(num_features: int, hidden_dim: int, projection_dim: int) -> nn.Sequential:
    """Return what the contrastive loss compares: features (B, `num_features`) -> (B, `projection_dim`).

    Not in the paper: Chen et al. (2020), section 4.2. What it forgets, such as colour, the features may keep.
    """
    return nn.Sequential(
        nn.Linear(num_features, hidden_dim, bias=False),
        nn.BatchNorm1d(hidden_dim),
        nn.ReLU(inplace=True),
        nn.Linear(hidden_dim, projection_dim),
    )


class Generator(nn.Module):
    """G: noise u (B, U) and one-hot categories c (B, K) -> latents (B, Z). Two layers."""

    def __init__(
        self, noise_dim: int, num_categories: int, hidden_dim: int, latent_dim: int, normalised: bool = False
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(noise_dim + num_categories, hidden_dim),
            *([nn.BatchNorm1d(hidden_dim)] if normalised else []),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, latent_dim),
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

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features, self.normalises = features, features.normalises
        self.logit = nn.Linear(features.num_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B,) of images x (B, C, H, W) being real."""
        logits: Tensor = self.logit(self.features(x))
        return logits.squeeze(1)


class SelfCritic(nn.Module):
    """S: images (B, C, H, W) with latents (B, Z) -> logits (B,) of "this pair came from the generator"."""

    def __init__(self, features: Features, latent_dim: int, hidden_dim: int, spectral: bool = False) -> None:
        super().__init__()
        self.features, self.normalises = features, features.normalises
        self.joint = nn.Sequential(
            nn.Linear(features.num_features + latent_dim, hidden_dim),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(hidden_dim, 1),
        )
        if spectral:
            with_spectral_norm(self.joint[0])
            with_spectral_norm(self.joint[2])

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        """Return logits (B,) of images x (B, C, H, W) with latents z (B, Z) being the generator's."""
        logits: Tensor = self.joint(torch.cat([self.features(x), z], dim=1))
        return logits.squeeze(1)
