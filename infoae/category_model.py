"""What every method trains: networks that give images categories, and that may draw images of each category."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import ClassVar, Self, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from infoae.config import Model
from infoae.runs import checkpoint
from infoae.runs.run import Run

Array: TypeAlias = Tensor | NDArray[np.uint8] | NDArray[np.float32] | NDArray[np.float64]

_Function: TypeAlias = Callable[[Tensor], Tensor]

BATCH = 1000  # images or latents at once outside training: enough to keep a CPU or GPU busy, small in memory


class CategoryModel(nn.Module, ABC):
    """An encoder and a classifier, and what a method has beside them.

    Images are (B, C, H, W), or (B, H, W) for one channel; uint8 in 0..255 or floats in [0, 1]; arrays or tensors. What
    sees them may be given features (B, D) in their place, if the model is of a frozen encoder's.
    Results are float32 tensors on the CPU. K is `num_categories`, M `num_over_categories`, Z `latent_dim`.
    """

    method: ClassVar[str]
    """Name of the method that trains it."""
    no_decoder: ClassVar[str | None] = None
    """Why no latent of `encode` can be decoded; None where it can."""
    no_generator: ClassVar[str | None] = None
    """Why no image of a category can be drawn; None where it can."""
    draws_bits: ClassVar[bool] = False
    """Whether generated pixels are drawn as 0 or 1 one after the other, so that rounding may change what follows."""

    encoder: nn.Module
    """Images (B, C, H, W) in [0, 1], or features (B, D) -> latents (B, Z)."""
    classifier: nn.Module
    """Latents (B, Z) -> logits (B, M)."""
    category_of: Tensor
    """The category of each over-category (M,)."""

    def __init__(self, config: Model, num_categories: int, latent_dim: int, noise_dim: int) -> None:
        super().__init__()
        self.channels, self.image_size = config.image_shape()
        self.num_categories, self.latent_dim, self.noise_dim = num_categories, latent_dim, noise_dim
        self.num_over_categories = config.num_over_categories or num_categories
        self.merges = config.num_over_categories is not None  # as many as categories are numbered anew by the vote, too
        self.register_buffer("category_of", torch.arange(self.num_over_categories), persistent=self.merges)

    def fill(self, run: Run, which: str = "best") -> Self:
        """Take the weights of a run's "best" or "newest" checkpoint; returns itself, in evaluation mode.

        Raises InfoAEError if they are damaged or of other networks.
        """
        path = run.checkpoint(which)
        with checkpoint.fitting(path):
            self.load_state_dict(checkpoint.weights(path))
        return self.eval()

    @abstractmethod
    def generated(self, u: Tensor, c: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of noise u (B, U) in [-1, 1] and one-hot over-categories c (B, M)."""

    def decoded(self, z: Tensor) -> Tensor:
        """Return images (B, C, H, W) in [0, 1] of latents z (B, Z)."""
        raise NotImplementedError(self.no_decoder)

    def choose_over(self, categories: Tensor, u: Tensor) -> Tensor:  # noqa: ARG002  for those that merge
        """Choose an over-category of each category index (B,) with noise u (B,) in [-1, 1]: where M is K, itself."""
        return categories

    @property
    def encodes_images(self) -> bool:
        """Whether it can encode any image: not where the features of its images came from elsewhere."""
        return True

    @property
    def features_dim(self) -> int | None:
        """D where the encoder is one of features (B, D), made by a frozen encoder; None where it is one of images."""
        return None

    @property
    def seen_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that are encoded, which may be larger than those that are drawn."""
        return self.image_shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.image_size, self.image_size

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
        logits: Tensor = self.classifier(z)
        return logits[None]

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
        return self._run(z.split(BATCH), self.decoded)

    def generate(self, category: int, count: int, seed: int = 0) -> Tensor:
        """Draw `count` images (count, C, H, W) in [0, 1] of one category in 0..K-1. Raises ValueError for others."""
        if self.no_generator is not None:
            raise NotImplementedError(self.no_generator)
        if not 0 <= category < self.num_categories:
            raise ValueError(f"category must be in 0..{self.num_categories - 1}, not {category}")
        if count < 0:
            raise ValueError(f"the number of images must be 0 or more, not {count}")
        return self.draw_images(torch.full((count,), category), seed)

    def draw_images(self, categories: Tensor, seed: int = 0) -> Tensor:
        """Draw an image for each category index (B,) -> (B, C, H, W) in [0, 1]."""
        u = torch.rand(len(categories), self.noise_dim, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        return self.images_of(u, categories)

    def images_of(self, u: Tensor, categories: Tensor) -> Tensor:
        """Noise u (B, U) in [-1, 1] and category indices (B,) -> images (B, C, H, W) in [0, 1]."""
        c = F.one_hot(self.choose_over(categories, u[:, 0]).cpu(), self.num_over_categories).float()
        parts = torch.cat([u, c], 1).split(BATCH)
        return self._run(parts, lambda uc: self.generated(*uc.tensor_split([self.noise_dim], 1)))

    def draw_categories(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw category indices (count,) on the CPU, each as often as any other."""
        return torch.randint(self.num_categories, (count,), generator=generator)

    def interpolate(self, start: Array, end: Array, steps: int = 10) -> Tensor:
        """Decode the straight line between the latents of two batches of images: (B, steps, C, H, W) in [0, 1].

        The first and last step are the reconstructions of `start` and `end` (paper section 4, figure 2c and 2d).
        """
        first, last = self.encode(start), self.encode(end)
        weight = torch.linspace(0, 1, steps)[None, :, None]
        line = torch.lerp(first[:, None], last[:, None], weight)
        return self.decode(line.flatten(0, 1)).reshape(len(first), steps, *self.image_shape)

    def to_encoder(self, images: Array) -> Tensor:
        """Bring images to what the encoder takes, a tensor on the CPU. Raises ValueError."""
        return self.to_input(images)

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
        return self._run((self.to_encoder(part) for part in parts), function)

    @torch.inference_mode()
    def _run(self, parts: Iterable[Tensor], function: _Function) -> Tensor:
        device = next(self.parameters()).device
        training = self.training
        self.eval()
        try:
            return torch.cat([function(part.to(device)).float().cpu() for part in parts])
        finally:
            self.train(training)
