"""What each side of the game minimises (paper equations 1 and 2), from one forward pass of the six networks.

Both sides are updated from the same activations: the paper trains all networks together. So each critic sees every
image once a step, and each side's gradients are taken with respect to its own parameters only (see `step`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae import losses
from infoae.config import Objective
from infoae.distributed.collectives import Part
from infoae.model import InfoAE

CRITIC_LOSSES = ("discriminator", "self_critic")
MODEL_LOSSES = (
    "reconstruction",
    "classification_generated",
    "classification_encoded",
    "encoder_adversarial",
    "decoder_generated",
    "decoder_reconstructed",
    "information",
    "consensus",
    "latent_matching",
)


@dataclass(frozen=True)
class Terms:
    """The losses of one batch by name, each a scalar in nats, and how often the discriminator is right."""

    losses: dict[str, Tensor]
    discriminator_accuracy: Tensor | None
    """Of real and fake images alike: 0.5 is chance, 1 is a decoder that has lost."""


def compute(
    model: InfoAE,
    config: Objective,
    x: Tensor,
    x_twin: Tensor | None,
    u: Tensor,
    c: Tensor,
    agreed: Tensor | None = None,
    latent_only: bool = False,
    part: Part | None = None,
) -> Terms:
    """Return every loss of positive weight.

    x (B, C, H, W) in [0, 1]; x_twin its augmented partner, needed by `information`; u (B, U) noise; c (B,) the
    over-categories to generate; agreed (2, B) the categories of x and x_twin that the heads agreed on, -1 for none,
    once they have voted. With `latent_only`, only the losses that need no image generated or judged, of encoder,
    classifier and generator, and from the vote on the decoder's reconstruction, which does not move the encoder then; x
    may be augmented, too. Otherwise images are generated, reconstructed and judged for a `part` of the samples, or all.
    """
    weights = config.weights
    if latent_only:
        z, *z_twin = model.encoder(x if x_twin is None else torch.cat([x, x_twin])).split(len(x))
        z_gen = model.generator(u, _one_hot(c, model)) if weights.latent_matching else None
        latent_terms = _latent_terms(model, config, z, z_twin, z_gen, c, agreed)
        if agreed is not None and weights.reconstruction:
            x_recon_logits = model.decoder(z.detach())
            distances = losses.reconstruction(x_recon_logits, x, config.reconstruction_distance)
            latent_terms["reconstruction"] = distances.mean()
        return Terms(latent_terms, None)

    rows, weight = (slice(None), 1.0) if part is None else (part.rows.to(x.device), part.weight)
    z_gen = model.generator(u, _one_hot(c, model))
    x_gen = torch.sigmoid(model.decoder(z_gen[rows]))
    # The encoder sees real and generated images in one batch, so that both are normalised as they will be with the
    # running statistics.
    images = [x, x_gen] if x_twin is None else [x, x_gen, x_twin]
    z, z_cycle, *z_twin = model.encoder(torch.cat(images)).split([len(each) for each in images])
    terms: dict[str, Tensor] = {}
    if weights.classification_generated:
        terms["classification_generated"] = losses.classification(model.classifier(z_gen), c).mean()
    terms |= _latent_terms(model, config, z, z_twin, z_gen, c, agreed)

    game = _game_terms(model, config, x[rows], z[rows], x_gen, z_gen[rows], z_cycle, c[rows])
    accuracy = None if game.discriminator_accuracy is None else game.discriminator_accuracy * weight
    return Terms(terms | {name: loss * weight for name, loss in game.losses.items()}, accuracy)


def _game_terms(
    model: InfoAE,
    config: Objective,
    x: Tensor,
    z: Tensor,
    x_gen: Tensor,
    z_gen: Tensor,
    z_cycle: Tensor,
    c: Tensor,
) -> Terms:
    """Return the losses of reconstructed and generated images: z and z_cycle are of x and x_gen, which is of z_gen."""
    weights = config.weights
    terms: dict[str, Tensor] = {}
    x_recon_logits = model.decoder(torch.lerp(z.detach(), z, config.encoder_gradient))
    x_recon = torch.sigmoid(x_recon_logits)
    if weights.reconstruction:
        terms["reconstruction"] = losses.reconstruction(x_recon_logits, x, config.reconstruction_distance).mean()
    if weights.classification_encoded:
        terms["classification_encoded"] = losses.classification(model.classifier(z_cycle), c).mean()

    # The discriminator judges what the decoder is trained to pass off as real. Real and fake images go through it
    # separately: normalised in one batch, their statistics would give away which is which.
    judged = {"decoder_generated": x_gen, "decoder_reconstructed": x_recon}
    fakes = {name: model.discriminator(image) for name, image in judged.items() if getattr(weights, name)}
    for name, logits in fakes.items():
        terms[name] = losses.real(logits).mean()
    accuracy = None
    if weights.discriminator and fakes:
        real_logits = model.discriminator(x)
        fake_logits = torch.cat(list(fakes.values()))
        terms["discriminator"] = losses.real(real_logits).mean() + losses.generated(fake_logits).mean()
        accuracy = ((real_logits > 0).float().mean() + (fake_logits < 0).float().mean()).detach() / 2

    if weights.encoder_adversarial or weights.self_critic:
        pairs = {"encoded": (x, z), "reconstructed": (x_recon, z), "cycle": (x_gen, z_cycle)}
        fake_logits = model.self_critic(*pairs[config.self_critic_fakes])
        if weights.encoder_adversarial:
            terms["encoder_adversarial"] = losses.real(fake_logits).mean()
        if weights.self_critic:
            real_logits = model.self_critic(x_gen, z_gen)
            terms["self_critic"] = losses.real(real_logits).mean() + losses.generated(fake_logits).mean()
    return Terms(terms, accuracy)


def _latent_terms(
    model: InfoAE,
    config: Objective,
    z: Tensor,
    z_twin: list[Tensor],
    z_gen: Tensor | None,
    c: Tensor,
    agreed: Tensor | None = None,
) -> dict[str, Tensor]:
    terms: dict[str, Tensor] = {}
    weights = config.weights
    if weights.information or weights.consensus or weights.latent_matching:
        head_logits = model.head_logits(torch.cat([z, *z_twin]))
        if weights.information and z_twin:
            terms["information"] = losses.information(*head_logits.split(len(z), dim=1))
        if weights.consensus and z_twin and agreed is not None:
            terms["consensus"] = losses.consensus(head_logits[0], model.category_of, agreed.flatten()).mean()
        if weights.latent_matching and z_gen is not None:
            terms["latent_matching"] = losses.latent_matching(z_gen, c, z, head_logits[0, : len(z)].softmax(1))
    return terms


def _one_hot(c: Tensor, model: InfoAE) -> Tensor:
    return F.one_hot(c, model.num_over_categories).float()


def weighted_sum(terms: dict[str, Tensor], config: Objective, names: tuple[str, ...]) -> Tensor | None:
    """Return one side's objective: the sum over `names` of weight times loss; None if that side has no loss."""
    parts = [getattr(config.weights, name) * terms[name] for name in names if name in terms]
    return torch.stack(parts).sum() if parts else None
