"""Who of several workers is stuck, of what each says of itself, and which of their nodes will be taken away."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from infoae.cluster.beating import Beat, Worker
from infoae.limits import MAX_SILENCE

LOOK_SECONDS = 1.0
"""A pause of the command counts as so much: while it was stopped, nobody could be heard."""
_NAMED = 3
"""Workers that a message names."""


@dataclass
class _Heard:
    beat: Beat
    silent: float = 0.0
    """Seconds since then in which the command listened."""


@dataclass(frozen=True)
class Stuck:
    """What is wrong, and the worker to end, so that all are started again."""

    why: str
    actor: Any


class Watch:
    """All workers that train at the moment, as they were last heard."""

    def __init__(self) -> None:
        self._heard: dict[int, _Heard] = {}
        self._team, self._past = "", set[str]()
        self._looked = time.monotonic()

    def hear(self, beat: Beat) -> None:
        """Take what a worker says; the first of those that were started later takes the place of all."""
        worker = beat.worker
        if worker.team in self._past:
            return
        if worker.team != self._team:
            self.dismiss()
            self._team = worker.team
        self._heard[worker.rank] = _Heard(beat)

    def left(self, worker: Worker) -> None:
        """Take that a worker has done its work, or has failed by itself."""
        if worker.team == self._team:
            self._heard.pop(worker.rank, None)

    def nodes(self) -> dict[str, str]:
        """Return the address of each node that has workers, by its id."""
        workers = [heard.beat.worker for heard in self._heard.values()]
        return {worker.node: worker.address for worker in workers}

    def look(self) -> Stuck | None:
        """Return what is stuck, once: whoever says nothing, is long over its part of a step, or waits with all others.

        Work that may take any time, as an evaluation, is never stuck, nor is who waits for it.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, LOOK_SECONDS), now
        for heard in self._heard.values():
            heard.silent += passed
        found = self._silent() or self._slow() or self._waiting()
        if found is not None:
            self.dismiss()
        return found

    def dismiss(self) -> None:
        """Forget those that train, and hear them no more."""
        self._past.add(self._team)
        self._heard.clear()

    def _silent(self) -> Stuck | None:
        for _, heard in sorted(self._heard.items()):
            if heard.silent > MAX_SILENCE:
                beat = heard.beat
                silence = f"has said nothing for more seconds than {MAX_SILENCE}"
                return Stuck(f"{beat.worker} {silence}, last of {beat.what}", beat.worker.actor)
        return None

    def _slow(self) -> Stuck | None:
        for _, heard in sorted(self._heard.items()):
            beat = heard.beat
            if not beat.waits and beat.seconds > beat.patience * MAX_SILENCE:
                return Stuck(f"{beat.worker} has been at {beat.what} for {beat.seconds:.0f} s", beat.worker.actor)
        return None

    def _waiting(self) -> Stuck | None:
        beats = [heard.beat for _, heard in sorted(self._heard.items())]
        if not beats or not all(beat.waits and beat.seconds > beat.patience * MAX_SILENCE for beat in beats):
            return None
        longest = max(beats, key=lambda beat: beat.seconds)
        others = [beat for beat in beats if beat is not longest]
        named = [f"{beat.worker} at {beat.what} for {beat.seconds:.0f} s" for beat in [longest, *others][:_NAMED]]
        return Stuck(f"all {len(beats)} workers wait: {'; '.join(named)}", longest.worker.actor)
