"""Who is found to be stuck, of what workers say, and who never is; no Ray is started here."""

from __future__ import annotations

import math
import time

import pytest

from infoae.cluster.beating import Beat, Worker
from infoae.cluster.watching import Watch
from infoae.distributed import doing


class Clock:
    """A time that goes on when told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def worker(rank: int, team: str = "a") -> Worker:
    return Worker(team, rank, f"node-{rank}", f"10.0.0.{rank}", f"actor-{rank}")


def evaluates(rank: int, seconds: float, team: str = "a") -> Beat:
    return Beat(worker(rank, team), "what follows step 6", waits=False, patience=math.inf, seconds=seconds)


def computes(rank: int, seconds: float) -> Beat:
    return Beat(worker(rank), "step 7", waits=False, patience=doing.SLOW, seconds=seconds)


def waits(rank: int, seconds: float, patience: float = 1) -> Beat:
    return Beat(worker(rank), "step 7, waiting for the gradients", waits=True, patience=patience, seconds=seconds)


def stuck(*beats: Beat) -> str | None:
    watch = Watch()
    for beat in beats:
        watch.hear(beat)
    found = watch.look()
    assert watch.look() is None  # it is said once
    return None if found is None else found.why


def test_who_waits_for_work_that_takes_long_is_not_stuck() -> None:
    assert stuck(evaluates(0, 9000.0), waits(1, 9000.0), waits(2, 9000.0)) is None
    assert stuck(computes(0, 599.0), waits(1, 599.0)) is None
    assert stuck(waits(0, 61.0), waits(1, 59.0)) is None
    assert stuck(waits(0, 599.0, doing.SLOW), waits(1, 599.0, doing.SLOW)) is None
    assert stuck() is None


def test_all_that_wait_for_each_other_are_stuck() -> None:
    at = "at step 7, waiting for the gradients for"
    assert stuck(waits(0, 81.0), waits(1, 82.0)) == (
        f"all 2 workers wait: worker 1 on 10.0.0.1 {at} 82 s; worker 0 on 10.0.0.0 {at} 81 s"
    )
    many = stuck(*(waits(rank, 81.0) for rank in range(512)))
    assert many is not None
    assert many.startswith("all 512 workers wait: worker 0 on 10.0.0.0")
    assert len(many) < 300


def test_a_part_of_a_step_has_an_end() -> None:
    assert stuck(waits(0, 801.0), computes(1, 801.0)) == "worker 1 on 10.0.0.1 has been at step 7 for 801 s"


def test_who_is_silent_is_stuck_whatever_it_did(clock: Clock) -> None:
    watch = Watch()
    watch.hear(evaluates(0, 3.0))
    watch.hear(waits(1, 3.0))
    for _ in range(80):
        clock.now += 1.0
        watch.hear(waits(1, 3.0))
        assert watch.look() is None
    clock.now += 0.5
    found = watch.look()
    assert found is not None
    assert found.why == (
        "worker 0 on 10.0.0.0 has said nothing for more seconds than 80 (INFOAE_MAX_SILENCE raises it), "
        "last of what follows step 6"
    )
    assert found.actor == "actor-0"


def test_a_command_that_was_stopped_itself_blames_nobody(clock: Clock) -> None:
    watch = Watch()
    watch.hear(evaluates(0, 3.0))
    for _ in range(20):
        clock.now += 500.0
        assert watch.look() is None


def test_those_who_left_or_were_replaced_are_not_watched(clock: Clock) -> None:
    watch = Watch()
    watch.hear(evaluates(0, 1.0))
    watch.hear(evaluates(1, 1.0))
    watch.left(worker(1))
    watch.hear(evaluates(0, 1.0, team="b"))
    watch.hear(evaluates(1, 1.0))  # late news of the first team
    assert watch.nodes() == {"node-0": "10.0.0.0"}
    watch.left(worker(0))  # so is this
    assert watch.nodes() == {"node-0": "10.0.0.0"}
    watch.left(worker(0, "b"))
    for _ in range(200):
        clock.now += 1.0
        assert watch.look() is None
