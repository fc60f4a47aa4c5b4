"""Strided convolutions with a weight gradient of their own are torch's, in values and gradients."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from infoae import patches
from infoae.patches import PatchConv2d, PatchConvTranspose2d

SIDES = [(6, 6), (7, 7), (8, 8), (9, 9), (5, 7), (2, 3), (20, 4)]  # of the larger image; the last is too large
SMALL = [(1, 1), (3, 3), (4, 4), (2, 3), (9, 2)]
BF16 = torch.bfloat16


def pair(transposed: bool, odd: int = 0, bias: bool = False) -> tuple[nn.Module, nn.Module]:
    """Return one of ours, and torch's of equal weights, in float64."""
    torch.manual_seed(0)
    if transposed:
        ours: nn.Module = PatchConvTranspose2d(3, 5, odd)
        theirs: nn.Module = nn.ConvTranspose2d(3, 5, 4, 2, 1, output_padding=odd, bias=False)
    else:
        ours, theirs = PatchConv2d(3, 5, bias), nn.Conv2d(3, 5, 4, 2, 1, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    return ours.double(), theirs.double()


def images(sides: tuple[int, int]) -> Tensor:
    x = torch.randn(6, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def weighed(y: Tensor) -> Tensor:
    """Return a sum of which each value has a gradient of its own."""
    return (y * torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(2))).sum()


def assert_alike(ours: nn.Module, theirs: nn.Module, sides: tuple[int, int]) -> None:
    """Compare values and gradients: of all, of the weights alone, of the input alone, and of what needs none."""
    for training in (True, False):
        for wanted in ("all", "weights", "input", "unasked"):
            results = []
            for layer in (ours.train(training), theirs.train(training)):
                x, parameters = images(sides), list(layer.parameters())
                layer.zero_grad()
                inner = x * 1.0  # as of a layer before
                if wanted == "unasked":
                    inner = inner.detach()
                y = layer(inner)
                asked = {"all": None, "weights": parameters, "input": [x], "unasked": None}[wanted]
                weighed(y).backward(inputs=asked)
                results.append([y, x.grad, *(parameter.grad for parameter in parameters)])
            assert [each is None for each in results[0]] == [each is None for each in results[1]]
            assert (results[0][1] is None) == (wanted in ("weights", "unasked"))
            for found, expected in zip(*results, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("spectral", [False, True])
def test_a_convolution_is_torchs(sides: tuple[int, int], bias: bool, spectral: bool) -> None:
    layers = pair(transposed=False, bias=bias)
    if spectral:
        for layer in layers:
            torch.manual_seed(3)  # for the same first guess
            nn.utils.parametrizations.spectral_norm(layer)
    assert_alike(*layers, sides)


@pytest.mark.parametrize("sides", SMALL)
@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("spectral", [False, True])
def test_a_transposed_convolution_is_torchs(sides: tuple[int, int], odd: int, spectral: bool) -> None:
    layers = pair(transposed=True, odd=odd)
    if spectral:
        for layer in layers:
            torch.manual_seed(3)
            nn.utils.parametrizations.spectral_norm(layer)
    assert_alike(*layers, sides)


def test_an_output_size_is_torchs() -> None:
    ours, theirs = pair(transposed=True)
    x = images((3, 3))
    torch.testing.assert_close(ours(x, output_size=[7, 6]), theirs(x, output_size=[7, 6]), rtol=1e-12, atol=1e-12)


def test_two_gradients_through_one_graph_are_torchs() -> None:
    """As of two sides, each of which asks for its own."""
    results = []
    for first in pair(transposed=False):
        second = copy.deepcopy(first)
        x = images((8, 8))
        loss = weighed(first(x)) * weighed(second(x))
        loss.backward(inputs=list(first.parameters()), retain_graph=True)
        loss.backward(inputs=[x, *second.parameters()])
        results.append([x.grad, *(p.grad for p in (*first.parameters(), *second.parameters()))])
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, BF16])
def test_under_autocast_it_is_close_to_torchs(transposed: bool, dtype: torch.dtype) -> None:
    """Of an input that is of either type: some layers' outputs are rounded, others' not."""
    results = []
    for layer in pair(transposed, bias=not transposed):
        layer.float().train()
        x = images((4, 4)).detach().to(dtype).requires_grad_()
        with torch.autocast("cpu", BF16):
            y = layer(x)
        y.float().square().sum().backward()
        results.append([y, x.grad, *(parameter.grad for parameter in layer.parameters())])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        difference = (found.float() - expected.float()).norm()
        assert difference < 0.02 * expected.float().norm()


@pytest.mark.parametrize("transposed", [False, True])
def test_the_weight_gradient_is_computed_only_where_it_is_asked_for(transposed: bool) -> None:
    layer = pair(transposed)[0]
    counted = mock.patch.object(patches, "_weight_gradient", wraps=patches._weight_gradient)
    with counted as calls:

        def took(**options: object) -> int:
            before = calls.call_count
            weighed(layer(inputs)).backward(**options)
            return calls.call_count - before

        inputs = images((4, 4))
        assert took() == 1
        assert took(inputs=list(layer.parameters())) == 1
        assert took(inputs=[inputs]) == 0
        layer.requires_grad_(False)
        assert took() == 0
        layer.requires_grad_(True).eval()
        assert took() == 0  # torch's own


@pytest.mark.parametrize("transposed", [False, True])
def test_patches_are_of_small_images_alone(transposed: bool) -> None:
    layer = pair(transposed)[0]
    largest = patches.LARGEST * (1 if transposed else 2)
    with mock.patch.object(patches, "_weight_gradient", wraps=patches._weight_gradient) as calls:
        for more, count in ((0, 1), (2, 1)):
            weighed(layer(images((2, largest + more)))).backward()
            assert calls.call_count == count
