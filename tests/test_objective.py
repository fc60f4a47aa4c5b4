from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from infoae import config, losses, objective
from infoae.config import Config, Weights
from infoae.config.methods import methods_of
from infoae.distributed.collectives import Subset
from infoae.methods.schedules import CRITIC_LOSSES, MODEL_LOSSES, REPRESENTATION_LOSSES
from infoae.model import InfoAE
from infoae.objective import Batch, Terms

ALL = set(MODEL_LOSSES) | set(CRITIC_LOSSES)
NEW = {"mutual_information": 1.0, "latent_matching": 1.0, "pseudo_label": 1.0}  # not in the paper, so 0 by default
LABELS = torch.tensor([[0, -1, 2, 9, 4, -1], [1, 1, -1, 3, 0, 7]])


@pytest.fixture
def model(tiny_config: Config) -> InfoAE:
    torch.manual_seed(0)
    return InfoAE(tiny_config.model).train()


@pytest.fixture
def batch(tiny_config: Config) -> Batch:
    """Six images with partners, of categories 0 to 2, without pseudo-labels."""
    generator = torch.Generator().manual_seed(1)
    x, x_twin = torch.rand(2, 6, 1, 28, 28, generator=generator)
    u = torch.rand(6, tiny_config.model.noise_dim, generator=generator) * 2 - 1
    return Batch(x, x_twin, u, torch.arange(6) // 2)


@pytest.fixture
def labelled(batch: Batch) -> Batch:
    return replace(batch, pseudo_labels=LABELS)


def adversarial(model: InfoAE, settings: config.Objective, batch: Batch, subset: Subset | None = None) -> Terms:
    """The losses of positive weight of the adversarial stage."""
    wanted = [name for name in ALL if getattr(settings.weights, name)]
    return objective.adversarial_stage(model, settings, wanted, batch, subset)


def with_weights(**weights: float) -> config.Objective:
    return config.Objective(weights=Weights(**weights))


def test_the_weights_name_exactly_the_losses() -> None:
    known = {name for name in Weights.model_fields if "infoae" in methods_of(f"objective.weights.{name}")}
    assert known == ALL | {*REPRESENTATION_LOSSES}


def test_every_loss_that_is_wanted_is_there_as_a_finite_scalar(model: InfoAE, labelled: Batch) -> None:
    terms = objective.adversarial_stage(model, config.Objective(), ALL, labelled)
    assert set(terms.losses) == ALL
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in terms.losses.values())
    assert terms.discriminator_accuracy is not None
    assert 0 <= terms.discriminator_accuracy.item() <= 1


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_loss_that_is_not_wanted_is_not_computed(name: str, model: InfoAE, labelled: Batch) -> None:
    terms = objective.adversarial_stage(model, config.Objective(), ALL - {name}, labelled)
    assert set(terms.losses) == ALL - {name}


def test_without_partners_or_labels_there_is_no_loss_of_them(model: InfoAE, labelled: Batch) -> None:
    settings = config.Objective()
    of_pairs = {"mutual_information", "pseudo_label"}
    alone = replace(labelled, x_twin=None, pseudo_labels=None)
    assert set(objective.adversarial_stage(model, settings, ALL, alone).losses) == ALL - of_pairs
    latent = {"mutual_information", "latent_matching", "pseudo_label"}
    assert set(objective.latent_stage(model, settings, latent, alone).losses) == {"latent_matching"}


def test_the_total_is_equation_1(model: InfoAE, batch: Batch) -> None:
    settings = with_weights(reconstruction=2.0, classification_generated=3.0, encoder_adversarial=0.4)
    terms = adversarial(model, settings, batch).losses
    value = {name: loss.item() for name, loss in terms.items()}
    expected = (
        value["decoder_generated"]
        + value["decoder_reconstructed"]
        + 2.0 * value["reconstruction"]
        + (3.0 * value["classification_generated"] + value["classification_encoded"])
        + 0.4 * value["encoder_adversarial"]
    )
    total = objective.weighted_sum(terms, settings, MODEL_LOSSES)
    assert total is not None
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_a_side_without_losses_has_no_total(model: InfoAE, batch: Batch) -> None:
    settings = with_weights(discriminator=0.0, self_critic=0.0)
    terms = adversarial(model, settings, batch).losses
    assert terms
    assert objective.weighted_sum(terms, settings, CRITIC_LOSSES) is None


