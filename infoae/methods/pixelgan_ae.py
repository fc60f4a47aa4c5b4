"""The PixelGAN autoencoder with a category as its code (Makhzani and Frey 2017, section 3).

The encoder's softmax is pushed to one-hot categories by a discriminator; from it a PixelCNN reconstructs the image, so
that the category holds what pixels do not say of each other. `docs/methods.md` has the equations and what was guessed.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoae import convolutional, losses, networks
from infoae.category_model import CategoryModel
from infoae.config import Config, Model
from infoae.distributed.collectives import Share, Subset
from infoae.methods.method import Side, drawn, number_of_categories, parameters, wanted
from infoae.methods.pixelcnn import PixelCNN
from infoae.objective import Batch, Terms
from infoae.stages import Stage


class PixelGANAE(CategoryModel):
    """Latents are the features before the category; noise is a value for each pixel."""

    method = "pixelgan-ae"
    draws_bits = True
    no_decoder = "a PixelGAN autoencoder's code is the category: to decode it is to draw"

    def __init__(self, config: Model) -> None:
        num_categories, features = number_of_categories(config), convolutional.features(config)
        channels, image_size = config.image_shape()
        super().__init__(config, num_categories, features.num_features, channels * image_size**2)
        self.encoder = features
        # Normalised, so that no category starts with all images, or none.
        self.classifier = nn.Sequential(
            nn.Linear(features.num_features, num_categories), nn.BatchNorm1d(num_categories)
        )
        self.decoder = PixelCNN(channels, image_size, config.pixelcnn_width, config.pixelcnn_blocks, num_categories)
        discriminator = networks.perceptron(num_categories, config.hidden_dim, 1)
        self.category_discriminator = nn.Sequential(*discriminator)
        if config.architecture == "infogan":
            networks.initialise(self.encoder)

    def generated(self, u: Tensor, c: Tensor) -> Tensor:
        """Return images (B, C, H, W) of pixels 0 and 1 of noise u (B, U) in [-1, 1] and one-hot categories c (B, K)."""
        return self.decoder.draw(((u + 1) / 2).unflatten(1, self.image_shape), c)


class PixelGANAEMethod:
    """Two sides: the autoencoder, and the discriminator of its categories."""

    def build(self, config: Config) -> PixelGANAE:
        """Return encoder, PixelCNN and the discriminator of categories."""
        return PixelGANAE(config.model)

    def sides(self, model: PixelGANAE, config: Config) -> tuple[Side, ...]:
        """Return encoder and decoder, then the discriminator."""
        rate, critic_rate = config.learning_rates()
        autoencoder = parameters(model.encoder, model.classifier, model.decoder)
        return (
            Side(((autoencoder, rate),), ("reconstruction", "category_adversarial")),
            Side(((parameters(model.category_discriminator), critic_rate),), ("category_discriminator",)),
        )

    def draw(
        self,
        model: PixelGANAE,
        config: Config,
        stage: Stage,
        images: tuple[Tensor, Tensor | None],
        share: Share,
        random: torch.Generator,
    ) -> Batch:
        """Return x, its pixels drawn to be 0 or 1, and the categories that the discriminator takes for real."""
        x = images[0]
        batch = drawn(model, x, share, random)
        threshold = torch.rand(share.total, *x.shape[1:], generator=random)[share.slice]
        return replace(batch, extra=(x > threshold.to(x.device)).to(x.dtype))

    def compute(self, model: PixelGANAE, config: Config, stage: Stage, batch: Batch, subset: Subset | None) -> Terms:
        """Return the losses of both sides."""
        assert batch.extra is not None
        code = model.classifier(model.encoder(batch.x)).float().softmax(1)
        one_hot = F.one_hot(batch.c, model.num_categories).float()
        real, fake = (model.category_discriminator(each).squeeze(1) for each in (one_hot, code))
        logits = model.decoder(batch.extra, code)
        terms = {
            "reconstruction": losses.reconstruction(logits, batch.extra, "cross-entropy").mean(),
            "category_adversarial": losses.real(fake).mean(),
            "category_discriminator": losses.real(real).mean() + losses.generated(fake).mean(),
        }
        return wanted(terms, stage)
