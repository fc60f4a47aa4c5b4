"""InfoAE: the six networks together, and what a trained one does with images, latents and categories."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from infoae import networks
from infoae.config import Model
from infoae.runs import checkpoint as checkpoints
from infoae.runs.run import Run

Array: TypeAlias = Tensor | NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]

_Function: TypeAlias = Callable[[Tensor], Tensor]

BATCH = 1000  # images or latents at once outside training: enough to keep a CPU or GPU busy, small in memory


class InfoAE(nn.Module):
    """The Information Maximizing Autoencoder (paper section 2).

    Images are (B, C, H, W), or (B, H, W) for one channel; uint8 in 0..255 or floats in [0, 1]; arrays or tensors.
    Results are float32 tensors on the CPU. K is `num_categories`, Z is `latent_dim`.
    """

    def __init__(self, config: Model) -> None:
        super().__init__()
        if config.channels is None or config.image_size is None:
            raise ValueError("channels and image_size must be known to build the networks")
        self.channels, self.image_size = config.channels, config.image_size
        self.latent_dim, self.noise_dim = config.latent_dim, config.noise_dim
        self._finds_number = config.num_categories == "auto"
        self.num_categories = 2 if config.num_categories == "auto" else config.num_categories  # 2 until it is found
        self.num_over_categories = config.num_over_categories or self.num_categories
        shape = (self.channels, self.image_size, config.width)
        self.encoder = networks.Encoder(*shape, config.latent_dim)
        self.decoder = networks.Decoder(*shape, config.latent_dim)
        self.generator = networks.Generator(
            config.noise_dim,
            self.num_over_categories,
            config.generator_hidden_dim or config.hidden_dim,
            config.latent_dim,
        )
        self.classifier = networks.Classifier(config.latent_dim, config.hidden_dim, self.num_over_categories)
        self.discriminator = networks.Discriminator(*shape, config.critic_norm)
        self.self_critic = networks.SelfCritic(*shape, config.latent_dim, config.hidden_dim, config.critic_norm)

        self.other_heads = nn.ModuleList(
            networks.Classifier(config.latent_dim, config.hidden_dim, self.num_over_categories)
            for _ in range(config.num_heads - 1)
        )

        # How over-categories merge into categories: the category of each, and up to which noise in [-1, 1] a category
        # chooses each.
        self.category_of: Tensor
        self.chosen_up_to: Tensor
        merged = config.num_over_categories is not None  # as many as categories are numbered anew by the vote, too
        self.register_buffer("category_of", torch.arange(self.num_over_categories), persistent=merged)
        self.register_buffer(
            "chosen_up_to", torch.zeros(self.num_categories, self.num_over_categories), persistent=merged
        )
        given = torch.tensor(config.prior if isinstance(config.prior, list) else [1.0] * self.num_categories)
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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.image_size, self.image_size

    def model_parameters(self) -> list[nn.Parameter]:
        """Parameters of the side that minimises equation 1: encoder, decoder, generator, classifier."""
        side = (self.encoder, self.decoder, self.generator, self.classifier, self.other_heads)
        return [p for network in side for p in network.parameters()]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Parameters of the side that judges: discriminator and self-critic."""
        return [p for net in (self.discriminator, self.self_critic) for p in net.parameters()]

    @staticmethod
    def load(run: str | Path = "runs/latest", checkpoint: str = "best", device: str = "cpu") -> InfoAE:
        """Load a trained model from a run folder, ready to use.

        `checkpoint` is "best" (by the score) or "newest". Raises InfoAEError for a missing run or a damaged checkpoint.
        Nothing is unpickled.
        """
        return InfoAE.of_run(Run.open(run), checkpoint).to(device)

    @staticmethod
    def of_run(run: Run, which: str = "best") -> InfoAE:
        """Build the model of a run and fill it from its "best" or "newest" checkpoint. Raises InfoAEError."""
        path, model = run.checkpoint(which), InfoAE(run.config().model)
        with checkpoints.fitting(path):
            model.load_state_dict(checkpoints.weights(path))
        return model.eval()

    def encode(self, images: Array) -> Tensor:
        """Images -> latents (B, Z)."""
        return self._batched(images, self.encoder)

    def classify(self, images: Array) -> Tensor:
        """Images -> probabilities of the categories (B, K); `.argmax(1)` is the label."""
        return self.merge_probabilities(self.classify_over(images))

    def classify_over(self, images: Array) -> Tensor:
        """Images -> probabilities of the over-categories (B, M); the same as `classify` where M is K."""
        return self._batched(images, lambda x: self.classifier(self.encoder(x)).softmax(1))

    def head_logits(self, z: Tensor) -> Tensor:
        """Latents (B, Z) -> logits (H, B, M) of each head; the first is the classifier's."""
        return networks.classify_all([self.classifier, *self.other_heads], z)

    def classify_heads(self, images: Array) -> Tensor:
        """Images -> probabilities of each head's over-categories (B, H, M)."""
        return self._batched(images, lambda x: self.head_logits(self.encoder(x)).softmax(-1).transpose(0, 1))

    def merge_probabilities(self, over: Tensor) -> Tensor:
        """Probabilities of over-categories (B, M) -> of categories (B, K)."""
        return over @ F.one_hot(self.category_of.to(over.device), self.num_categories).to(over)

    def decode(self, latents: Tensor | NDArray[np.float32]) -> Tensor:
        """Latents (B, Z) -> images (B, C, H, W) in [0, 1]."""
        z = torch.as_tensor(latents, dtype=torch.float32)
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise ValueError(f"latents must be (B, {self.latent_dim}), not {tuple(z.shape)}")
        return self._run(z.split(BATCH), lambda part: torch.sigmoid(self.decoder(part)))

    def generate(self, category: int, count: int, seed: int = 0) -> Tensor:
        """Draw `count` images (count, C, H, W) in [0, 1] of one category in 0..K-1."""
        if not 0 <= category < self.num_categories:
            raise ValueError(f"category must be in 0..{self.num_categories - 1}, not {category}")
        return self.decode(self.draw_latents(torch.full((count,), category), seed))

    def draw_latents(self, categories: Tensor, seed: int = 0) -> Tensor:
        """Draw a latent from the generator for each category index (B,) -> (B, Z)."""
        u = torch.rand(len(categories), self.noise_dim, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        c = F.one_hot(self.choose_over(categories, u[:, 0]).cpu(), self.num_over_categories).float()
        parts = torch.cat([u, c], 1).split(BATCH)
        return self._run(parts, lambda uc: self.generator(*uc.tensor_split([self.noise_dim], 1)))

    def draw_categories(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw category indices (count,) on the CPU, each as often as `prior` (K,) says."""
        if self._uniform:  # known without asking the device
            return torch.randint(self.num_categories, (count,), generator=generator)
        return torch.multinomial(self.prior.cpu(), count, replacement=True, generator=generator)

    def choose_over(self, categories: Tensor, u: Tensor) -> Tensor:
        """Choose an over-category of each category index (B,), by its share, with noise u (B,) in [-1, 1]."""
        up_to = self.chosen_up_to[categories.to(self.chosen_up_to.device)]
        return (up_to >= u.to(up_to)[:, None]).int().argmax(1)  # the first that reaches the noise

    def interpolate(self, start: Array, end: Array, steps: int = 10) -> Tensor:
        """Decode the straight line between the latents of two batches of images: (B, steps, C, H, W) in [0, 1].

        The first and last step are the reconstructions of `start` and `end` (paper section 4, figure 2c and 2d).
        """
        first, last = self.encode(start), self.encode(end)
        weight = torch.linspace(0, 1, steps)[None, :, None]
        line = torch.lerp(first[:, None], last[:, None], weight)
        return self.decode(line.flatten(0, 1)).reshape(len(first), steps, *self.image_shape)

    def to_input(self, images: Array) -> Tensor:
        """Bring images to the networks' input: float32 (B, C, H, W) in [0, 1] on the CPU. Raises ValueError."""
        x = images if isinstance(images, Tensor) else torch.tensor(images)
        x = x.unsqueeze(1) if x.ndim == 3 and self.channels == 1 else x
        wanted = self.image_shape
        if x.ndim != 4 or tuple(x.shape[1:]) != wanted:
            raise ValueError(f"images must be (B, {wanted[0]}, {wanted[1]}, {wanted[2]}), not {tuple(x.shape)}")
        if x.dtype == torch.uint8:
            return x.float() / 255
        if not x.is_floating_point():
            raise ValueError(f"images must be uint8 in 0..255 or floats in [0, 1], not {x.dtype}")
        if len(x) and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError("float images must lie in [0, 1]; give uint8 for 0..255")
        return x.float()

    def _batched(self, images: Array, function: _Function) -> Tensor:
        parts = (images[start : start + BATCH] for start in range(0, max(len(images), 1), BATCH))
        return self._run((self.to_input(part) for part in parts), function)

    @torch.inference_mode()
    def _run(self, parts: Iterable[Tensor], function: _Function) -> Tensor:
        device = next(self.parameters()).device
        training = self.training
        self.eval()
        try:
            return torch.cat([function(part.to(device)).float().cpu() for part in parts])
        finally:
            self.train(training)
