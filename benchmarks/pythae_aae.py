"""One epoch of pythae's adversarial autoencoder by its own trainer: the child program of benchmarks/peers.py.

    PYTHON benchmarks/pythae_aae.py IMAGES.npy BATCH_SIZE HIDDEN_DIM LATENT_DIM

PYTHON is of an environment that has pythae; nothing of infoae is imported. Images are uint8 (N, C, H, W). Layers are as
those of infoae's method aae; but pythae knows one code and one discriminator. Prints JSON: images per second of the
epoch, and the number of parameters. A few batches are trained on first, and not counted.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import Adversarial_AE, Adversarial_AE_Config
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseDiscriminator, BaseEncoder
from pythae.trainers import AdversarialTrainer, AdversarialTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

WARM_UP = 3  # steps


class Epoch(TrainingCallback):  # type: ignore[misc]
    """Takes the time of the last epoch, without what a training does before and after it."""

    seconds = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._started


def perceptron(inputs: int, hidden: int, outputs: int, normalised: bool = False) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in ((inputs, hidden), (hidden, hidden), (hidden, outputs)):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if normalised else []), nn.ReLU()]
    return layers[:-1]


class Encoder(BaseEncoder):  # type: ignore[misc]
    """Images -> codes, of no variance."""

    def __init__(self, pixels: int, hidden: int, latents: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *perceptron(pixels, hidden, latents, normalised=True))

    def forward(self, x: Tensor) -> Any:
        z = self.layers(x)
        return ModelOutput(embedding=z, log_covariance=torch.zeros_like(z))


class Decoder(BaseDecoder):  # type: ignore[misc]
    """Codes -> images."""

    def __init__(self, pixels: int, hidden: int, latents: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*perceptron(latents, hidden, pixels), nn.Sigmoid())

    def forward(self, z: Tensor) -> Any:
        return ModelOutput(reconstruction=self.layers(z))


class Discriminator(BaseDiscriminator):  # type: ignore[misc]
    """Codes -> whether they are the prior's."""

    def __init__(self, hidden: int, latents: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*perceptron(latents, hidden, 1), nn.Sigmoid())

    def forward(self, z: Tensor) -> Any:
        return ModelOutput(embedding=self.layers(z))


def seconds_of_an_epoch(model: Adversarial_AE, images: Tensor, batch_size: int) -> float:
    """Train one epoch on images (N, C, H, W) in [0, 1]."""
    epoch = Epoch()
    with tempfile.TemporaryDirectory() as folder:
        config = AdversarialTrainerConfig(output_dir=folder, per_device_train_batch_size=batch_size, num_epochs=1)
        dataset = BaseDataset(images, torch.zeros(len(images)))
        AdversarialTrainer(model, dataset, training_config=config, callbacks=[epoch]).train()
    return epoch.seconds


def main() -> None:
    images = torch.from_numpy(np.load(sys.argv[1])).float() / 255
    batch_size, hidden, latents = map(int, sys.argv[2:])
    pixels = images[0].numel()
    config = Adversarial_AE_Config(input_dim=tuple(images.shape[1:]), latent_dim=latents, deterministic_posterior=True)
    networks = Encoder(pixels, hidden, latents), Decoder(pixels, hidden, latents), Discriminator(hidden, latents)
    model = Adversarial_AE(config, *networks)
    seconds_of_an_epoch(model, images[: WARM_UP * batch_size], batch_size)
    seconds = seconds_of_an_epoch(model, images, batch_size)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(json.dumps({"images_per_second": len(images) / seconds, "parameters": parameters}))


if __name__ == "__main__":
    main()
