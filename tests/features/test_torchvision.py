"""torchvision:NAME: without its last layer, as PyTorch computes it; never downloaded unasked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from infoae.config import Features
from infoae.errors import UsageError
from infoae.features import torchvision
from infoae.features.encoder import FrozenEncoder, opened, path_of


def test_a_network_without_its_last_layer_is_what_pytorch_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path))
    torch.manual_seed(0)
    network = models.get_model("shufflenet_v2_x0_5", weights=None).eval()
    before: list[torch.Tensor] = []
    assert isinstance(network.fc, nn.Linear)
    network.fc.register_forward_pre_hook(lambda _, inputs: before.append(inputs[0]))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, 64, 64), np.uint8)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.25])
    with torch.no_grad():
        network((torch.tensor(pictures) / 255 - mean[:, None, None]) / std[:, None, None])
    stated = SimpleNamespace(crop_size=[64], mean=mean.tolist(), std=std.tolist())
    headless = torchvision.without_head(network, "shufflenet_v2_x0_5")
    torchvision.export(headless, path_of("torchvision:shufflenet_v2_x0_5"), stated)
    found = opened(Features(encoder="torchvision:shufflenet_v2_x0_5"))
    assert isinstance(found, FrozenEncoder)
    assert (found.dim, found.image.shape, found.batch) == (1024, (3, 64, 64), None)
    np.testing.assert_allclose(found.features(pictures, "cpu"), before[0].numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet19", r"torchvision has no network 'resnet19'; near are .*resnet1(8|01)"),
        ("resnet18", r"weights of torchvision:resnet18 are not on this machine .*--download fetches them"),
    ],
)
def test_what_is_not_there_is_said_and_not_downloaded(
    name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(models, "get_model", None)
    with pytest.raises(UsageError, match=message):
        torchvision.prepare(Features(encoder=f"torchvision:{name}"))
    assert list(tmp_path.rglob("*.*")) == []


def test_a_network_that_ends_in_a_convolution_is_refused() -> None:
    with pytest.raises(UsageError, match="does not end in a linear layer"):
        torchvision.without_head(models.get_model("squeezenet1_0", weights=None), "squeezenet1_0")


def test_one_that_was_never_made_says_how_to() -> None:
    with pytest.raises(UsageError, match="not made yet on this machine: infoae train --features torchvision:none does"):
        opened(Features(encoder="torchvision:none"))
