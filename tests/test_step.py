from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

from infoae import config, losses, objective
from infoae.config import Config, recipes
from infoae.distributed.collectives import share
from infoae.errors import InfoAEError
from infoae.methods.schedules import CRITIC_LOSSES, MODEL_LOSSES, schedule_of
from infoae.model import InfoAE
from infoae.objective import Batch
from infoae.step import Step, StepResult
from tests.helpers.models import last_stage, sides_of


def make_step(tiny_config: Config, precision: torch.dtype = torch.float32, **optim: float) -> Step:
    torch.manual_seed(0)
    changed = tiny_config.model_copy(update={"optim": tiny_config.optim.model_copy(update=optim)})
    return Step(InfoAE(changed.model), changed, torch.device("cpu"), precision)


def take(step: Step, images: Tensor, index: int) -> StepResult:
    """A step of the last stage, in which everything is trained."""
    return step(images, index, last_stage(step.config))


def drawn(step: Step, images: Tensor) -> Batch:
    return step.draw(images, 0, last_stage(step.config), share(len(images)))


def losses_of(model: InfoAE, changed: Config, batch: Batch) -> dict[str, Tensor]:
    return objective.adversarial_stage(model, changed.objective, last_stage(changed).losses, batch).losses


@pytest.fixture
def images() -> Tensor:
    return torch.randint(0, 256, (12, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def two_pass_gradients(step: Step, images: Tensor) -> dict[str, Tensor]:
    """Gradients as a textbook would take them: each side with its own forward pass, the other side detached."""
    model, settings = copy.deepcopy(step.model), step.config.objective
    batch = drawn(step, images)
    x, x_twin, u, c = batch.x, batch.x_twin, batch.u, batch.c
    model_total = objective.weighted_sum(losses_of(model, step.config, batch), settings, MODEL_LOSSES)
    assert model_total is not None
    model_total.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None and "crit" not in n}

    other = copy.deepcopy(step.model)
    with torch.no_grad():
        z_gen = other.generator(u, torch.eye(10)[c])
        x_gen = torch.sigmoid(other.decoder(z_gen))
        assert x_twin is not None
        z = other.encoder(torch.cat([x, x_gen, x_twin]))[: len(x)]
        x_recon = torch.sigmoid(other.decoder(z))
    fakes = torch.cat([other.discriminator(x_gen), other.discriminator(x_recon)])
    critic_total = losses.real(other.discriminator(x)).mean() + losses.generated(fakes).mean()
    critic_total = critic_total + losses.real(other.self_critic(x_gen, z_gen)).mean()
    pair = (x_recon, z) if settings.self_critic_fakes == "reconstructed" else (x, z)
    critic_total = critic_total + losses.generated(other.self_critic(*pair)).mean()
    critic_total.backward()
    for name, parameter in other.named_parameters():
        if name.startswith(("discriminator", "self_critic")):
            assert parameter.grad is not None
            gradients[name] = parameter.grad
    return gradients


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_shared_graph_gives_each_side_its_own_gradients(tiny_config: Config, images: Tensor, norm: Any) -> None:
    changed = tiny_config.model_copy(update={"model": tiny_config.model.model_copy(update={"critic_norm": norm})})
    step = make_step(changed)
    expected = two_pass_gradients(step, images)
    take(step, images, 0)
    for name, parameter in step.model.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("norm", ["batch", "spectral"])
def test_a_batch_of_micro_batches_is_the_mean_of_what_each_gives(
    tiny_config: Config, images: Tensor, norm: Any
) -> None:
    """Twelve images in micro-batches of about five are six and six: gradients, losses and running statistics."""
    changed = tiny_config.model_copy(
        update={
            "model": tiny_config.model.model_copy(update={"critic_norm": norm}),
            "train": tiny_config.train.model_copy(update={"micro_batch_size": 5}),
        }
    )
    step = make_step(changed)
    batch = drawn(step, images)
    models = [copy.deepcopy(step.model) for _ in range(2)]
    totals: list[dict[str, Tensor]] = []
    for model, rows in zip(models, (slice(0, 6), slice(6, 12)), strict=True):
        with parametrize.cached():
            totals.append(losses_of(model, changed, batch[rows]))
        for names, parameters in zip((MODEL_LOSSES, CRITIC_LOSSES), sides_of(model, changed), strict=True):
            total = objective.weighted_sum(totals[-1], changed.objective, names)
            assert total is not None
            total.backward(inputs=parameters, retain_graph=True)

    result = take(step, images, 0)
    for name, parameter in step.model.named_parameters():
        mean = sum((model.get_parameter(name).grad for model in models), torch.zeros(())) / 2
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, mean, rtol=1e-3, atol=1e-5, msg=name)
    for name, loss in result.losses.items():
        assert loss.item() == pytest.approx((totals[0][name].item() + totals[1][name].item()) / 2, rel=1e-5)
    moved = 0
    for name, buffer in step.model.named_buffers():
        if "running" in name:
            torch.testing.assert_close(buffer, (models[0].get_buffer(name) + models[1].get_buffer(name)) / 2, msg=name)
            moved += not torch.equal(models[0].get_buffer(name), models[1].get_buffer(name))
    assert moved


