"""Models and stages for tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from infoae.category_model import CategoryModel
from infoae.config import Config, Model
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.stages import Stage


def lively(channels: int = 1, image_size: int = 28, **sizes: Any) -> InfoAE:
    """A model whose batch normalisations hold statistics that matter."""
    torch.manual_seed(0)
    settings = Model(channels=channels, image_size=image_size, width=4, hidden_dim=16, latent_dim=8, **sizes)
    model = InfoAE(settings).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.uniform_(module.running_mean, -1, 1)
            nn.init.uniform_(module.running_var, 0.2, 3)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.uniform_(module.bias, -1, 1)
    return model


def sides_of(model: CategoryModel, config: Config) -> list[list[nn.Parameter]]:
    """Return the parameters of each side of the method that trains a model."""
    return [side.parameters for side in method_of(config).sides(model, config)]


def last_stage(config: Config) -> Stage:
    """Return the stage in which everything is trained."""
    return schedule_of(config).stages[-1]
