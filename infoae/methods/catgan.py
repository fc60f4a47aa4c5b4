"""CatGAN (Springenberg 2015): a discriminator that answers with categories, sure of real images and unsure of others.

There is no real or fake answer: the sides disagree about the entropy of the categories of generated images.
`docs/methods.md` has the equations.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from infoae import convolutional, losses, networks
from infoae.category_model import CategoryModel
from infoae.config import Config, Model
from infoae.distributed.collectives import Share, Subset
from infoae.methods.method import Side, drawn, number_of_categories, parameters, wanted
from infoae.objective import Batch, Terms
from infoae.stages import Stage


class CatGAN(CategoryModel):
    """Latents are the features before the discriminator's answer."""

    method = "catgan"
    no_decoder = "CatGAN draws from noise alone: no latent of an image can be decoded"
    no_generator = "CatGAN draws from noise alone: no category can be asked for"

    def __init__(self, config: Model) -> None:
        num_categories = number_of_categories(config)
        features = convolutional.features(config, config.critic_norm)
        super().__init__(config, num_categories, features.num_features, config.noise_dim)
        self.encoder = features
        self.classifier = nn.Linear(features.num_features, num_categories)
        self.generator = networks.decoder(config, config.noise_dim)
        if config.architecture == "infogan":
            networks.initialise(self)

    def generated(self, u: Tensor, c: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of noise u (B, U) in [-1, 1]; the categories c (B, K) are not used."""
        return torch.sigmoid(self.generator(u))


class CatGANMethod:
    """Two sides: the generator, and the discriminator that answers with categories."""

    def build(self, config: Config) -> CatGAN:
        """Return generator and discriminator."""
        return CatGAN(config.model)

    def sides(self, model: CatGAN, config: Config) -> tuple[Side, ...]:
        """Return the generator, then the discriminator (equation 7)."""
        rate, critic_rate = config.learning_rates()
        judges = parameters(model.encoder, model.classifier)
        return (
            Side(((parameters(model.generator), rate),), ("generator",)),
            Side(((judges, critic_rate),), ("discriminator",)),
        )

    def draw(
        self,
        model: CatGAN,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return x, noise, and the noise that the discriminator sees on real and on generated images."""
        x = images[0]
        on_images = torch.randn(share.total, 2, *x.shape[1:], generator=random) * config.model.image_noise
        return replace(drawn(model, x, share, random), extra=on_images[share.slice].to(x.device))

    def compute(self, model: CatGAN, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of both sides. Real and generated images are normalised apart."""
        assert batch.extra is not None
        on_real, on_fake = batch.extra.unbind(1)
        x_gen = model.generated(batch.u, batch.u)
        real, fake = (model.classifier(model.encoder(x)) for x in (batch.x + on_real, x_gen + on_fake))
        unsure = losses.conditional_entropy(fake)
        terms = {
            "generator": unsure - losses.marginal_entropy(fake),
            "discriminator": losses.conditional_entropy(real) - losses.marginal_entropy(real) - unsure,
        }
        return wanted(terms, stage)
