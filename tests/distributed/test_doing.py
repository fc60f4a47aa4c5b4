"""What a process says that it does."""

from __future__ import annotations

import math

import pytest
import torch

from infoae.distributed import collectives, doing


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doing, "_now", doing.Doing("what comes before its first step", False, math.inf, 0.0))
    monkeypatch.setattr(doing, "_stepped", False)


def said() -> tuple[str, bool, float]:
    now = doing.now()
    return now.what, now.waits, now.patience


def test_steps_and_waits_are_said_and_the_first_may_take_longer() -> None:
    with doing.step(1):
        assert said() == ("step 1", False, doing.SLOW)
        with doing.waiting("gradients"):
            assert said() == ("step 1, waiting for gradients", True, doing.SLOW)
            with doing.waiting("a sum"):
                assert said() == ("step 1, waiting for gradients", True, doing.SLOW)
        assert said() == ("step 1", False, doing.SLOW)
    assert said() == ("what follows step 1", False, math.inf)
    with doing.waiting("whether to go on"):
        assert said() == ("what follows step 1, waiting for whether to go on", True, 1)


def test_how_long_it_lasts_begins_anew_with_each() -> None:
    before = doing.now()
    with doing.waiting("a sum"):
        assert doing.now().since > before.since
        waited = doing.now().since
    assert doing.now().since > waited
    assert 0 <= doing.now().seconds < 60


def test_a_wait_that_fails_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: torch.Tensor) -> torch.Tensor:
        assert said() == ("what comes before its first step, waiting for whether to go on", True, doing.SLOW)
        raise RuntimeError("closed by peer")

    monkeypatch.setattr(collectives, "size", lambda: 2)
    monkeypatch.setattr(collectives, "sum_over_ranks", fail)
    with pytest.raises(RuntimeError, match="closed by peer"):
        collectives.any_rank(True, torch.device("cpu"))
    assert said() == ("what comes before its first step", False, math.inf)
