"""Small trainings of each method."""

from __future__ import annotations

from infoae.config import Config, recipes
from infoae.config.methods import METHODS, methods_of
from tests.helpers.settings import TINY

RECIPES: dict[str, str] = {method: "smoke" if method == "infoae" else method for method in METHODS}
"""The recipe that a small training of each method starts from."""


def tiny(method: str) -> list[str]:
    """Return settings with which a recipe of `method` trains in a second."""
    small = [
        *TINY,
        "model.feature_dim=16",
        "model.pixelcnn_width=4",
        "model.pixelcnn_blocks=1",
        "stages.generation_epochs=0",
        "optim.decay_epochs=0",
        "optim.ema_decay=0.9",
    ]
    return [setting for setting in small if method in methods_of(setting.partition("=")[0])]


def tiny_config_of(method: str, *settings: str) -> Config:
    """Return the configuration of a small training of `method` on MNIST, its image shape filled in."""
    shape = ("model.channels=1", "model.image_size=28")
    return recipes.load(RECIPES[method], [*tiny(method), *shape, *settings])
