"""The methods that can be trained, and which settings are of some of them only."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

Method: TypeAlias = Literal["infoae", "infogan"]
METHODS: tuple[Method, ...] = get_args(Method)

_OF: dict[str, tuple[Method, ...]] = {
    "model.architecture": ("infoae", "infogan"),
    "model.width": ("infoae", "infogan"),
    "model.feature_dim": ("infoae", "infogan"),
    "model.generator_hidden_dim": ("infoae",),
    "model.latent_dim": ("infoae",),
    "model.prior": ("infoae",),
    "model.num_over_categories": ("infoae",),
    "model.num_heads": ("infoae",),
    "model.noise_dim": ("infoae", "infogan"),
    "model.continuous_dim": ("infogan",),
    "model.critic_norm": ("infoae", "infogan"),
    "objective.weights.reconstruction": ("infoae",),
    "objective.weights.classification_generated": ("infoae",),
    "objective.weights.classification_encoded": ("infoae",),
    "objective.weights.encoder_adversarial": ("infoae",),
    "objective.weights.decoder_generated": ("infoae",),
    "objective.weights.decoder_reconstructed": ("infoae",),
    "objective.weights.mutual_information": ("infoae",),
    "objective.weights.pseudo_label": ("infoae",),
    "objective.weights.latent_matching": ("infoae",),
    "objective.weights.discriminator": ("infoae", "infogan"),
    "objective.weights.self_critic": ("infoae",),
    "objective.weights.generator": ("infogan",),
    "objective.weights.category_information": ("infogan",),
    "objective.weights.continuous_information": ("infogan",),
    "objective.pairs": ("infoae",),
    "objective.reconstruction_distance": ("infoae",),
    "objective.reconstruction_reduction": ("infoae",),
    "objective.encoder_gradient": ("infoae",),
    "objective.self_critic_fakes": ("infoae",),
    "stages": ("infoae",),
    "neighbours": ("infoae",),
    "pseudo_labels": ("infoae",),
    "augment": ("infoae",),
    "optim.critic_learning_rate": ("infoae", "infogan"),
    "optim.generator_learning_rate": ("infoae",),
    "train.adversarial_fraction": ("infoae",),
}
"""Methods by dotted key, or by section; a key that is not here is of all methods."""


def methods_of(key: str) -> tuple[Method, ...]:
    """Return the methods that have the setting of a dotted key."""
    return _OF.get(key) or _OF.get(key.partition(".")[0], METHODS)


def foreign(config: BaseModel, method: str) -> list[str]:
    """Return the dotted keys that `config` was given and that a method does not have."""
    return [key for key in _given(config) if method not in methods_of(key)]


def without_foreign(tree: dict[str, Any], method: str, prefix: str = "") -> dict[str, Any]:
    """Return what of nested settings a method has; a section that is left with nothing is left out."""
    kept: dict[str, Any] = {}
    for name, value in tree.items():
        key = prefix + name
        if method not in methods_of(key):
            continue
        kept[name] = without_foreign(value, method, f"{key}.") if isinstance(value, dict) else value
    return {name: value for name, value in kept.items() if value != {}}


def _given(section: BaseModel, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name in type(section).model_fields:
        if name in section.model_fields_set:
            value = getattr(section, name)
            keys += _given(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [prefix + name]
    return keys
