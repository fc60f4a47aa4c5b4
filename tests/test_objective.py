from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infoae import config, losses, objective
from infoae.config import Config, Weights
from infoae.distributed.collectives import Part
from infoae.model import InfoAE

ALL = set(objective.MODEL_LOSSES) | set(objective.CRITIC_LOSSES)
NEW = {"information": 1.0, "latent_matching": 1.0, "consensus": 1.0}  # not in the paper, so 0 by default
AGREED = torch.tensor([[0, -1, 2, 9, 4, -1], [1, 1, -1, 3, 0, 7]])


@pytest.fixture
def model(tiny_config: Config) -> InfoAE:
    torch.manual_seed(0)
    return InfoAE(tiny_config.model).train()


@pytest.fixture
def batch(tiny_config: Config) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x, x_twin = torch.rand(2, 6, 1, 28, 28, generator=generator)
    u = torch.rand(6, tiny_config.model.noise_dim, generator=generator) * 2 - 1
    return x, x_twin, u, torch.arange(6) // 2


def with_weights(**weights: float) -> config.Objective:
    return config.Objective(weights=Weights(**weights))


def test_the_weights_name_exactly_the_losses() -> None:
    assert set(Weights.model_fields) == ALL


def test_every_loss_of_positive_weight_is_there_as_a_finite_scalar(
    model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    terms = objective.compute(model, with_weights(**NEW), *batch, AGREED)
    assert set(terms.losses) == ALL
    assert all(loss.ndim == 0 and torch.isfinite(loss) for loss in terms.losses.values())
    assert terms.discriminator_accuracy is not None
    assert 0 <= terms.discriminator_accuracy.item() <= 1


@pytest.mark.parametrize("name", sorted(ALL))
def test_a_loss_of_weight_zero_is_not_computed(
    name: str, model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    terms = objective.compute(model, with_weights(**NEW | {name: 0.0}), *batch, AGREED)
    assert set(terms.losses) == ALL - {name}


def test_the_total_is_equation_1(model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    settings = with_weights(reconstruction=2.0, classification_generated=3.0, encoder_adversarial=0.4)
    terms = objective.compute(model, settings, *batch).losses
    value = {name: loss.item() for name, loss in terms.items()}
    expected = (
        value["decoder_generated"]
        + value["decoder_reconstructed"]
        + 2.0 * value["reconstruction"]
        + (3.0 * value["classification_generated"] + value["classification_encoded"])
        + 0.4 * value["encoder_adversarial"]
    )
    total = objective.weighted_sum(terms, settings, objective.MODEL_LOSSES)
    assert total is not None
    assert total.item() == pytest.approx(expected, rel=1e-5)


def test_a_side_without_losses_has_no_total(model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    settings = with_weights(discriminator=0.0, self_critic=0.0)
    terms = objective.compute(model, settings, *batch).losses
    assert objective.weighted_sum(terms, settings, objective.CRITIC_LOSSES) is None


def test_the_losses_follow_the_paper_term_by_term(model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Every tensor of section 2 computed again, by hand, in evaluation mode so that batches do not mix."""
    model.eval()
    x, x_twin, u, c = batch
    with torch.no_grad():
        terms = objective.compute(model, with_weights(**NEW), x, x_twin, u, c, AGREED).losses
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
            "information": losses.mutual_information(
                model.classifier(z), model.classifier(model.encoder(x_twin))
            ).item(),
            "consensus": -sum(
                model.classifier(model.encoder(images))[row].log_softmax(0)[category].item()
                for images, agreed in zip((x, x_twin), AGREED.tolist(), strict=True)
                for row, category in enumerate(agreed)
                if category >= 0
            )
            / 12,
            "latent_matching": losses.latent_matching(z_gen, c, z, model.classifier(z).softmax(1)).item(),
        }
    assert set(expected) == ALL
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_latent_matching_moves_the_generator_alone(model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    terms = objective.compute(model, with_weights(latent_matching=1.0), batch[0], None, *batch[2:]).losses
    terms["latent_matching"].backward()
    moved = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"generator"}


def test_each_reading_of_the_self_critic_sees_other_fakes(
    model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    model.eval()
    x, _, u, c = batch
    with torch.no_grad():
        z, z_gen = model.encoder(x), model.generator(u, torch.eye(10)[c])
        x_recon, x_gen = torch.sigmoid(model.decoder(z)), torch.sigmoid(model.decoder(z_gen))
        pairs = {"encoded": (x, z), "reconstructed": (x_recon, z), "cycle": (x_gen, model.encoder(x_gen))}
        for reading, pair in pairs.items():
            settings = config.Objective(self_critic_fakes=reading)
            terms = objective.compute(model, settings, x, None, u, c).losses
            expected = losses.real(model.self_critic(*pair)).mean().item()
            assert terms["encoder_adversarial"].item() == pytest.approx(expected, rel=1e-5)


def test_the_discriminator_is_not_shown_what_the_decoder_need_not_pass_off(
    model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    model.eval()
    x, _, u, c = batch
    with torch.no_grad():
        terms = objective.compute(model, with_weights(decoder_reconstructed=0.0), x, None, u, c).losses
        x_gen = torch.sigmoid(model.decoder(model.generator(u, torch.eye(10)[c])))
        expected = losses.real(model.discriminator(x)).mean() + losses.generated(model.discriminator(x_gen)).mean()
    assert terms["discriminator"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected.item() < 10 * math.log(2)


@pytest.mark.parametrize("part", [0.0, 0.1, 1.0])
def test_a_part_of_what_reconstructions_say_reaches_the_encoder(
    part: float, model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    """Their values and the decoder's gradient are those of the whole."""
    model.eval()  # batch statistics would change from one pass to the next
    gradients, values = {}, {}
    for each in (1.0, part):
        model.zero_grad()
        reconstruction = objective.compute(model, config.Objective(encoder_gradient=each), *batch).losses[
            "reconstruction"
        ]
        reconstruction.backward()
        values[each] = reconstruction.item()
        gradients[each] = [
            torch.cat([torch.zeros(1) if p.grad is None else p.grad.flatten() for p in network.parameters()])
            for network in (model.encoder, model.decoder)
        ]
    assert values[part] == values[1.0]
    assert torch.allclose(gradients[part][0], part * gradients[1.0][0], rtol=1e-4, atol=1e-6 * values[1.0])
    assert torch.allclose(gradients[part][1], gradients[1.0][1])
    assert gradients[1.0][0].abs().max() > 1e-3


def test_a_part_of_the_batch_plays_the_game(model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    """Its losses are those of a batch of these alone, the others those of all."""
    model.eval()
    settings = with_weights(**NEW)
    rows = torch.tensor([0, 2, 3])
    x, x_twin, u, c = batch
    with torch.no_grad():
        whole = objective.compute(model, settings, *batch, AGREED)
        few = objective.compute(model, settings, x[rows], x_twin[rows], u[rows], c[rows], AGREED[:, rows])
        part = objective.compute(model, settings, *batch, AGREED, part=Part(rows, 2.0))
    of_all = {"classification_generated", "information", "consensus", "latent_matching"}
    assert set(part.losses) == set(whole.losses) > of_all
    for name, loss in part.losses.items():
        expected = whole.losses[name] if name in of_all else 2 * few.losses[name]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-4), name
    assert few.discriminator_accuracy is not None
    assert part.discriminator_accuracy == 2 * few.discriminator_accuracy


def test_from_the_vote_on_the_decoder_learns_before_images_are_generated(
    model: InfoAE, batch: tuple[Tensor, Tensor, Tensor, Tensor]
) -> None:
    settings = with_weights(**NEW)
    latent = {"information", "latent_matching"}
    assert set(objective.compute(model, settings, *batch, None, latent_only=True).losses) == latent
    terms = objective.compute(model, settings, *batch, AGREED, latent_only=True).losses
    assert set(terms) == latent | {"consensus", "reconstruction"}
    terms["reconstruction"].backward()
    moved = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"decoder"}
