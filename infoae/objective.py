"""What each side minimises (paper equations 1 and 2), from one forward pass of the six networks.

Both sides are updated from the same activations: the paper trains all networks together. So each critic sees every
image once a step, and each side's gradients are taken with respect to its own parameters only (see `step`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from infoae import losses
from infoae.config import Objective
from infoae.distributed.collectives import Subset
from infoae.model import InfoAE
from infoae.networks import Discriminator, Encoder, SelfCritic


@dataclass(frozen=True)
class Batch:
    """What a step computes with."""

    x: Tensor
    """Images (B, C, H, W) in [0, 1]."""
    x_twin: Tensor | None
    """The augmented partner of each, where mutual information compares them."""
    u: Tensor
    """Noise (B, U)."""
    c: Tensor
    """Over-categories to generate (B,)."""
    pseudo_labels: Tensor | None = None
    """Of x and x_twin (2, B), -1 for none, once there are any."""
    extra: Tensor | None = None
    """What else a method draws for each image (B, ...)."""
    features: Tensor | None = None
    """What the encoder sees in place of x, or of x and of its partner: (1, B, D) or (2, B, D)."""

    def __getitem__(self, rows: slice) -> Batch:
        """Return some of the samples."""
        twin = None if self.x_twin is None else self.x_twin[rows]
        labels = None if self.pseudo_labels is None else self.pseudo_labels[:, rows]
        extra = None if self.extra is None else self.extra[rows]
        features = None if self.features is None else self.features[:, rows]
        return Batch(self.x[rows], twin, self.u[rows], self.c[rows], labels, extra, features)

    def seen(self) -> list[Tensor]:
        """Return what the encoder sees: images or features of x, and of its partner where they are compared."""
        if self.features is not None:
            return list(self.features)
        return [self.x] if self.x_twin is None else [self.x, self.x_twin]


@dataclass(frozen=True)
class Terms:
    """The losses of one batch by name, each a scalar in nats, and how often the discriminator is right."""

    losses: dict[str, Tensor]
    discriminator_accuracy: Tensor | None
    """Of real and fake images alike: 0.5 is chance, 1 is a decoder that has lost. None where no image is judged."""


ON_LATENTS = ("mutual_information", "pseudo_label", "latent_matching")
"""Losses that need no generated image, and no judge of one."""


def representation_stage(model: InfoAE, config: Objective, batch: Batch) -> Terms:
    """Return the contrastive loss between the projected features of x, augmented, and of its augmented twin."""
    assert batch.x_twin is not None
    u, v = model.project(torch.cat([batch.x, batch.x_twin])).chunk(2)
    return Terms({"contrastive": losses.contrastive(u, v, config.contrastive_temperature)}, None)


def latent_stage(model: InfoAE, config: Objective, wanted: Collection[str], batch: Batch) -> Terms:
    """Return the `wanted` losses of a stage in which no image is generated or judged; x may be augmented.

    They train encoder, classifier and generator, and the decoder's reconstruction, which does not move the encoder: an
    untrained decoder would ask it for the most.
    """
    x, seen = batch.x, batch.seen()
    z, *z_twin = model.encoder(torch.cat(seen) if len(seen) > 1 else seen[0]).split(len(x))
    z_gen = model.generator(batch.u, _one_hot(batch.c, model)) if "latent_matching" in wanted else None
    terms = _latent_terms(model, wanted, batch, z, z_twin, z_gen)
    if "reconstruction" in wanted:
        terms["reconstruction"] = _reconstruction(model.decoder(z.detach()), x, config)
    return Terms(terms, None)


def adversarial_stage(
    model: InfoAE, config: Objective, wanted: Collection[str], batch: Batch, subset: Subset | None = None
) -> Terms:
    """Return the `wanted` losses of all networks; `subset` are the samples that are generated and judged, or all."""
    # Generate: every sample has a latent, those of the subset an image.
    rows, weight = (slice(None), 1.0) if subset is None else (subset.rows.to(batch.x.device), subset.weight)
    z_gen = model.generator(batch.u, _one_hot(batch.c, model))
    x_gen = torch.sigmoid(model.decoder(z_gen[rows]))

    # Encode real and generated images: in one batch, so that both are normalised as they will be with the running
    # statistics; or apart, so that what is learnt of generated images holds for real ones however both differ. On
    # features only real ones are: what made these stays as it is.
    real, z_cycle = batch.seen(), None
    if batch.features is not None:
        z, *z_twin = model.encoder(torch.cat(real)).split(len(batch.x))
    elif config.encoder_batches == "apart":
        z_cycle = model.encoder(x_gen)  # first, so that the running statistics are rather those of real images
        z, *z_twin = model.encoder(torch.cat(real)).split(len(batch.x))
    else:
        assert isinstance(model.encoder, Encoder)  # what sees images
        images = [batch.x, x_gen, *real[1:]]
        z, z_cycle, *z_twin = model.encoder.of_several(images).split([len(each) for each in images])

    # Losses on latents, of all samples.
    terms: dict[str, Tensor] = {}
    if "classification_generated" in wanted:
        terms["classification_generated"] = losses.classification(model.classifier(z_gen), batch.c).mean()
    terms |= _latent_terms(model, wanted, batch, z, z_twin, z_gen)

    # Losses on images, of the subset.
    pairs = _Pairs(batch.x[rows], z[rows], x_gen, z_gen[rows], z_cycle, batch.c[rows])
    judged = _image_terms(model, config, wanted, pairs)
    accuracy = None if judged.discriminator_accuracy is None else judged.discriminator_accuracy * weight
    return Terms(terms | {name: loss * weight for name, loss in judged.losses.items()}, accuracy)


@dataclass(frozen=True)
class _Pairs:
    """Images with latents: z and z_cycle are of x and x_gen, which is of z_gen for category c.

    z_cycle is None on features.
    """

    x: Tensor
    z: Tensor
    x_gen: Tensor
    z_gen: Tensor
    z_cycle: Tensor | None
    c: Tensor


def _image_terms(model: InfoAE, config: Objective, wanted: Collection[str], pairs: _Pairs) -> Terms:
    """Return the losses of reconstructed and generated images, and of who judges them."""
    terms: dict[str, Tensor] = {}

    # Reconstruct, and classify what was generated.
    x_recon_logits = model.decoder(torch.lerp(pairs.z.detach(), pairs.z, config.encoder_gradient))
    x_recon = torch.sigmoid(x_recon_logits)
    if "reconstruction" in wanted:
        terms["reconstruction"] = _reconstruction(x_recon_logits, pairs.x, config)
    if "classification_encoded" in wanted:
        assert pairs.z_cycle is not None  # the configuration refuses it with features
        terms["classification_encoded"] = losses.classification(model.classifier(pairs.z_cycle), pairs.c).mean()

    # The discriminator judges what the decoder is trained to pass off as real.
    images = {"decoder_generated": pairs.x_gen, "decoder_reconstructed": x_recon}
    fakes = {name: image for name, image in images.items() if name in wanted}
    with_real = "discriminator" in wanted and bool(fakes)
    judged = _judged(model.discriminator, [(each,) for each in (*fakes.values(), *([pairs.x] if with_real else []))])
    for name, logits in zip(fakes, judged, strict=False):
        terms[name] = losses.real(logits).mean()
    accuracy = None
    if with_real:
        *fake, real_logits = judged
        fake_logits = torch.cat(fake)
        terms["discriminator"] = losses.real(real_logits).mean() + losses.generated(fake_logits).mean()
        accuracy = losses.discriminator_accuracy(real_logits, fake_logits)

    # The self-critic tells the encoder's pairs from the generator's.
    if "encoder_adversarial" in wanted or "self_critic" in wanted:
        fake_pairs = {
            "encoded": (pairs.x, pairs.z),
            "reconstructed": (x_recon, pairs.z),
            "cycle": (pairs.x_gen, pairs.z_cycle),
        }
        fake_x, fake_z = fake_pairs[config.self_critic_fakes]
        assert fake_z is not None  # the configuration refuses it with features
        trained = [(pairs.x_gen, pairs.z_gen)] if "self_critic" in wanted else []
        fake_logits, *real = _judged(model.self_critic, [(fake_x, fake_z), *trained])
        if "encoder_adversarial" in wanted:
            terms["encoder_adversarial"] = losses.real(fake_logits).mean()
        for real_logits in real:
            terms["self_critic"] = losses.real(real_logits).mean() + losses.generated(fake_logits).mean()
    return Terms(terms, accuracy)


def _judged(critic: Discriminator | SelfCritic, batches: list[tuple[Tensor, ...]]) -> list[Tensor]:
    """Return the logits of what a critic is shown, batch by batch.

    One that normalises sees batches apart: in one, their statistics would give away which is which. Else all at once.
    """
    if critic.normalises or not batches:
        return [critic(*batch) for batch in batches]
    together = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    return list(critic(*together).split([len(batch[0]) for batch in batches]))


def _latent_terms(
    model: InfoAE, wanted: Collection[str], batch: Batch, z: Tensor, z_twin: list[Tensor], z_gen: Tensor | None
) -> dict[str, Tensor]:
    """Return the losses of the answers and of the latents' distribution, which need no image."""
    terms: dict[str, Tensor] = {}
    if not set(ON_LATENTS) & set(wanted):
        return terms
    head_logits = model.head_logits(torch.cat([z, *z_twin]))
    if "mutual_information" in wanted and z_twin:
        terms["mutual_information"] = losses.mutual_information(*head_logits.split(len(z), dim=1))
    if "pseudo_label" in wanted and z_twin and batch.pseudo_labels is not None:
        labels = batch.pseudo_labels.flatten()
        terms["pseudo_label"] = losses.pseudo_label(head_logits[0], model.category_of, labels).mean()
    if "latent_matching" in wanted and z_gen is not None:
        terms["latent_matching"] = losses.latent_matching(z_gen, batch.c, z, head_logits[0, : len(z)].softmax(1))
    return terms


def _reconstruction(logits: Tensor, x: Tensor, config: Objective) -> Tensor:
    mean = config.reconstruction_reduction == "mean"
    return losses.reconstruction(logits, x, config.reconstruction_distance, mean).mean()


def _one_hot(c: Tensor, model: InfoAE) -> Tensor:
    return F.one_hot(c, model.num_over_categories).float()


def weighted_sum(terms: dict[str, Tensor], config: Objective, names: tuple[str, ...]) -> Tensor | None:
    """Return one side's objective: the sum over `names` of weight times loss; None if that side has no loss."""
    parts = [getattr(config.weights, name) * terms[name] for name in names if name in terms]
    return torch.stack(parts).sum() if parts else None
