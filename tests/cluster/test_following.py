"""What the command makes of what its workers say; no Ray is started here."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from infoae.cluster import placement, worker
from infoae.cluster.beating import Beat, Worker
from infoae.cluster.following import Following
from infoae.reporting.training import TrainingProgress
from infoae.results import Team

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # Ray's own
STARTED = ("started", 6, 24, Team(2, 2))
LATE = ("beat", Beat(Worker("a", 1, "node", "10.0.0.2", "actor"), "step 7", waits=False, patience=10, seconds=801.0))


def restarts(following: Following) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    following.restarted = lambda *event: found.append(event)
    return found


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The actors that are ended."""
    found: list[Any] = []
    monkeypatch.setattr(ray, "kill", found.append)
    return found


def test_why_a_worker_was_ended_is_what_was_lost(killed: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    following = Following("go on", 3, TrainingProgress(), [])
    told = restarts(following)
    following.hear([STARTED, LATE])
    following.check_workers()
    following.check_workers()
    assert killed == ["actor"]
    following.hear([("lost", "worker 1 was lost")])
    assert told == [(1, "worker 1 on 10.0.0.2 has been at step 7 for 801 s")]
    following.hear([STARTED, ("lost", "worker 0 was lost")])
    assert told[1:] == [(2, "worker 0 was lost")]
    assert "has been at step 7 for 801 s; restart 1 of at most 3" in capsys.readouterr().err


def test_who_was_lost_with_others_is_not_ended_once_more(killed: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Ray gave up a machine, and the silence of its worker went on meanwhile."""
    following = Following("go on", 3, TrainingProgress(), [])
    told = restarts(following)
    following.hear([STARTED, LATE, ("lost", "worker 1 was lost"), LATE])
    following.check_workers()
    assert not killed
    following.hear([STARTED, ("lost", "worker 0 was lost")])
    assert told == [(1, "worker 1 was lost"), (2, "worker 0 was lost")]
    assert "it is ended" not in capsys.readouterr().err


def test_a_machine_that_goes_is_said_once_and_counts_as_a_restart(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    following = Following("go on", 3, TrainingProgress(), [])
    told = restarts(following)
    monkeypatch.setattr(placement, "leaving", lambda nodes: sorted(nodes.values()))
    following.hear([STARTED])
    assert not following.check_nodes()
    following.hear([("beat", Beat(Worker("a", 0, "node", "10.0.0.2", None), "", waits=False, patience=1, seconds=0.0))])
    assert following.check_nodes()
    assert following.check_nodes()
    following.hear([STARTED, STARTED])
    assert told == [(1, "10.0.0.2 was announced to be taken away")]
    assert capsys.readouterr().err.count("10.0.0.2 will be taken away: saving every few seconds until then") == 1


def test_the_main_worker_saves_at_once_and_then_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, now = worker.Channel(), 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(ray, "get", lambda value: value)
    wishes = worker._Wishes(SimpleNamespace(wishes=SimpleNamespace(remote=channel.wishes)))
    saved = []
    for step in range(100, 160):
        now = float(step)
        if step == 110:
            channel.leave(True)
        if step == 150:
            channel.leave(False)
        assert not wishes.stop()
        if wishes.save():
            saved.append(step)
    assert saved == [110, 120, 130, 140]


def test_workers_make_way_for_others_and_for_nobody_once_they_are_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    channel, now = worker.Channel(), 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(ray, "get", lambda value: value)
    wishes = worker._Wishes(SimpleNamespace(wishes=SimpleNamespace(remote=channel.wishes)))
    channel.rest(False)
    channel.make_way(True)
    now += 1
    assert (wishes.stop(), wishes.made_way, channel.at_rest()) == (True, True, False)
    channel.rest(True)
    assert channel.at_rest()
    channel.make_way(False)
    now += 1
    assert (wishes.stop(), wishes.made_way) == (False, False)
    channel.make_way(True)
    channel.stop()
    now += 1
    assert (wishes.stop(), wishes.made_way) == (True, False)
