"""Settings of estimators that are fitted in a second or two."""

from __future__ import annotations

from typing import Any

from infoae import InfoAEClusterer

QUICK = (
    "model.hidden_dim=32",
    "model.latent_dim=8",
    "model.num_over_categories=12",
    "model.num_heads=1",
    "objective.weights.pseudo_label=0",
    "pseudo_labels.anchor_hops=0",
    "stages.mutual_information_epochs=1",
    "stages.pseudo_label_epochs=0",
    "neighbours.merging_count=null",
    "optim.learning_rate=1e-2",
    "optim.decay_epochs=0",
    "optim.ema_decay=0",
    "train.epochs=2",
    "train.batch_size=100",
    "train.micro_batch_size=null",
    "train.min_steps_per_epoch=10",
    "train.precision=fp32",
    "train.device=cpu",
)
OF_PICTURES = (*QUICK, "model.width=4", "model.generator_hidden_dim=16", "model.critic_norm=batch")


def on_rows(**parameters: Any) -> InfoAEClusterer:
    """Return an estimator of three categories of rows."""
    usual: dict[str, Any] = {"n_clusters": 3, "settings": QUICK, "random_state": 0}
    return InfoAEClusterer(**usual | parameters)


def on_pictures(**parameters: Any) -> InfoAEClusterer:
    """Return an estimator of four categories of pictures."""
    usual: dict[str, Any] = {"n_clusters": 4, "recipe": "mnist", "settings": OF_PICTURES, "random_state": 0}
    return InfoAEClusterer(**usual | parameters)
