"""The Fréchet distance of generated from real images, in the features of a fixed small network (Heusel et al. 2017).

The network that comes with infoae told MNIST's digits apart once, with labels; it serves this measure alone.
`python benchmarks/frechet_network.py` trains it again. Other images are brought to its 28 x 28 grey pixels, so that a
distance compares models of the same images, and says little in itself where images are no strokes.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load
from torch import Tensor, nn

Floats = NDArray[np.float64]

FEATURES = 64
SIDE = 28
BATCH = 250  # what it makes of them fits into a CPU's cache
WEIGHTS = "frechet.safetensors"


class FeatureNetwork(nn.Module):
    """Grey images (B, 1, 28, 28) in [0, 1] -> logits of ten digits; `features` are what it tells them apart by."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 9, FEATURES), nn.ReLU())
        self.digits = nn.Linear(FEATURES, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 10) of the digits in images (B, 1, H, W)."""
        logits: Tensor = self.digits(self.features(x))
        return logits


@torch.inference_mode()
def features(images: Tensor) -> Floats:
    """Images (N, C, H, W) in [0, 1] -> features (N, 64)."""
    parts = (F.interpolate(part.mean(1, keepdim=True), (SIDE, SIDE), mode="bilinear") for part in images.split(BATCH))
    return np.concatenate([_network().features(part).double().numpy() for part in parts])


def distance(first: Floats, second: Floats) -> float:
    """Return the Fréchet distance of two sets of features (N, D), (M, D), taken as normally distributed.

    |m - n|^2 + tr(S) + tr(T) - 2 tr((S T)^1/2) with means m, n and covariances S, T; NaN if either has fewer than two.
    """
    if min(len(first), len(second)) < 2:
        return float("nan")
    s, t = (np.cov(values, rowvar=False) for values in (first, second))
    values, axes = np.linalg.eigh(s)
    root = (axes * np.sqrt(values.clip(0))) @ axes.T
    common = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()  # of S T: similar to the symmetric root T root
    apart = first.mean(0) - second.mean(0)
    return float(apart @ apart + np.trace(s) + np.trace(t) - 2 * common)


@cache
def _network() -> FeatureNetwork:
    network: FeatureNetwork = FeatureNetwork().eval().to(memory_format=torch.channels_last)
    network.load_state_dict(load((files("infoae.evaluation") / WEIGHTS).read_bytes()))
    return network
