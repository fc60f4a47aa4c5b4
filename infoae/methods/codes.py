"""Codes that some methods share: a category as probabilities, and normal noise from uniform noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_TINY = 1e-12


class SoftmaxCode(nn.Module):
    """Logits of K categories and what else there is (B, K + S) -> probabilities and the rest (B, K + S)."""

    def __init__(self, num_categories: int) -> None:
        super().__init__()
        self.num_categories = num_categories

    def forward(self, code: Tensor) -> Tensor:
        """Return the code (B, K + S) with its first K values as probabilities, in float32."""
        logits = code[:, : self.num_categories]
        return torch.cat([logits.float().softmax(1), code[:, self.num_categories :].float()], 1)


class CategoryCode(nn.Module):
    """Latents (B, Z) that begin with K probabilities -> their logarithms (B, K), whose softmax they are."""

    def __init__(self, num_categories: int) -> None:
        super().__init__()
        self.num_categories = num_categories

    def forward(self, z: Tensor) -> Tensor:
        """Return log probabilities (B, K) of latents z (B, Z)."""
        return z[:, : self.num_categories].clamp_min(_TINY).log()


def normal(u: Tensor) -> Tensor:
    """Turn noise u (B, U), U even, uniform on [-1, 1], into standard normal values (B, U) (Box and Muller 1958).

    In the operations that ONNX has, so that a bundle's noise is uniform whatever the method.
    """
    radius, angle = u.float().chunk(2, 1)
    radius = (-2 * ((radius + 1) / 2).clamp_min(_TINY).log()).sqrt()
    return torch.cat([radius * (math.pi * angle).cos(), radius * (math.pi * angle).sin()], 1)