def test_a_batch_of_one_micro_batch_is_that_of_none(tiny_config: Config, images: Tensor) -> None:
    train = tiny_config.train.model_copy(update={"micro_batch_size": 12})
    steps = [make_step(changed) for changed in (tiny_config, tiny_config.model_copy(update={"train": train}))]
    assert take(steps[0], images, 0).metrics() == take(steps[1], images, 0).metrics()
    for (name, ours), theirs in zip(
        steps[0].model.state_dict().items(), steps[1].model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_a_step_changes_every_network(tiny_config: Config, images: Tensor) -> None:
    step = make_step(tiny_config)
    before = {name: p.detach().clone() for name, p in step.model.named_parameters()}
    take(step, images, 0)
    unchanged = [name for name, p in step.model.named_parameters() if torch.equal(p, before[name])]
    assert unchanged == []


def test_critics_of_weight_zero_are_left_alone(tiny_config: Config, images: Tensor) -> None:
    weights = tiny_config.objective.weights.model_copy(update={"discriminator": 0.0, "self_critic": 0.0})
    changed = tiny_config.model_copy(
        update={"objective": tiny_config.objective.model_copy(update={"weights": weights})}
    )
    step = make_step(changed)
    before = [p.detach().clone() for p in sides_of(step.model, tiny_config)[1]]
    take(step, images, 0)
    assert all(torch.equal(p, b) for p, b in zip(sides_of(step.model, tiny_config)[1], before, strict=True))


def test_the_same_seed_and_step_give_the_same_update_and_others_differ(tiny_config: Config, images: Tensor) -> None:
    def measured(index: int, seed: int) -> dict[str, float]:
        return take(make_step(tiny_config.model_copy(update={"seed": seed})), images, index).metrics()

    assert measured(0, 0) == measured(0, 0)
    assert measured(0, 0) != measured(1, 0)
    assert measured(0, 0) != measured(0, 1)


def test_a_loss_that_is_not_finite_stops_before_any_update(tiny_config: Config, images: Tensor) -> None:
    step = make_step(tiny_config)
    with torch.no_grad():
        step.model.decoder.layers[0].weight[0, 0] = float("nan")
    before = {name: value.clone() for name, value in step.model.state_dict().items() if "running" not in name}
    with pytest.raises(InfoAEError, match=r"step 5: .*reconstruction = nan.*nothing was updated.*learning_rate"):
        take(step, images, 4)
    after = step.model.state_dict()
    for name, value in before.items():
        if "num_batches" not in name:
            torch.testing.assert_close(after[name], value, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_float32_weights_and_follows_float32(
    tiny_config: Config, images: Tensor, precision: torch.dtype
) -> None:
    full, mixed = make_step(tiny_config), make_step(tiny_config, precision)
    for index in range(2):
        expected, result = take(full, images, index).metrics(), take(mixed, images, index).metrics()
        assert result["loss/reconstruction"] == pytest.approx(expected["loss/reconstruction"], rel=0.02)
    assert all(p.dtype == torch.float32 for p in mixed.model.parameters())
    assert mixed.scaler.is_enabled() == (precision == torch.float16)


def test_the_gradient_scaler_is_updated_once_a_step(tiny_config: Config, images: Tensor) -> None:
    step = make_step(tiny_config, torch.float16)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2)
    for index in range(4):
        take(step, images, index)
    assert step.scaler.get_scale() == 16.0  # doubled after steps 2 and 4


@pytest.mark.parametrize("name", ["encoder.latent.weight", "encoder.features.3.running_mean"])
def test_the_average_follows_weights_and_running_statistics(name: str, tiny_config: Config, images: Tensor) -> None:
    step = make_step(tiny_config, ema_decay=0.9)
    assert step.average is not None
    history = []
    for index in range(3):
        take(step, images, index)
        history.append(step.model.state_dict()[name].clone())
    expected = history[0]
    for count, value in enumerate(history[1:], start=1):
        decay = min(0.9, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    torch.testing.assert_close(step.evaluated_model().state_dict()[name], expected, rtol=1e-4, atol=1e-6)
    assert step.evaluated_model() is not step.model
    assert make_step(tiny_config, ema_decay=0.0).average is None


def test_noise_is_uniform_on_minus_one_to_one_and_categories_are_even(tiny_config: Config) -> None:
    step = make_step(tiny_config)
    batch = drawn(step, torch.zeros(4000, 1, 28, 28, dtype=torch.uint8))
    u, c = batch.u, batch.c
    assert -1 <= u.min() < -0.99
    assert 0.99 < u.max() <= 1
    assert abs(u.mean().item()) < 0.01
    counts = torch.bincount(c, minlength=10)
    assert (counts > 300).all()


def test_images_reach_the_networks_scaled_to_one(tiny_config: Config) -> None:
    x = drawn(make_step(tiny_config), torch.full((2, 1, 28, 28), 255, dtype=torch.uint8)).x
    assert x.max() == x.min() == 1


def test_config_is_the_only_source_of_learning_rates(tiny_config: Config) -> None:
    step = make_step(tiny_config, learning_rate=0.5, critic_learning_rate=0.25, beta1=0.1, beta2=0.2)
    groups = [group for player in step._players for group in player.optimizer.param_groups]
    assert [group["lr"] for group in groups] == [0.5, 0.5, 0.25, 0.25]
    assert [group["betas"] for group in groups] == [(0.1, 0.2)] * 4
    step.scale_learning_rates(0.5)
    assert [group["lr"] for group in groups] == [0.25, 0.25, 0.125, 0.125]
    assert isinstance(config.Config().optim.learning_rate, float)


def test_some_networks_may_have_a_learning_rate_of_their_own(tiny_config: Config) -> None:
    own = {"generator_learning_rate": 0.125, "self_critic_learning_rate": 0.0625}
    changed = tiny_config.model_copy(update={"optim": tiny_config.optim.model_copy(update=own)})
    step = make_step(changed, learning_rate=0.5, critic_learning_rate=0.25)
    model, rates = step.model, dict[torch.nn.Parameter, float]()
    for player in step._players:
        for group in player.optimizer.param_groups:
            rates |= dict.fromkeys(group["params"], group["lr"])
    of_network = {name: {rates[p] for p in network.parameters()} for name, network in model.named_children()}
    expected = {"decoder": 0.125, "generator": 0.125, "discriminator": 0.25, "self_critic": 0.0625}
    for name, found in of_network.items():
        assert found <= {expected.get(name, 0.5)}, name


def test_each_stage_draws_what_it_compares(tiny_config: Config, images: Tensor) -> None:
    """Partners are augmented wherever mutual information compares them, x only where no image is judged beside it."""
    staged = {"stages.mutual_information_epochs": 1, "objective.weights.latent_matching": 1}
    step = make_step(recipes.replaced(tiny_config, staged, "test"))
    first, last = schedule_of(step.config).stages
    partners = images.flip(0)
    before, after = (step.draw(images, 3, stage, share(len(images)), partners) for stage in (first, last))
    x = images.float() / 255
    assert torch.equal(after.x, x)
    assert not torch.equal(before.x, x)
    assert before.x_twin is not None
    assert after.x_twin is not None
    assert torch.equal(before.x_twin, after.x_twin)  # drawn before x is
    distance = [(after.x_twin - other).square().mean().item() for other in (x.flip(0), x)]
    assert 0 < distance[0] < distance[1]
    assert torch.equal(before.u, after.u)
    assert torch.equal(before.c, after.c)
    plain = make_step(recipes.replaced(tiny_config, {"objective.weights.mutual_information": 0}, "test"))
    assert drawn(plain, images).x_twin is None
    assert after.pseudo_labels is None
    labels = torch.arange(24).reshape(2, 12)
    labelled = step.draw(images, 3, last, share(len(images)), partners, labels)
    assert labelled.pseudo_labels is not None
    assert torch.equal(labelled.pseudo_labels, labels)


def test_a_step_goes_on_from_its_state_as_if_it_had_never_stopped(tiny_config: Config, images: Tensor) -> None:
    step, other = make_step(tiny_config, ema_decay=0.9), make_step(tiny_config, ema_decay=0.9)
    for index in range(2):
        take(step, images, index)
    saved = copy.deepcopy(step.state())
    assert set(saved.tensors) == {"model", "average", "optimizer"}
    other.load(saved)
    for index in (2, 3):
        assert take(step, images, index).metrics() == take(other, images, index).metrics()
    ours, theirs = step.state().tensors, other.state().tensors
    for kind, tensors in ours.items():
        assert set(tensors) == set(theirs[kind])
        assert [name for name, value in tensors.items() if not torch.equal(value, theirs[kind][name])] == []


def test_moments_that_were_loaded_lie_in_memory_as_their_parameters_do(tiny_config: Config, images: Tensor) -> None:
    """Also without an average of the weights. What is stored is contiguous, convolutions are channels-last."""
    step, other = make_step(tiny_config, ema_decay=0.0), make_step(tiny_config, ema_decay=0.0)
    take(step, images, 0)
    saved = step.state()
    assert set(saved.tensors) == {"model", "optimizer"}
    moments = {name: tensor.contiguous() for name, tensor in saved.tensors["optimizer"].items()}
    other.load(replace(saved, tensors={**saved.tensors, "optimizer": moments}))
    owners = other._owners()
    differ = [name for name, (_, parameter) in owners.items() if not parameter.is_contiguous()]
    assert differ
    for name, (optimizer, parameter) in owners.items():
        assert optimizer.state[parameter]["exp_avg"].stride() == parameter.stride(), name


def test_what_a_step_measured_holds_no_graph(tiny_config: Config, images: Tensor) -> None:
    result = take(make_step(tiny_config), images, 0)
    assert [name for name, loss in result.losses.items() if loss.requires_grad] == []
