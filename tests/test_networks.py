from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from infoae import convolutional, networks
from infoae.config import Config, Model
from infoae.model import InfoAE
from tests.helpers.models import sides_of


@pytest.mark.parametrize("image_size", [8, 15, 16, 28, 32, 33, 64, 96])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", ["dcgan", "infogan"])
def test_the_six_networks_map_the_stated_shapes(image_size: int, channels: int, architecture: Any) -> None:
    sizes: dict[str, Any] = {"width": 4, "feature_dim": 12, "hidden_dim": 8, "latent_dim": 6}
    model = InfoAE(Model(channels=channels, image_size=image_size, architecture=architecture, **sizes))
    x = torch.rand(2, channels, image_size, image_size)
    z = model.encoder(x)
    assert z.shape == (2, 6)
    assert model.decoder(z).shape == x.shape
    assert model.generator(torch.rand(2, 100), torch.eye(10)[:2]).shape == (2, 6)
    assert model.classifier(z).shape == (2, 10)
    assert model.discriminator(x).shape == model.self_critic(x, z).shape == (2,)


def test_the_generator_may_have_more_hidden_units() -> None:
    sizes = [InfoAE(Model(channels=1, image_size=8, hidden_dim=8, generator_hidden_dim=wider)) for wider in (None, 24)]
    for model, generator_units in zip(sizes, (8, 24), strict=True):
        units = [network.layers[0].out_features for network in (model.generator, model.classifier)]
        assert units == [generator_units, 8]


def test_stages_halve_down_to_four_pixels() -> None:
    assert convolutional.stage_sizes(28) == [28, 14, 7, 3]
    assert convolutional.stage_sizes(32) == [32, 16, 8, 4]
    assert convolutional.stage_channels(32, 5) == [32, 64, 128, 256, 256]
    assert convolutional.stage_sizes(28, 8) == [28, 14, 7]
    assert convolutional.stage_sizes(8, 8) == [8, 4]


def test_architecture_infogan_is_that_of_its_authors() -> None:
    """Chen et al. (2016), appendix C.1: their discriminator's and generator's parameters on MNIST, layer by layer."""
    model = InfoAE(Model(channels=1, image_size=28, architecture="infogan", width=64))
    convolutions = [16 * 64 + 64, 16 * 64 * 128 + 2 * 128, 128 * 49 * 1024 + 2 * 1024]
    assert sum(p.numel() for p in model.discriminator.features.parameters()) == sum(convolutions)
    transposed = [64 * 1024 + 2 * 1024, 1024 * 6272 + 2 * 6272, 16 * 128 * 64 + 2 * 64, 16 * 64 + 1]
    assert sum(p.numel() for p in model.decoder.parameters()) == sum(transposed)
    deviation = model.decoder.get_parameter("layers.3.weight").std().item()
    assert deviation == pytest.approx(0.02, rel=0.01)


def test_normalisation_everywhere_but_in_first_and_last_layers_and_no_pooling() -> None:
    model = InfoAE(Model(channels=1, image_size=28))
    modules = list(model.modules())
    assert not any("Pool" in type(module).__name__ for module in modules)
    for network in (model.encoder, model.discriminator, model.self_critic):
        assert isinstance(network.features, convolutional.Features)
        layers = list(network.features)
        assert not isinstance(layers[1], nn.BatchNorm2d)  # after the first convolution
        convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
        assert all(isinstance(layers[i + 1], nn.BatchNorm2d) for i in convolutions[1:])
    decoder = [layer for layer in model.decoder.layers if not isinstance(layer, nn.ReLU | nn.Unflatten)]
    kinds = [type(layer).__name__ for layer in decoder]
    normalised = ["PatchConvTranspose2d", "BatchNorm2d"]
    assert kinds == ["Linear", *normalised, *normalised, "PhaseConvTranspose2d"]


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_critics_without_batch_normalisation_have_none(norm: Any) -> None:
    model = InfoAE(Model(channels=1, image_size=28, critic_norm=norm))
    for network in (model.discriminator, model.self_critic):
        assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
        spectral = any("parametrizations" in name for name, _ in network.named_parameters())
        assert spectral == (norm == "spectral")
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.encoder.modules())


def test_a_self_critic_of_its_own_normalisation_has_it_in_every_layer() -> None:
    model = InfoAE(Model(channels=1, image_size=28, architecture="infogan", self_critic_norm="spectral"))
    layers = [m for m in model.self_critic.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert len(layers) == 5
    assert all(nn.utils.parametrize.is_parametrized(layer, "weight") for layer in layers)
    assert not any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in model.self_critic.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.discriminator.modules())


def test_initial_weights_have_the_deviation_of_infogan_but_where_their_scale_has_no_effect() -> None:
    model = InfoAE(Model(channels=1, image_size=28, architecture="infogan", self_critic_norm="spectral"))
    deviation = {
        name: p.detach().std().item() for name, p in model.named_parameters() if p.ndim > 1 and p.numel() > 9000
    }
    plain = {name: value for name, value in deviation.items() if "parametrizations" not in name}
    assert len(plain) >= 6
    assert all(abs(value - 0.02) < 0.001 for value in plain.values()), plain


def test_the_two_sides_share_no_parameter_and_leave_none_out() -> None:
    model = InfoAE(Model(channels=1, image_size=28))
    sides = [{id(p) for p in side} for side in sides_of(model, Config())]
    assert not sides[0] & sides[1]
    assert sides[0] | sides[1] == {id(p) for p in model.parameters()}


def test_classifiers_at_once_are_each_by_itself() -> None:
    torch.manual_seed(0)
    several = [networks.Classifier(5, 7, 4) for _ in range(3)]
    z = torch.randn(6, 5, requires_grad=True)
    parameters = [z, *(p for classifier in several for p in classifier.parameters())]
    at_once, apart = networks.classify_all(several, z), torch.stack([classifier(z) for classifier in several])
    assert at_once.shape == (3, 6, 4)
    gradients = [torch.autograd.grad(logits.sin().sum(), parameters) for logits in (at_once, apart)]
    torch.testing.assert_close(at_once, apart)
    torch.testing.assert_close(gradients[0], gradients[1])
