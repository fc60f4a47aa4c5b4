"""The stages of each method, apart from the rest of it: they need no PyTorch, so that `infoae config show` is quick."""

from __future__ import annotations

from collections.abc import Callable

from infoae.config import Config
from infoae.stages import Schedule, Stage

CRITIC_LOSSES = ("discriminator", "self_critic")
MODEL_LOSSES = (
    "reconstruction",
    "classification_generated",
    "classification_encoded",
    "encoder_adversarial",
    "decoder_generated",
    "decoder_reconstructed",
    "mutual_information",
    "pseudo_label",
    "latent_matching",
)
REPRESENTATION_LOSSES = ("contrastive",)
"""Of the encoder's features, before it answers anything."""


def infoae(config: Config) -> Schedule:
    """Return InfoAE's up to four stages: representation, mutual_information, pseudo_labels, adversarial."""
    learnt_first = config.stages.representation_epochs
    first = learnt_first + config.stages.mutual_information_epochs
    second = first + config.stages.pseudo_label_epochs
    on_latents = ("mutual_information", "latent_matching")
    learnt = ("reconstruction", "mutual_information", "pseudo_label", "latent_matching")
    everything = (*MODEL_LOSSES, *CRITIC_LOSSES)
    learned = config.compares_neighbours() and not config.seeks_neighbours_first()
    stages = (
        Stage("representation", range(learnt_first), _weighted(config, REPRESENTATION_LOSSES), False, answers=False),
        Stage("mutual_information", range(learnt_first, first), _weighted(config, on_latents), False, learned),
        Stage("pseudo_labels", range(first, second), _weighted(config, learnt), False, learned),
        Stage("adversarial", range(second, config.train.epochs), _weighted(config, everything), True, learned),
    )
    return Schedule(config, tuple(stage for stage in stages if stage.epochs))


def infogan(config: Config) -> Schedule:
    """Return InfoGAN's one or two stages: generation, then adversarial with the information."""
    first, judged = config.stages.generation_epochs, ("generator", "discriminator")
    everything = (*judged, "category_information", "continuous_information")
    stages = (
        Stage("generation", range(first), _weighted(config, judged), True),
        Stage("adversarial", range(first, config.train.epochs), _weighted(config, everything), True),
    )
    return Schedule(config, tuple(stage for stage in stages if stage.epochs))


def adversarial(*names: str) -> Callable[[Config], Schedule]:
    """Return the schedule of a method that computes the same losses from the first step to the last."""

    def schedule(config: Config) -> Schedule:
        epochs = range(config.train.epochs)
        return Schedule(config, (Stage("adversarial", epochs, _weighted(config, names), adversarial=True),))

    return schedule


SCHEDULES: dict[str, Callable[[Config], Schedule]] = {
    "infoae": infoae,
    "infogan": infogan,
    "aae": adversarial(
        "reconstruction",
        "category_adversarial",
        "style_adversarial",
        "category_discriminator",
        "style_discriminator",
    ),
    "catgan": adversarial("generator", "discriminator"),
    "pixelgan-ae": adversarial("reconstruction", "category_adversarial", "category_discriminator"),
}
"""By the name of the method."""


def schedule_of(config: Config) -> Schedule:
    """Return what happens in each epoch of a configuration."""
    return SCHEDULES[config.method](config)


def _weighted(config: Config, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the losses whose weight is above 0."""
    return tuple(name for name in names if getattr(config.objective.weights, name))
