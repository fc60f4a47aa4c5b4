"""The methods that can be trained, and which settings are of some of them only."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from pydantic import BaseModel

Method: TypeAlias = Literal["infoae", "infogan", "aae", "catgan", "pixelgan-ae"]
METHODS: tuple[Method, ...] = get_args(Method)

_INFOAE: tuple[Method, ...] = ("infoae",)
_INFOGAN: tuple[Method, ...] = ("infogan",)
_CONVOLUTIONAL: tuple[Method, ...] = ("infoae", "infogan", "catgan", "pixelgan-ae")
_ON_IMAGES: tuple[Method, ...] = ("infoae", "infogan", "catgan")
_ON_CODES: tuple[Method, ...] = ("aae", "pixelgan-ae")

_OF: dict[str, tuple[Method, ...]] = {
    "model.architecture": _CONVOLUTIONAL,
    "model.encoder": _INFOAE,
    "model.encoder_blocks": _INFOAE,
    "model.width": _CONVOLUTIONAL,
    "model.feature_dim": _CONVOLUTIONAL,
    "model.hidden_dim": ("infoae", "infogan", *_ON_CODES),
    "model.generator_hidden_dim": _INFOAE,
    "model.latent_dim": _INFOAE,
    "model.prior": _INFOAE,
    "model.num_over_categories": _INFOAE,
    "model.num_heads": _INFOAE,
    "model.noise_dim": _ON_IMAGES,
    "model.continuous_dim": _INFOGAN,
    "model.projection_dim": _INFOAE,
    "model.pixelcnn_width": ("pixelgan-ae",),
    "model.pixelcnn_blocks": ("pixelgan-ae",),
    "model.style_dim": ("aae",),
    "model.input_dropout": ("aae",),
    "model.image_noise": ("infogan", "catgan"),
    "model.critic_norm": _ON_IMAGES,
    "model.self_critic_norm": _INFOAE,
    "objective.weights.reconstruction": ("infoae", *_ON_CODES),
    "objective.weights.classification_generated": _INFOAE,
    "objective.weights.classification_encoded": _INFOAE,
    "objective.weights.encoder_adversarial": _INFOAE,
    "objective.weights.decoder_generated": _INFOAE,
    "objective.weights.decoder_reconstructed": _INFOAE,
    "objective.weights.mutual_information": _INFOAE,
    "objective.weights.pseudo_label": _INFOAE,
    "objective.weights.latent_matching": _INFOAE,
    "objective.weights.contrastive": _INFOAE,
    "objective.weights.discriminator": _ON_IMAGES,
    "objective.weights.self_critic": _INFOAE,
    "objective.weights.generator": ("infogan", "catgan"),
    "objective.weights.category_information": _INFOGAN,
    "objective.weights.continuous_information": _INFOGAN,
    "objective.weights.category_adversarial": _ON_CODES,
    "objective.weights.style_adversarial": ("aae",),
    "objective.weights.category_discriminator": _ON_CODES,
    "objective.weights.style_discriminator": ("aae",),
    "objective.pairs": _INFOAE,
    "objective.contrastive_temperature": _INFOAE,
    "objective.reconstruction_distance": ("infoae", "aae"),
    "objective.reconstruction_reduction": ("infoae", "aae"),
    "objective.encoder_gradient": _INFOAE,
    "objective.encoder_batches": _INFOAE,
    "objective.self_critic_fakes": _INFOAE,
    "features": _INFOAE,
    "stages.generation_epochs": _INFOGAN,
    "stages.representation_epochs": _INFOAE,
    "stages.mutual_information_epochs": _INFOAE,
    "stages.pseudo_label_epochs": _INFOAE,
    "neighbours": _INFOAE,
    "pseudo_labels": _INFOAE,
    "augment": _INFOAE,
    "optim.generator_learning_rate": _INFOAE,
    "optim.self_critic_learning_rate": _INFOAE,
    "train.adversarial_fraction": _INFOAE,
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
