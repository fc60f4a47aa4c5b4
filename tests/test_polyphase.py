"""Convolutions on the phases of an image are torch's own, in values, gradients and weights."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from infoae.polyphase import PhaseConv2d, PhaseConvTranspose2d


def _with_gradients(layer: nn.Module, x: Tensor) -> list[Tensor]:
    y: Tensor = layer(x)
    weights = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    return [y, *torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])]


def _assert_alike(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    theirs.load_state_dict(ours.state_dict())
    for training in (True, False):
        found, expected = (_with_gradients(layer.train(training), x) for layer in (ours, theirs))
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (2, 3, 9, 9), (1, 1, 28, 28), (2, 4, 15, 8)])
@pytest.mark.parametrize("spectral", [False, True])
def test_a_convolution_on_phases_is_torchs(shape: tuple[int, ...], spectral: bool) -> None:
    ours, theirs = PhaseConv2d(shape[1], 6).double(), nn.Conv2d(shape[1], 6, 4, 2, 1).double()
    if spectral:
        for layer in (ours, theirs):
            nn.utils.parametrizations.spectral_norm(layer)
    _assert_alike(ours, theirs, torch.randn(shape, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("image_channels", [1, 3])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_transposed_convolution_on_phases_is_torchs(image_channels: int, odd: int) -> None:
    ours = PhaseConvTranspose2d(6, image_channels, odd).double()
    theirs = nn.ConvTranspose2d(6, image_channels, 4, 2, 1, output_padding=odd).double()
    x = torch.randn(2, 6, 7, 5, dtype=torch.float64, requires_grad=True)
    assert ours(x).shape == (2, image_channels, 14 + odd, 10 + odd)
    _assert_alike(ours, theirs, x)
