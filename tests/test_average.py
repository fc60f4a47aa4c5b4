"""The average of weights is torch's AveragedModel with a formula of ours, to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from infoae.average import Average
from infoae.category_model import CategoryModel
from infoae.config import Config, recipes
from infoae.config.methods import METHODS
from infoae.methods.registry import method_of
from infoae.model import InfoAE
from tests.helpers.methods import tiny_config_of


def torchs(model: CategoryModel, decay: float) -> AveragedModel:
    @torch.no_grad()
    def average(averages: list[Tensor], values: list[Tensor], count: Tensor) -> None:
        seen = float(count)
        for ours, value in zip(averages, values, strict=True):
            if ours.is_floating_point():
                ours.lerp_(value, 1 - min(decay, (1 + seen) / (10 + seen)))
            else:
                ours.copy_(value)

    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)  # type: ignore[arg-type]


@torch.no_grad()
def move(model: CategoryModel, random: torch.Generator) -> None:
    """Change all that a step changes."""
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=random))
        elif tensor.ndim == 0:
            tensor.add_(1)


def assert_bit_equal(ours: Average, theirs: AveragedModel) -> None:
    assert torch.equal(ours.n_averaged, theirs.n_averaged)
    for kind in ("named_parameters", "named_buffers"):
        found, expected = (dict(getattr(each.module, kind)()) for each in (ours, theirs))
        assert found.keys() == expected.keys()
        assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def model_of(config: Config) -> CategoryModel:
    torch.manual_seed(0)
    model: CategoryModel = method_of(config).build(config)
    return model


@pytest.mark.parametrize("method", sorted(METHODS))
def test_an_average_over_steps_is_torchs(method: str) -> None:
    model, random = model_of(tiny_config_of(method)), torch.Generator().manual_seed(0)
    ours, theirs = Average(model, 0.3), torchs(model, 0.3)  # a decay that the start reaches
    for _ in range(5):
        move(model, random)
        ours.update()
        theirs.update_parameters(model)
        assert_bit_equal(ours, theirs)
    assert not torch.equal(next(ours.module.parameters()), next(model.parameters()))


def test_an_average_goes_on_after_buffers_were_replaced(tiny_config: Config) -> None:
    """The number of categories that is found makes the model's own buffers anew, and so does loading it."""
    over = {"model.num_categories": "auto", "model.num_over_categories": 12, "stages.mutual_information_epochs": 1}
    config = recipes.replaced(tiny_config, over, "test")
    model, random = model_of(config), torch.Generator().manual_seed(0)
    assert isinstance(model, InfoAE)
    ours, theirs = Average(model, 0.9), torchs(model, 0.9)
    for step in range(6):
        if step in (2, 4):
            for each in (model, ours.module, theirs.module):
                assert isinstance(each, InfoAE)
                each.merge(torch.arange(12) % (step + 1), torch.ones(12))
        move(model, random)
        ours.update()
        theirs.update_parameters(model)
        assert_bit_equal(ours, theirs)
    loaded = Average(model_of(config), 0.9)
    loaded.module.load_state_dict(ours.module.state_dict())
    assert isinstance(loaded.module, InfoAE)
    assert loaded.module.num_categories == 5
