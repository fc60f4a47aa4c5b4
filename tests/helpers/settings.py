"""Settings of trainings that end in a second."""

from __future__ import annotations

TINY = (
    "data.limit=300",
    "model.width=4",
    "model.hidden_dim=16",
    "model.latent_dim=8",
    "train.batch_size=50",
    "train.epochs=2",
    "train.log_every=1",
    "train.precision=fp32",
    "train.device=cpu",
)

WITH_HEADS = (
    *TINY,
    "model.channels=1",
    "model.image_size=28",
    "model.num_over_categories=20",
    "model.num_heads=3",
    "stages.mutual_information_epochs=1",
    "objective.weights.pseudo_label=1",
)
