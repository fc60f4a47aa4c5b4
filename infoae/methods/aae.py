"""The adversarial autoencoder for clustering (Makhzani et al. 2016, section 5): a category and a style code.

The encoder's softmax is pushed to one-hot categories, its style to a normal distribution, each by a discriminator of
its own; from both the decoder reconstructs the image. `docs/methods.md` has the equations.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoae import losses, networks
from infoae.category_model import CategoryModel
from infoae.config import Config, Model
from infoae.distributed.collectives import Share, Subset
from infoae.methods.codes import CategoryCode, SoftmaxCode, normal
from infoae.methods.method import Side, drawn, number_of_categories, parameters, wanted
from infoae.objective import Batch, Terms
from infoae.stages import Stage


class AAE(CategoryModel):
    """Latents are the K probabilities, then the style."""

    method = "aae"

    def __init__(self, config: Model) -> None:
        num_categories, style_dim = number_of_categories(config), config.style_dim
        super().__init__(config, num_categories, num_categories + style_dim, style_dim + style_dim % 2)
        self.style_dim = style_dim
        num_pixels, hidden_dim = self.channels * self.image_size**2, config.hidden_dim
        self.encoder = nn.Sequential(
            nn.Flatten(),
            # Normalised to the last layer, so that no category starts with all images, or none.
            *networks.perceptron(num_pixels, hidden_dim, self.latent_dim, normalised=True),
            SoftmaxCode(num_categories),
        )
        self.classifier = CategoryCode(num_categories)
        self.decoder = nn.Sequential(
            *networks.perceptron(self.latent_dim, hidden_dim, num_pixels), nn.Unflatten(1, self.image_shape)
        )
        self.category_discriminator = nn.Sequential(*networks.perceptron(num_categories, hidden_dim, 1))
        self.style_discriminator = nn.Sequential(*networks.perceptron(style_dim, hidden_dim, 1))

    def decoded(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of latents z (B, Z)."""
        return torch.sigmoid(self.decoder(z))

    def generated(self, u: Tensor, c: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of noise u (B, U) in [-1, 1] and one-hot categories c (B, K)."""
        return self.decoded(torch.cat([c, self.style(u)], 1))

    def style(self, u: Tensor) -> Tensor:
        """Return normally distributed styles (B, style_dim) of uniform noise u (B, U) in [-1, 1]."""
        return normal(u)[:, : self.style_dim]


class AAEMethod:
    """Two sides: the autoencoder, and the two discriminators of its codes."""

    def build(self, config: Config) -> AAE:
        """Return encoder, decoder and the discriminators of category and style."""
        return AAE(config.model)

    def sides(self, model: AAE, config: Config) -> tuple[Side, ...]:
        """Return encoder and decoder, then the discriminators."""
        rate, critic_rate = config.learning_rates()
        critics = parameters(model.category_discriminator, model.style_discriminator)
        return (
            Side(
                ((parameters(model.encoder, model.decoder), rate),),
                ("reconstruction", "category_adversarial", "style_adversarial"),
            ),
            Side(((critics, critic_rate),), ("category_discriminator", "style_discriminator")),
        )

    def draw(
        self,
        model: AAE,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return x, which of its pixels the encoder sees, and the codes that the discriminators take for real."""
        x = images[0]
        batch = drawn(model, x, share, random)
        kept = torch.rand(share.total, *x.shape[1:], generator=random) >= config.model.input_dropout
        return replace(batch, extra=kept[share.slice].to(x.device, x.dtype) / (1 - config.model.input_dropout))

    def compute(self, model: AAE, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of both sides."""
        assert batch.extra is not None
        z = model.encoder(batch.x * batch.extra)
        category, style = z.split([model.num_categories, model.style_dim], 1)
        one_hot = F.one_hot(batch.c, model.num_categories).float()
        categories = [model.category_discriminator(code).squeeze(1) for code in (one_hot, category)]
        styles = [model.style_discriminator(code).squeeze(1) for code in (model.style(batch.u), style)]
        terms = {
            "reconstruction": losses.reconstruction(
                model.decoder(z),
                batch.x,
                config.objective.reconstruction_distance,
                config.objective.reconstruction_reduction == "mean",
            ).mean(),
            "category_adversarial": losses.real(categories[1]).mean(),
            "style_adversarial": losses.real(styles[1]).mean(),
            "category_discriminator": losses.real(categories[0]).mean() + losses.generated(categories[1]).mean(),
            "style_discriminator": losses.real(styles[0]).mean() + losses.generated(styles[1]).mean(),
        }
        return wanted(terms, stage)
