"""The residual encoder: shapes of every size, a block by hand, and the field's numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoae.config import Features, Model
from infoae.convolutional import ConvFeatures
from infoae.model import InfoAE
from infoae.residual import BasicBlock, ResidualFeatures

SMALL: dict[str, Any] = {"width": 4, "hidden_dim": 8, "latent_dim": 6}


@pytest.mark.parametrize("image_size", [8, 9, 15, 16, 28, 32, 33, 64, 65, 96, 128, 200])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("blocks", [1, 2])
def test_the_networks_map_the_stated_shapes(image_size: int, channels: int, blocks: int) -> None:
    model = InfoAE(Model(channels=channels, image_size=image_size, encoder="residual", encoder_blocks=blocks, **SMALL))
    x = torch.rand(2, channels, image_size, image_size)
    z = model.encoder(x)
    assert z.shape == (2, 6)
    assert model.decoder(z).shape == x.shape
    assert model.discriminator(x).shape == model.self_critic(x, z).shape == (2,)
    assert all(type(network.features) is ConvFeatures for network in (model.discriminator, model.self_critic))


@pytest.mark.parametrize(
    ("image_size", "sizes"),
    [
        (8, [8, 8, 4]),
        (9, [9, 9, 5, 3]),
        (16, [16, 16, 8, 4]),
        (28, [14, 14, 7, 4]),
        (32, [16, 16, 8, 4]),
        (33, [17, 9, 9, 5, 3]),
        (64, [32, 16, 16, 8, 4]),
        (96, [48, 24, 12, 12, 6, 3]),
        (128, [64, 32, 16, 16, 8, 4]),
        (256, [128, 64, 32, 16, 16, 8, 4]),
    ],
)
def test_the_image_is_halved_as_stated(image_size: int, sizes: list[int]) -> None:
    found = []
    features = ResidualFeatures(3, image_size, 2, 1)
    for part in features:
        if isinstance(part, (nn.Conv2d, BasicBlock)):
            part.register_forward_hook(lambda _module, _inputs, y: found.append(y.shape[-1]))
    assert features(torch.rand(2, 3, image_size, image_size)).shape == (2, features.num_features)
    assert found == sizes


def test_resnet_20_has_the_parameters_of_its_authors() -> None:
    """He et al. (2016), table 6: 0.27 million for n = 3 of width 16, without convolved shortcuts."""
    features = ResidualFeatures(3, 32, 16, 3)
    total = sum(parameter.numel() for parameter in features.parameters())
    shortcuts = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    last = 64 * 10 + 10
    assert total - shortcuts + last == 269_722  # as they are counted ever since


def _conv(x: Tensor, conv: nn.Module, stride: int, padding: int) -> Tensor:
    return F.conv2d(x, conv.get_parameter("weight"), None, stride, padding)


def _normalised(x: Tensor, norm: nn.Module, training: bool) -> Tensor:
    """Batch normalisation as it is defined, without PyTorch's."""
    if training:
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
    else:
        mean, var = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    mean, var, weight, bias = (
        each[:, None, None] for each in (mean, var, norm.get_parameter("weight"), norm.get_parameter("bias"))
    )
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


@pytest.mark.parametrize(("inputs", "stride"), [(6, 1), (6, 2), (3, 1), (3, 2)])
@pytest.mark.parametrize("training", [False, True])
def test_a_block_is_what_its_authors_say(inputs: int, stride: int, training: bool) -> None:
    torch.manual_seed(0)
    block = BasicBlock(inputs, 6, stride).double().train(training)
    for name, value in block.state_dict().items():
        if value.is_floating_point() and "0.weight" not in name and "3.weight" not in name:
            value.copy_(torch.rand_like(value) + 0.5)
    x = torch.randn(5, inputs, 7, 7, dtype=torch.float64)
    conv, norm, _, conv_2, norm_2 = block.body
    y = _normalised(_conv(x, conv, stride, 1), norm, training).clamp_min(0)
    y = _normalised(_conv(y, conv_2, 1, 1), norm_2, training)
    beside = x
    if len(block.shortcut):
        beside = _normalised(_conv(x, block.shortcut[0], stride, 0), block.shortcut[1], training)
    assert bool(len(block.shortcut)) == ((inputs, stride) != (6, 1))
    torch.testing.assert_close(block(x.clone()), (y + beside).clamp_min(0), rtol=1e-12, atol=1e-12)


def test_the_features_are_normalised_means_over_the_image() -> None:
    features = ResidualFeatures(1, 16, 3, 1).double()
    x = torch.rand(40, 1, 16, 16, dtype=torch.float64)
    before = nn.Sequential(*list(features)[:-3])(x)
    means = before.sum((2, 3)) / (before.shape[2] * before.shape[3])
    deviations = (means.var(0, correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(features(x), (means - means.mean(0)) / deviations, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("encoder", "features", "architecture", "differ"),
    [
        ("residual", Features(), "dcgan", True),
        ("strided", Features(encoder="given.onnx", dim=30), "dcgan", True),
        ("strided", Features(), "dcgan", False),
        ("residual", Features(), "infogan", False),
    ],
)
def test_heads_on_features_begin_apart(encoder: Any, features: Features, architecture: Any, differ: bool) -> None:
    """As He et al. (2015) say, on an orthogonal latent; elsewhere as PyTorch or the authors of InfoGAN draw weights."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"width": 8, "hidden_dim": 300, "latent_dim": 16, "num_heads": 2, "num_categories": 40}
    model = InfoAE(Model(channels=1, image_size=16, encoder=encoder, architecture=architecture, **sizes), features)
    weight = model.encoder.latent.weight.detach()
    assert torch.allclose(weight @ weight.mT, torch.eye(16), atol=1e-5) == differ
    for head in (model.classifier, *model.other_heads):
        first, last = (layer for layer in head.layers if isinstance(layer, nn.Linear))
        for layer, inputs in ((first, 16), (last, 300)):
            he = layer.weight.std().item() == pytest.approx((2 / inputs) ** 0.5, rel=0.05)
            assert he == differ
            assert (layer.bias == 0).all() == (differ or architecture == "infogan")


def test_weights_begin_as_he_et_al_say() -> None:
    torch.manual_seed(0)
    for module in ResidualFeatures(3, 32, 32, 1).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 9000:
            outputs = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / outputs) ** 0.5, rel=0.03)


def test_only_the_encoder_differs() -> None:
    shapes = []
    for encoder in ("strided", "residual"):
        model = InfoAE(Model(channels=3, image_size=32, encoder=encoder, **SMALL))
        shapes.append({name: p.shape for name, p in model.named_parameters() if not name.startswith("encoder.")})
    assert shapes[0] == shapes[1]
