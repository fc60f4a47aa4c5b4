"""Which method a configuration asks for, and the trained model of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infoae.category_model import CategoryModel
from infoae.config import Config
from infoae.methods.aae import AAEMethod
from infoae.methods.catgan import CatGANMethod
from infoae.methods.infoae import InfoAEMethod
from infoae.methods.infogan import InfoGANMethod
from infoae.methods.method import Method
from infoae.methods.pixelgan_ae import PixelGANAEMethod
from infoae.runs.run import Run

METHODS: dict[str, Method[Any]] = {
    "infoae": InfoAEMethod(),
    "infogan": InfoGANMethod(),
    "aae": AAEMethod(),
    "catgan": CatGANMethod(),
    "pixelgan-ae": PixelGANAEMethod(),
}
"""By the name that a configuration gives."""


def method_of(config: Config) -> Method[Any]:
    """Return the method of a configuration."""
    return METHODS[config.method]


def load(run: str | Path = "runs/latest", checkpoint: str = "best", device: str = "cpu") -> CategoryModel:
    """Load the trained model of a run of any method, ready to use.

    `checkpoint` is "best" (by the score) or "newest". Raises InfoAEError for a missing run or a damaged checkpoint.
    Nothing is unpickled.
    """
    return model_of(Run.open(run), checkpoint).to(device)


def model_of(run: Run, which: str = "best") -> CategoryModel:
    """Build the model of a run and fill it from its "best" or "newest" checkpoint. Raises InfoAEError."""
    config = run.config()
    model: CategoryModel = method_of(config).build(config)
    return model.fill(run, which)