def test_real_and_generated_images_may_be_normalised_apart(model: InfoAE, batch: Batch) -> None:
    """In evaluation mode it is all the same; in training a generated image moves no real image's latent."""
    weights = Weights(mutual_information=1.0)
    apart, together = (config.Objective(encoder_batches=way, weights=weights) for way in ("apart", "together"))
    model.eval()
    for name, loss in adversarial(model, together, batch).losses.items():
        torch.testing.assert_close(adversarial(model, apart, batch).losses[name], loss, rtol=1e-4, atol=1e-5)

    def information(settings: config.Objective, u: Tensor) -> Tensor:
        return adversarial(model.train(), settings, replace(batch, u=u)).losses["mutual_information"]

    other = torch.rand_like(batch.u)
    assert torch.equal(information(apart, batch.u), information(apart, other))
    assert not torch.equal(information(together, batch.u), information(together, other))


def test_the_losses_follow_the_paper_term_by_term(model: InfoAE, labelled: Batch) -> None:
    """Every tensor of section 2 computed again, by hand, in evaluation mode so that batches do not mix."""
    model.eval()
    x, x_twin, u, c = labelled.x, labelled.x_twin, labelled.u, labelled.c
    assert x_twin is not None
    with torch.no_grad():
        terms = adversarial(model, with_weights(**NEW), labelled).losses
        z = model.encoder(x)
        x_recon = torch.sigmoid(model.decoder(z))
        z_gen = model.generator(u, torch.eye(10)[c])
        x_gen = torch.sigmoid(model.decoder(z_gen))
        d_real, d_gen, d_recon = (model.discriminator(image) for image in (x, x_gen, x_recon))
        s_generated, s_encoded = model.self_critic(x_gen, z_gen), model.self_critic(x, z)

        def bce(logits: Tensor, target: float) -> float:
            p = torch.sigmoid(logits)
            return -(target * p.log() + (1 - target) * (1 - p).log()).mean().item()

        expected = {
            "reconstruction": (x_recon - x).square().sum((1, 2, 3)).mean().item(),
            "discriminator": bce(d_real, 1) + (bce(d_gen, 0) + bce(d_recon, 0)) / 2,
            "decoder_generated": bce(d_gen, 1),
            "decoder_reconstructed": bce(d_recon, 1),
            "self_critic": bce(s_generated, 1) + bce(s_encoded, 0),
            "encoder_adversarial": bce(s_encoded, 1),
            "classification_generated": -model.classifier(z_gen).log_softmax(1)[range(6), c].mean().item(),
            "classification_encoded": -model.classifier(model.encoder(x_gen)).log_softmax(1)[range(6), c].mean().item(),
            "mutual_information": losses.mutual_information(
                model.classifier(z), model.classifier(model.encoder(x_twin))
            ).item(),
            "pseudo_label": -sum(
                model.classifier(model.encoder(images))[row].log_softmax(0)[category].item()
                for images, labels in zip((x, x_twin), LABELS.tolist(), strict=True)
                for row, category in enumerate(labels)
                if category >= 0
            )
            / 12,
            "latent_matching": losses.latent_matching(z_gen, c, z, model.classifier(z).softmax(1)).item(),
        }
    assert set(expected) == ALL
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_latent_matching_moves_the_generator_alone(model: InfoAE, batch: Batch) -> None:
    alone = replace(batch, x_twin=None)
    terms = adversarial(model, with_weights(latent_matching=1.0), alone).losses
    terms["latent_matching"].backward()
    moved = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"generator"}


def test_each_reading_of_the_self_critic_sees_other_fakes(model: InfoAE, batch: Batch) -> None:
    model.eval()
    x, u, c = batch.x, batch.u, batch.c
    with torch.no_grad():
        z, z_gen = model.encoder(x), model.generator(u, torch.eye(10)[c])
        x_recon, x_gen = torch.sigmoid(model.decoder(z)), torch.sigmoid(model.decoder(z_gen))
        pairs: dict[Any, Any] = {
            "encoded": (x, z),
            "reconstructed": (x_recon, z),
            "cycle": (x_gen, model.encoder(x_gen)),
        }
        for reading, pair in pairs.items():
            settings = config.Objective(self_critic_fakes=reading)
            terms = adversarial(model, settings, batch).losses
            expected = losses.real(model.self_critic(*pair)).mean().item()
            assert terms["encoder_adversarial"].item() == pytest.approx(expected, rel=1e-5)


