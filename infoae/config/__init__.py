"""Configurations: what every section holds, how a recipe, YAML and `--set` become one, and what is wrong in words."""

from infoae.config.schema import (
    Augment,
    Config,
    Data,
    DataName,
    Information,
    MergingCriterion,
    Model,
    Norm,
    Objective,
    Optim,
    ReconstructionDistance,
    Section,
    Train,
    Weights,
)

__all__ = [
    "Augment",
    "Config",
    "Data",
    "DataName",
    "Information",
    "MergingCriterion",
    "Model",
    "Norm",
    "Objective",
    "Optim",
    "ReconstructionDistance",
    "Section",
    "Train",
    "Weights",
]
