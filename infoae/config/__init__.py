"""Configurations: what every section holds, how a recipe, YAML and `--set` become one, and what is wrong in words."""

from infoae.config.augment import Augment
from infoae.config.data import Data
from infoae.config.features import Features
from infoae.config.kinds import DataName, MergingCriterion, NeighbourSearch, Norm, ReconstructionDistance, Section
from infoae.config.schema import Config
from infoae.config.sections import (
    Model,
    Neighbours,
    Objective,
    Optim,
    PseudoLabels,
    Stages,
    Train,
    Weights,
)

__all__ = [
    "Augment",
    "Config",
    "Data",
    "DataName",
    "Features",
    "MergingCriterion",
    "Model",
    "NeighbourSearch",
    "Neighbours",
    "Norm",
    "Objective",
    "Optim",
    "PseudoLabels",
    "ReconstructionDistance",
    "Section",
    "Stages",
    "Train",
    "Weights",
]
