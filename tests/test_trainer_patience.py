"""Early stopping by the label-free score."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from infoae.config import Config, recipes
from infoae.errors import InfoAEError
from infoae.runs import checkpoint
from infoae.trainer import Trainer

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tiny_config: Config) -> Config:
    """Six epochs whose scores are known, and patience for two."""
    scores = {6: 1.0, 12: 1.2, 18: 1.1, 24: 1.15, 30: 1.3, 36: 1.4}

    def scored(self: Trainer, _epoch: int, _reporters: object) -> float:
        return scores[self.done]

    monkeypatch.setattr(Trainer, "_finish_epoch", scored)
    return recipes.replaced(tiny_config, {"train.epochs": 6, "train.patience": 2}, "test")


def test_training_stops_early_when_the_score_has_stopped_rising(make_trainer: MakeTrainer, scripted: Config) -> None:
    trainer = make_trainer(scripted, "early")
    assert trainer.fit([])
    assert trainer.done == 24
    assert checkpoint.read(trainer.run.checkpoint("best")).step == 12
    assert trainer.run.is_finished(scripted)
    with pytest.raises(InfoAEError, match=r"finished \(4 of 6 epochs\): its score had stopped rising; look at it"):
        make_trainer(scripted, "early").resume()
    again = make_trainer(scripted, "early")  # as a worker does that was lost before it could say that it is done
    again.restore(again.run.checkpoint("newest"))
    assert again.fit([])
    assert again.done == 24


@pytest.mark.parametrize("stop_after", [18, 20])
def test_patience_outlasts_an_interruption(stop_after: int, make_trainer: MakeTrainer, scripted: Config) -> None:
    stopped = make_trainer(scripted, "stopped")
    assert not stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(scripted, "stopped")
    resumed.resume()
    assert resumed.fit([])
    assert resumed.done == 24


def test_without_patience_all_epochs_are_trained(make_trainer: MakeTrainer, scripted: Config) -> None:
    trainer = make_trainer(recipes.replaced(scripted, {"train.patience": None}, "test"), "whole")
    assert trainer.fit([])
    assert trainer.done == 36
