"""Settings that were asked for and change nothing, because of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from infoae.config.renamed import current_key
from infoae.config.schema import Config


@dataclass(frozen=True)
class _Use:
    """What some settings are used for."""

    keys: tuple[str, ...]
    """Dotted, or a section with a dot at its end."""
    is_used: Callable[[Config], object]
    needs: str
    """What has to be set for it, in words."""


_USES = (
    _Use(
        (
            "neighbours.count",
            "neighbours.source",
            "neighbours.search",
            "neighbours.memory",
            "pseudo_labels.anchor_hops",
        ),
        Config.compares_neighbours,
        "objective.pairs neighbours, and objective.weights.mutual_information above 0",
    ),
    _Use(
        ("neighbours.blur", "neighbours.distortion"),
        lambda config: config.compares_neighbours() and config.neighbours.source == "pixels",
        "objective.pairs neighbours, objective.weights.mutual_information above 0, and neighbours.source pixels",
    ),
    _Use(
        ("neighbours.refresh_every",),
        lambda config: config.compares_neighbours() and config.neighbours.source == "learned",
        "objective.pairs neighbours, and neighbours.source learned",
    ),
    _Use(
        ("model.projection_dim", "objective.contrastive_temperature", "objective.weights.contrastive"),
        lambda config: config.stages.representation_epochs,
        "stages.representation_epochs",
    ),
    _Use(
        ("augment.", "model.encoder"),
        lambda config: config.features.encoder is None,
        "pixels to compare, which features.encoder takes the place of",
    ),
    _Use(
        ("objective.encoder_batches",),
        lambda config: config.neighbours.source == "pixels",
        "an encoder of images that learns to the end, and neighbours.source pixels",
    ),
    _Use(
        ("features.size", "features.output", "features.download"),
        lambda config: config.features.encoder,
        "features.encoder, or --features",
    ),
    _Use(
        ("model.feature_dim",),
        lambda config: config.model.architecture == "infogan",
        "model.architecture infogan",
    ),
    _Use(
        ("model.encoder_blocks",),
        lambda config: config.model.encoder == "residual",
        "model.encoder residual",
    ),
    _Use(
        ("pseudo_labels.merging",),
        lambda config: config.model.num_over_categories,
        "model.num_over_categories",
    ),
    _Use(
        ("neighbours.merging_count",),
        lambda config: config.compares_neighbours() and config.objective.weights.pseudo_label,
        "objective.pairs neighbours and objective.weights.pseudo_label above 0",
    ),
    _Use(
        ("pseudo_labels.agreement", "pseudo_labels.anchor_hops", "pseudo_labels.refresh_every"),
        lambda config: config.objective.weights.pseudo_label,
        "objective.weights.pseudo_label above 0",
    ),
    _Use(
        ("pseudo_labels.propagation_agreement",),
        lambda config: config.objective.weights.pseudo_label and config.pseudo_labels.anchor_hops,
        "pseudo_labels.anchor_hops and objective.weights.pseudo_label above 0",
    ),
    _Use(
        ("augment.",),
        lambda config: config.objective.weights.mutual_information or config.stages.representation_epochs,
        "objective.weights.mutual_information above 0, or stages.representation_epochs",
    ),
    _Use(
        ("model.num_heads", "objective.pairs"),
        lambda config: config.objective.weights.mutual_information,
        "objective.weights.mutual_information above 0",
    ),
    _Use(
        ("objective.reconstruction_distance", "objective.reconstruction_reduction"),
        lambda config: config.objective.weights.reconstruction,
        "objective.weights.reconstruction above 0",
    ),
    _Use(
        ("objective.self_critic_fakes",),
        lambda config: config.objective.weights.self_critic or config.objective.weights.encoder_adversarial,
        "objective.weights.self_critic or encoder_adversarial above 0",
    ),
    _Use(
        ("optim.reference_batch",),
        lambda config: config.optim.learning_rate_scaling != "none",
        "optim.learning_rate_scaling",
    ),
    _Use(
        ("train.micro_batch_size",),
        lambda config: round(config.train.batch_size / (config.train.micro_batch_size or 1)) > 1,
        "a train.batch_size of several micro-batches",
    ),
    _Use(
        ("data.column", "data.test_share", "data.reduced_jpeg"),
        lambda config: config.data.name == "files",
        "data.name=files, or --data PATH",
    ),
    _Use(("data.root",), lambda config: config.data.name != "mnist", "data.name other than mnist"),
    _Use(
        ("data.download",),
        lambda config: config.data.name not in ("mnist", "shards", "files"),
        "data.name of a set that torchvision knows",
    ),
)


def unused(config: Config, keys: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each of the dotted `keys`, or `key=value`, that changes nothing in `config`."""
    for key in dict.fromkeys(current_key(each.partition("=")[0]) for each in keys):
        for use in _USES:
            named = any(key.startswith(known) if known.endswith(".") else key == known for known in use.keys)
            if named and not use.is_used(config):
                yield f"{key} changes nothing here: it needs {use.needs}"
                break
