"""`Generator`: images of a category and images between two others, from a bundle through onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infoae.deploy.bundle import Bundle, Manifest
from infoae.deploy.classifier import BATCH_SIZE
from infoae.deploy.onnx_session import open_session
from infoae.deploy.per_process import PerProcess
from infoae.errors import InfoAEError
from infoae.gpu import Device
from infoae.sessions import run_session


class Generator:
    """The generator and the decoder of a bundle, as far as it has them; as Classifier, also after a fork."""

    manifest: Manifest

    def __init__(
        self, bundle: str | Path | Bundle, device: str = Device.AUTO, *, num_threads: int | None = None
    ) -> None:
        """Open graphs of `bundle` as they are needed; arguments and errors as in Classifier."""
        bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        self.manifest = bundle.manifest
        self._bundle = bundle
        roles: tuple[Literal["generator", "decoder"], ...] = ("generator", "decoder")
        self._sessions = {
            role: PerProcess(partial(open_session, bundle, role, device, num_threads))
            for role in roles
            if role in bundle.manifest.files
        }

    def generate(self, category: int, count: int, seed: int) -> NDArray[np.float32]:
        """Return `count` images of `category`, float32 (count, C, H, W) in [0, 1]; the same for the same `seed`.

        Raises InfoAEError where there is no such category, or no generator.
        """
        images = np.empty((count, *self.manifest.drawn_image.shape), np.float32)
        done = 0
        for part in self.batches(category, count, seed):
            images[done : done + len(part)] = part
            done += len(part)
        return images

    def batches(self, category: int, count: int, seed: int) -> Iterator[NDArray[np.float32]]:
        """Yield the images of `generate` as they are made, at most BATCH_SIZE at a time. Raises as it does."""
        if not 0 <= category < self.manifest.num_categories:
            raise InfoAEError(f"no category {category}: this model has 0 to {self.manifest.num_categories - 1}")
        session = self._session("generator")
        low, high = self.manifest.noise_range
        random = np.random.default_rng([seed, category])
        for start in range(0, count, BATCH_SIZE):
            size = min(BATCH_SIZE, count - start)
            noise = random.uniform(low, high, (size, self.manifest.noise_dim)).astype(np.float32)
            inputs = {"noise": noise, "category": np.full(size, category, np.int64)}
            (images,) = run_session(session, ["images"], inputs, BATCH_SIZE)
            yield images

    def decode(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the images of `latent` float32 (N, Z) as float32 (N, C, H, W) in [0, 1].

        Raises InfoAEError where the bundle has no decoder.
        """
        session = self._session("decoder")
        images = np.empty((len(latent), *self.manifest.drawn_image.shape), np.float32)
        for start in range(0, len(latent), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            (images[batch],) = run_session(session, ["images"], {"latent": latent[batch]}, BATCH_SIZE)
        return images

    def interpolate(
        self, first: NDArray[np.float32], second: NDArray[np.float32], weight: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the images at (1 - weight) * first + weight * second, float32 (N, C, H, W) in [0, 1].

        `first` and `second` are latents, float32 (N, Z); `weight` is float32 (N,).
        """
        return self.decode(first + weight[:, None] * (second - first))

    def _session(self, role: Literal["generator", "decoder"]) -> Any:
        self._bundle.graph(role)  # which says why there is none
        return self._sessions[role].get()
