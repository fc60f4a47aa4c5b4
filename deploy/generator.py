"""`Generator`: images of a category and images between two others, from a bundle through onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infoae.deploy.bundle import Bundle, Manifest
from infoae.deploy.classifier import BATCH_SIZE
from infoae.deploy.onnx_session import open_session, run_session
from infoae.errors import InfoAEError
from infoae.gpu import Device


class Generator:
    """The generator and the decoder of a bundle."""

    manifest: Manifest

    def __init__(
        self, bundle: str | Path | Bundle, device: str = Device.AUTO, *, num_threads: int | None = None
    ) -> None:
        """Open both graphs of `bundle`; arguments and errors as in Classifier."""
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.manifest = bundle.manifest
        self._generator = open_session(bundle, "generator", device, num_threads)
        self._decoder = open_session(bundle, "decoder", device, num_threads)

    def generate(self, category: int, count: int, seed: int) -> NDArray[np.float32]:
        """Return `count` images of `category`, float32 (count, C, H, W) in [0, 1]; the same for the same `seed`.

        Raises InfoAEError where there is no such category.
        """
        if not 0 <= category < self.manifest.num_categories:
            raise InfoAEError(f"no category {category}: this model has 0 to {self.manifest.num_categories - 1}")
        low, high = self.manifest.noise_range
        random = np.random.default_rng([seed, category])
        noise = random.uniform(low, high, (count, self.manifest.noise_dim)).astype(np.float32)
        categories = np.full(count, category, np.int64)
        images = np.empty((count, *self.manifest.image.shape), np.float32)
        for start in range(0, count, BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            inputs = {"noise": noise[batch], "category": categories[batch]}
            (images[batch],) = run_session(self._generator, ["images"], inputs, BATCH_SIZE)
        return images

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the images of `latent` float32 (N, Z) as float32 (N, C, H, W) in [0, 1]."""
        images = np.empty((len(latent), *self.manifest.image.shape), np.float32)
        for start in range(0, len(latent), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            (images[batch],) = run_session(self._decoder, ["images"], {"latent": latent[batch]}, BATCH_SIZE)
        return images

    def interpolate(
        self, first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the images at (1 - weight) * first + weight * second, float32 (N, C, H, W) in [0, 1].

        `first` and `second` are latents, float32 (N, Z); `weight` is float32 (N,).
        """
        return self.decode(first + weight[:, None] * (second - first))