def test_the_discriminator_is_not_shown_what_the_decoder_need_not_pass_off(model: InfoAE, batch: Batch) -> None:
    model.eval()
    x, u, c = batch.x, batch.u, batch.c
    with torch.no_grad():
        terms = adversarial(model, with_weights(decoder_reconstructed=0.0), batch).losses
        x_gen = torch.sigmoid(model.decoder(model.generator(u, torch.eye(10)[c])))
        expected = losses.real(model.discriminator(x)).mean() + losses.generated(model.discriminator(x_gen)).mean()
    assert terms["discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() < 10 * math.log(2)


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_a_share_of_what_reconstructions_say_reaches_the_encoder(share: float, model: InfoAE, batch: Batch) -> None:
    """Their values and the decoder's gradient are those of the whole."""
    model.eval()  # batch statistics would change from one pass to the next
    gradients, values = {}, {}
    for each in (1.0, share):
        model.zero_grad()
        reconstruction = adversarial(model, config.Objective(encoder_gradient=each), batch).losses["reconstruction"]
        reconstruction.backward()
        values[each] = reconstruction.item()
        gradients[each] = [
            torch.cat([torch.zeros(1) if p.grad is None else p.grad.flatten() for p in network.parameters()])
            for network in (model.encoder, model.decoder)
        ]
    assert values[share] == values[1.0]
    assert torch.allclose(gradients[share][0], share * gradients[1.0][0], rtol=1e-4, atol=1e-6 * values[1.0])
    assert torch.allclose(gradients[share][1], gradients[1.0][1])
    assert gradients[1.0][0].abs().max() > 1e-3


def test_a_subset_of_the_batch_is_generated_and_judged(model: InfoAE, labelled: Batch) -> None:
    """Its losses on images are those of a batch of these alone, the losses on latents those of all."""
    model.eval()
    settings = with_weights(**NEW)
    rows = torch.tensor([0, 2, 3])
    assert labelled.x_twin is not None
    some = Batch(labelled.x[rows], labelled.x_twin[rows], labelled.u[rows], labelled.c[rows], LABELS[:, rows])
    with torch.no_grad():
        whole, few = adversarial(model, settings, labelled), adversarial(model, settings, some)
        subset = adversarial(model, settings, labelled, Subset(rows, 2.0))
    of_all = {"classification_generated", "mutual_information", "pseudo_label", "latent_matching"}
    assert set(subset.losses) == set(whole.losses) > of_all
    for name, loss in subset.losses.items():
        expected = whole.losses[name] if name in of_all else 2 * few.losses[name]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4), name
    assert few.discriminator_accuracy is not None
    assert subset.discriminator_accuracy == 2 * few.discriminator_accuracy


def test_rows_of_a_batch_are_those_of_all_it_has(labelled: Batch) -> None:
    rows = slice(2, 5)
    some = labelled[rows]
    assert labelled.x_twin is not None
    for found, whole in ((some.x, labelled.x), (some.x_twin, labelled.x_twin), (some.u, labelled.u)):
        assert found is not None
        assert torch.equal(found, whole[rows])
    assert some.c.tolist() == [1, 1, 2]
    assert some.pseudo_labels is not None
    assert some.pseudo_labels.tolist() == [[2, 9, 4], [-1, 3, 0]]
    nothing = replace(labelled, x_twin=None, pseudo_labels=None)[rows]
    assert nothing.x_twin is nothing.pseudo_labels is None


def test_before_images_are_generated_the_decoder_learns_without_moving_the_encoder(
    model: InfoAE, labelled: Batch
) -> None:
    settings = config.Objective()
    latent = {"mutual_information", "latent_matching"}
    terms = objective.latent_stage(model, settings, latent, labelled)
    assert set(terms.losses) == latent
    assert terms.discriminator_accuracy is None
    learnt = latent | {"pseudo_label", "reconstruction"}
    losses_of = objective.latent_stage(model, settings, learnt, labelled).losses
    assert set(losses_of) == learnt
    losses_of["reconstruction"].backward()
    moved = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"decoder"}


def test_losses_on_latents_are_the_same_whether_images_are_generated_or_not(model: InfoAE, labelled: Batch) -> None:
    model.eval()
    wanted = {"mutual_information", "latent_matching", "pseudo_label", "reconstruction"}
    with torch.no_grad():
        before = objective.latent_stage(model, config.Objective(), wanted, labelled).losses
        after = objective.adversarial_stage(model, config.Objective(), wanted, labelled).losses
    assert set(before) == set(after) == wanted
    for name, loss in before.items():
        assert loss.item() == pytest.approx(after[name].item(), rel=1e-4), name
