"""InfoAE: the six networks together, and what a trained one does with images, latents and categories."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoae import convolutional, networks
from infoae.category_model import Array, CategoryModel
from infoae.config import Features, Model
from infoae.errors import InfoAEError
from infoae.features.encoder import FrozenEncoder, opened
from infoae.gpu import Device
from infoae.residual import encoder_features
from infoae.runs.run import Run


class InfoAE(CategoryModel):
    """The Information Maximizing Autoencoder (paper section 2).

    Where `features` name a frozen encoder, its own encoder is a small network on theirs. The frozen one is no part of
    its weights: it is opened, and seen to be the same, when an image has to be encoded.
    """

    method = "infoae"
    encoder: networks.Encoder | networks.FeatureEncoder
    classifier: networks.Classifier

    def __init__(self, config: Model, features: Features = Features()) -> None:  # noqa: B008  it is immutable
        num_categories = 2 if config.num_categories == "auto" else config.num_categories  # 2 until it is found
        super().__init__(config, num_categories, config.latent_dim, config.noise_dim)
        self._finds_number = config.num_categories == "auto"
        self.features = features
        if features.encoder is None:
            self.encoder = networks.Encoder(encoder_features(config), config.latent_dim)
        else:
            assert features.dim is not None
            self.encoder = networks.FeatureEncoder(features.dim, config.hidden_dim, config.latent_dim)
        self.decoder = networks.decoder(config, config.latent_dim)
        self.generator = networks.Generator(
            config.noise_dim,
            self.num_over_categories,
            config.generator_hidden_dim or config.hidden_dim,
            config.latent_dim,
            normalised=config.architecture == "infogan",
        )
        self.classifier = networks.Classifier(config.latent_dim, config.hidden_dim, self.num_over_categories)
        self.discriminator = networks.Discriminator(convolutional.features(config, config.critic_norm))
        critic = convolutional.features(config, config.self_critic_norm or config.critic_norm)
        spectral = config.self_critic_norm == "spectral"
        self.self_critic = networks.SelfCritic(critic, config.latent_dim, config.hidden_dim, spectral)
        if config.architecture == "infogan":
            networks.initialise(self)
        self.other_heads = nn.ModuleList(  # the last to be drawn, so that the other weights do not depend on them
            networks.Classifier(config.latent_dim, config.hidden_dim, self.num_over_categories)
            for _ in range(config.num_heads - 1)
        )
        on_features = config.encoder == "residual" or features.encoder is not None
        if on_features and config.architecture != "infogan":
            networks.differ([self.classifier, *self.other_heads], self.encoder.latent)
        self.projector: nn.Module | None = None
        if config.projection_dim is not None and isinstance(self.encoder, networks.Encoder):
            inputs = self.encoder.features.num_features
            self.projector = networks.projector(inputs, config.hidden_dim, config.projection_dim)
        if config.architecture == "infogan":
            networks.initialise(self.other_heads)

        # Up to which noise in [-1, 1] a category chooses each of its over-categories.
        self.chosen_up_to: Tensor
        unset = torch.zeros(num_categories, self.num_over_categories)
        self.register_buffer("chosen_up_to", unset, persistent=config.num_over_categories is not None)
        given = torch.tensor(config.prior if isinstance(config.prior, list) else [1.0] * num_categories)
        self._estimates_prior, self._uniform = config.prior == "estimated", config.prior == "uniform"
        self.prior: Tensor
        self.register_buffer("prior", given / given.sum(), persistent=self._estimates_prior)
        self.merge(torch.arange(self.num_over_categories) % self.num_categories, torch.ones(self.num_over_categories))

    def merge(self, category_of: Tensor, frequency: Tensor) -> None:
        """Set the category of each over-category (M,), which over-categories occur with `frequency` (M,)."""
        if self._finds_number:
            self._set_number(int(category_of.max()) + 1)
        inside = F.one_hot(category_of, self.num_categories).T.bool()
        share = torch.where(inside, frequency.double().clamp_min(1e-12), 0)
        up_to = 2 * share.cumsum(1) / share.sum(1, keepdim=True) - 1
        last = inside & (up_to == up_to.amax(1, keepdim=True))
        if self._estimates_prior:
            self.prior.copy_(share.sum(1) / share.sum())
        self.category_of.copy_(category_of)
        self.chosen_up_to.copy_(torch.where(last, 2, torch.where(inside, up_to, -2)))

    def _set_number(self, num_categories: int) -> None:
        self.num_categories = num_categories
        self.chosen_up_to = self.chosen_up_to.new_zeros(num_categories, self.num_over_categories)
        self.prior = self.prior.new_full((num_categories,), 1 / num_categories)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        """Take the number of categories that training found from what it saved."""
        saved = state_dict.get(f"{prefix}chosen_up_to")
        if self._finds_number and saved is not None:
            self._set_number(len(saved))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    @classmethod
    def load(cls, run: str | Path = "runs/latest", checkpoint: str = "best", device: str = "cpu") -> InfoAE:
        """Load a trained model from a run folder, ready to use.

        `checkpoint` is "best" (by the score) or "newest". Raises InfoAEError for a missing run, one of another method,
        or a damaged checkpoint. Nothing is unpickled.
        """
        return cls.of_run(Run.open(run), checkpoint).to(device)

    @classmethod
    def of_run(cls, run: Run, which: str = "best") -> InfoAE:
        """Build the model of a run and fill it from its "best" or "newest" checkpoint. Raises InfoAEError."""
        config = run.config()
        if config.method != "infoae":
            raise InfoAEError(f"{run.name} is a run of method {config.method}: load it with infoae.load")
        return cls(config.model, config.features).fill(run, which)

    @property
    def encodes_images(self) -> bool:
        """Whether it can encode any image: not where features came from a file."""
        return not self.features.precomputed

    @property
    def features_dim(self) -> int | None:
        """D of the frozen encoder, if there is one."""
        return self.features.dim

    @property
    def seen_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that are encoded: the frozen encoder's, if there is one."""
        return self.image_shape if self.features.encoder is None else self.frozen().image.shape

    def frozen(self) -> FrozenEncoder:
        """Return the frozen encoder that it is trained on. Raises InfoAEError if it has changed, or there is none."""
        found = opened(self.features)
        if not isinstance(found, FrozenEncoder):
            raise InfoAEError(
                f"features.encoder {found.name} holds the features of the images trained on, and has none of another: "
                "train on an ONNX file to classify others"
            )
        return found

    def to_encoder(self, images: Array) -> Tensor:
        """Bring images of any size to features (B, D) of the frozen encoder, where there is one.

        What is features already stays: (B, D), or (B, F) of its own encoder's. Raises ValueError, and InfoAEError as
        `frozen` does.
        """
        x = images if isinstance(images, Tensor) else torch.tensor(np.asarray(images))
        if x.ndim == 2 and x.shape[1] == self.encoder.num_features:
            return x.float()
        if self.features.encoder is None:
            return self.to_input(images)
        if x.ndim == 2:
            raise ValueError(f"features must be (B, {self.features.dim}), not {tuple(x.shape)}")
        x = x.unsqueeze(1) if x.ndim == 3 else x
        if x.is_floating_point():
            x = (x * 255).round().to(torch.uint8)
        on_cpu = next(self.parameters()).device.type == "cpu"
        device = Device.CPU if on_cpu else Device.AUTO  # onnxruntime may have no CUDA where PyTorch has
        return torch.from_numpy(self.frozen().features(x.cpu().numpy(), device))

    def decoded(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of latents z (B, Z)."""
        return torch.sigmoid(self.decoder(z))

    def generated(self, u: Tensor, c: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of noise u (B, U) in [-1, 1] and one-hot over-categories c (B, M)."""
        return self.decoded(self.generator(u, c))

    def represent(self, images: Array) -> Tensor:
        """Images (B, C, H, W) -> the encoder's features (B, F), from which its latents follow."""
        assert isinstance(self.encoder, networks.Encoder)  # features of a frozen one are there
        return self._batched(images, self.encoder.features)

    def project(self, x: Tensor) -> Tensor:
        """Return the projections (B, P) of the features of x (B, C, H, W), which the contrastive loss compares."""
        assert isinstance(self.encoder, networks.Encoder)
        assert self.projector is not None
        projections: Tensor = self.projector(self.encoder.features(x))
        return projections

    def head_logits(self, z: Tensor) -> Tensor:
        """Latents (B, Z) -> logits (H, B, M) of each head; the first is the classifier's."""
        return networks.classify_all([self.classifier, *self.other_heads], z)

    def draw_categories(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw category indices (count,) on the CPU, each as often as `prior` (K,) says."""
        if self._uniform:  # known without asking the device
            return torch.randint(self.num_categories, (count,), generator=generator)
        return torch.multinomial(self.prior.cpu(), count, replacement=True, generator=generator)

    def choose_over(self, categories: Tensor, u: Tensor) -> Tensor:
        """Choose an over-category of each category index (B,), by its share, with noise u (B,) in [-1, 1]."""
        if not self.merges:
            return categories
        up_to = F.embedding(categories.to(self.chosen_up_to.device), self.chosen_up_to)
        return (up_to >= u.to(up_to)[:, None]).int().argmax(1)  # the first that reaches the noise
