"""What is said of a training's memory, against counting by hand and tensors that are there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from infoae import memory
from infoae.config import Config, recipes
from infoae.config.methods import METHODS
from infoae.distributed.collectives import share
from infoae.methods.registry import method_of
from tests.helpers.methods import tiny_config_of
from tests.helpers.models import last_stage


def size(config: Config, precision: torch.dtype = torch.float32, **settings: Any) -> int:
    changed = {key.replace("__", "."): value for key, value in settings.items()}
    return memory.of_training(recipes.replaced(config, changed, "test"), precision).size


def test_results_are_counted_as_long_as_they_are_held() -> None:
    x = torch.empty(1000, device="meta")
    with memory._Held() as held:
        y = x * 2
        z = y.view(10, 100) + 1
        z += 1
        assert (held.now, held.peak) == (8000, 8000)
        del y
        assert (held.now, held.peak) == (4000, 8000)
        w = torch.cat([z, z])
        del z
        assert (held.now, held.peak) == (8000, 12000)
    del w


@pytest.mark.parametrize("method", METHODS)
def test_it_is_as_much_as_a_real_pass_keeps_for_its_gradients(method: str) -> None:
    config = tiny_config_of(method)
    model, stage, count = method_of(config).build(config).train(), last_stage(config), config.train.batch_size
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    x = torch.rand(count, *model.image_shape)
    batch = method_of(config).draw(model, config, stage, (x, None), share(count), torch.Generator())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        terms = method_of(config).compute(model, config, stage, batch, None)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved = sum(tensor.untyped_storage().nbytes() for pointer, tensor in kept.items() if pointer not in weights)
    assert terms.losses
    found = memory.of_training(config, torch.float32)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    of_batch = found.size - found.parameters * 16
    assert 0.9 * saved < of_batch < 3 * saved


def test_averaged_weights_a_number_format_and_images_cost_what_they_do(tiny_config: Config) -> None:
    config = recipes.replaced(tiny_config, {"optim.ema_decay": 0.0}, "test")
    whole = memory.of_training(config, torch.float32)
    assert size(config, optim__ema_decay=0.9) - whole.size == 4 * whole.parameters
    of_weights = 12 * whole.parameters
    assert size(config, torch.bfloat16) - of_weights == pytest.approx((whole.size - of_weights) / 2, abs=1)
    sizes = [size(config, train__batch_size=count) for count in (400, 800, 1200)]
    assert sizes[2] - sizes[1] == pytest.approx(sizes[1] - sizes[0], rel=0.1)
    assert sizes[1] - sizes[0] > 0.7 * (sizes[0] - of_weights)


@pytest.mark.parametrize(
    ("settings", "workers", "images"),
    [
        ({}, 1, 100),
        ({}, 3, 34),
        ({"train.micro_batch_size": 50}, 1, 50),
        ({"train.micro_batch_size": 50}, 2, 50),
        ({"train.micro_batch_size": 50}, 4, 25),
        ({"train.micro_batch_size": 90}, 1, 100),
    ],
)
def test_a_worker_computes_a_micro_batch_at_once_or_its_share(
    settings: dict[str, Any], workers: int, images: int, tiny_config: Config
) -> None:
    config = recipes.replaced(tiny_config, {"train.batch_size": 100, **settings}, "test")
    assert memory.of_training(config, torch.float32, workers).images == images


@pytest.mark.parametrize(
    "settings",
    [
        ["model.num_categories=auto", "model.num_over_categories=20", "stages.mutual_information_epochs=1"],
        ["model.num_categories=2", "model.prior=[0.7,0.3]"],
        ["model.prior=estimated", "model.num_over_categories=20", "objective.weights.latent_matching=1"],
        ["model.critic_norm=spectral", "augment.blur=1", "augment.elastic=1", "train.adversarial_fraction=0.5"],
    ],
)
def test_no_setting_needs_values_and_no_random_number_is_drawn(settings: list[str]) -> None:
    config = tiny_config_of("infoae", "objective.weights.mutual_information=1", *settings)
    state = torch.get_rng_state()
    found = memory.of_training(config, torch.float32)
    assert found.size > 16 * found.parameters
    assert torch.equal(torch.get_rng_state(), state)
