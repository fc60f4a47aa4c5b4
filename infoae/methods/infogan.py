"""InfoGAN (Chen et al. 2016): a generator whose category and continuous codes a recognition network reads back.

One network sees the image; on its features lie the discriminator's answer and the recognition network Q, whose category
is the answer of the trained model. Both sides minimise the information terms. `docs/methods.md` has the equations.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoae import losses, networks
from infoae.category_model import CategoryModel
from infoae.config import Config, Model
from infoae.convolutional import Features, features
from infoae.distributed.collectives import Share, Subset
from infoae.methods.method import Side, drawn, number_of_categories, parameters, wanted
from infoae.objective import Batch, Terms
from infoae.stages import Stage


class Recognition(nn.Module):
    """The shared features and Q's hidden layer: images (B, C, H, W) -> latents (B, Z)."""

    def __init__(self, features: Features, hidden_dim: int) -> None:
        super().__init__()
        self.features = features
        self.hidden = nn.Sequential(
            nn.Linear(features.num_features, hidden_dim, bias=False), nn.BatchNorm1d(hidden_dim), nn.LeakyReLU(0.1)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return latents (B, Z) of images x (B, C, H, W) in [0, 1]."""
        z: Tensor = self.hidden(self.features(x))
        return z


class InfoGAN(CategoryModel):
    """Noise u holds `noise_dim` incompressible values and then `continuous_dim` codes, all uniform on [-1, 1]."""

    method = "infogan"
    no_decoder = "InfoGAN draws from noise and category: no latent of an image can be decoded"

    def __init__(self, config: Model) -> None:
        num_categories = number_of_categories(config)
        super().__init__(config, num_categories, config.hidden_dim, config.noise_dim + config.continuous_dim)
        self.num_codes = config.continuous_dim
        self.encoder: Recognition = Recognition(features(config, config.critic_norm), config.hidden_dim)
        self.classifier = nn.Linear(config.hidden_dim, num_categories)
        self.codes = nn.Linear(config.hidden_dim, 2 * self.num_codes) if self.num_codes else None
        self.discriminator = nn.Linear(self.encoder.features.num_features, 1)
        self.generator = networks.decoder(config, self.noise_dim + num_categories)
        if config.architecture == "infogan":
            networks.initialise(self)
        self._balance()

    @torch.no_grad()
    def _balance(self) -> None:
        """Let a category move the generator's first layer as much as all noise does, whose values have variance 1/3.

        Otherwise the generator learns to draw everything from the noise first, whose part is twenty times as large.
        """
        first = self.generator.layers[0]
        assert isinstance(first, nn.Linear)
        first.weight[:, self.noise_dim :] *= math.sqrt(self.noise_dim / 3)

    def generated(self, u: Tensor, c: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of noise u (B, U) in [-1, 1] and one-hot categories c (B, K)."""
        return torch.sigmoid(self.generator(torch.cat([u, c], 1)))


class InfoGANMethod:
    """Two sides: the generator, and everything that judges its images."""

    def build(self, config: Config) -> InfoGAN:
        """Return generator, discriminator and recognition network."""
        return InfoGAN(config.model)

    def sides(self, model: InfoGAN, config: Config) -> tuple[Side, ...]:
        """Return the generator, then discriminator and recognition network (equation 6)."""
        rate, critic_rate = config.learning_rates()
        judges = [model.encoder, model.classifier, model.discriminator, *([model.codes] if model.codes else [])]
        information = ("category_information", "continuous_information")
        return (
            Side(((parameters(model.generator), rate),), ("generator", *information)),
            Side(((parameters(*judges), critic_rate),), ("discriminator", *information)),
        )

    def draw(
        self,
        model: InfoGAN,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return x, noise with continuous codes, categories, and what noise lies on real and on generated images."""
        x = images[0]
        on_images = torch.randn(share.total, 2, *x.shape[1:], generator=random) * config.model.image_noise
        return replace(drawn(model, x, share, random), extra=on_images[share.slice].to(x.device))

    def compute(self, model: InfoGAN, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of both sides. Real and generated images are normalised apart, as the authors do."""
        assert batch.extra is not None
        on_real, on_fake = batch.extra.unbind(1)
        x_gen = model.generated(batch.u, F.one_hot(batch.c, model.num_categories).float())
        real, fake = model.encoder.features(batch.x + on_real), model.encoder.features(x_gen + on_fake)
        real_logits, fake_logits = model.discriminator(real).squeeze(1), model.discriminator(fake).squeeze(1)
        z = model.encoder.hidden(fake)
        terms = {
            "generator": losses.real(fake_logits).mean(),
            "discriminator": losses.real(real_logits).mean() + losses.generated(fake_logits).mean(),
            "category_information": losses.classification(model.classifier(z), batch.c).mean(),
        }
        if model.codes is not None:
            mean, log_deviation = model.codes(z).chunk(2, 1)
            codes = batch.u[:, -model.num_codes :]
            terms["continuous_information"] = losses.gaussian(mean, log_deviation, codes).mean()
        return wanted(terms, stage, losses.discriminator_accuracy(real_logits, fake_logits))
