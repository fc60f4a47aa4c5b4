"""What the command knows of its workers while they train, whom it tells, and what it says of those it lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
import ray.train

from infoae.cluster import placement
from infoae.cluster.watching import Watch
from infoae.cluster.worker import Ended
from infoae.errors import InfoAEError, UnavailableError, counted, one_line
from infoae.reporting.training import TrainingProgress
from infoae.results import Team
from infoae.trainer import Reporter

WAIT_SECONDS = 600.0  # for lost nodes to be replaced
TELL_SECONDS = 60.0


@dataclass
class Following:
    """What the command knows of its workers, and whom it tells."""

    go_on: str
    """The command that does, if training ends early."""
    retries: int
    progress: TrainingProgress
    reporters: Sequence[Reporter]
    restarts: int = 0
    restarted: Callable[[int, str], object] = lambda *_: None
    """Told how often so far, and what was lost."""
    ended: Ended | None = None
    """What the main worker said last."""
    waiting_since: float | None = field(default_factory=time.monotonic)
    """None while workers train."""
    watch: Watch = field(default_factory=Watch)
    stuck: str | None = None
    """Why a worker was ended, until others have started."""
    leaving: list[str] = field(default_factory=list)
    """Addresses of the workers' nodes that are announced to be taken away."""
    told_waiting: float = 0.0

    def hear(self, events: list[tuple[Any, ...]]) -> None:
        """Act on what workers and controller said, in the order they said it."""
        for kind, *values in events:
            if kind == "beat":
                self.watch.hear(*values)
            elif kind == "left":
                self.watch.left(*values)
            elif kind == "lost":
                self._lost(*values)
            elif kind == "started":
                self._started(*values)
            elif kind == "ended":
                self.ended = values[0]
            else:
                for reporter in self.reporters:
                    getattr(reporter, kind)(*values)

    def _lost(self, what: str) -> None:
        self.watch.dismiss()  # Ray Train ends the others
        self.waiting_since, self.told_waiting = time.monotonic(), 0.0
        if self.restarts < self.retries:
            self.restarts += 1
            what = self.stuck or what
            self.progress.say(f"{what}; restart {self.restarts} of at most {self.retries}")
            self.restarted(self.restarts, what)

    def _started(self, step: int, total_steps: int, team: Team) -> None:
        if self.waiting_since is None and self.leaving:  # Ray Train says nothing of it
            self.restarts += 1
            self.restarted(self.restarts, f"{', '.join(self.leaving)} was announced to be taken away")
        self.waiting_since, self.stuck, self.leaving = None, None, []
        self.progress.staffed(team, self.restarts)
        self.progress.say(f"{team} train from step {step} of {total_steps}")

    def check_waiting(self) -> None:
        """Say that no workers have come for long. Raises UnavailableError when that has been too long."""
        waited = 0.0 if self.waiting_since is None else time.monotonic() - self.waiting_since
        if waited > self.told_waiting + TELL_SECONDS:
            self.told_waiting = waited
            self.progress.say(f"no workers for {waited:.0f} s: waiting for nodes, {WAIT_SECONDS:.0f} s at most")
        if waited > WAIT_SECONDS:
            raise UnavailableError(
                f"no workers for {WAIT_SECONDS:.0f} s: the cluster has lost too many nodes; "
                f"add some and go on with: {self.go_on}"
            )

    def check_workers(self) -> None:
        """End a worker that is stuck: then Ray Train starts all again, as if it had been lost."""
        stuck = self.watch.look()
        if stuck is not None:
            self.stuck = stuck.why
            self.progress.say(f"{stuck.why}: it is ended")
            ray.kill(stuck.actor)

    def check_nodes(self) -> bool:
        """Return whether a node of a worker will be taken away, and say so once."""
        found = placement.leaving(self.watch.nodes())
        if new := [address for address in found if address not in self.leaving]:
            self.leaving = found
            self.progress.say(f"{', '.join(new)} will be taken away: saving every few seconds until then")
        return bool(found)


def failure(error: Exception, following: Following, log: Path) -> InfoAEError:
    """What to raise for the error that Ray Train ended with."""
    again = f"see {log}, go on with: {following.go_on}"
    if isinstance(error, ray.train.ControllerError):
        why = error.controller_failure
        if isinstance(why, InfoAEError):
            return why
        return UnavailableError(f"Ray Train: {one_line(why, first=True)}; {again}")
    failures = error.worker_failures if isinstance(error, ray.train.WorkerGroupError) else {}
    what = explain(failures) if failures else one_line(error, first=True)  # which says that a machine was taken away
    kind = UnavailableError if not failures or any(map(is_outside, failures.values())) else InfoAEError
    if following.stuck is not None:
        what, kind = following.stuck, UnavailableError
    return kind(f"gave up after {counted(following.restarts, 'restart')}: {what}; {again}")


def is_outside(error: Exception) -> bool:
    """Whether a worker or the storage was lost, rather than that training went wrong."""
    return isinstance(error, UnavailableError) or type(error).__module__.startswith("ray.")


def explain(failures: dict[int, Exception]) -> str:
    """What happened, in one line: a worker that is gone says more than those that then missed it."""
    outside = {rank: error for rank, error in sorted(failures.items()) if is_outside(error)}
    rank, error = min((outside or failures).items(), key=lambda failure: failure[0])
    if isinstance(error, UnavailableError):
        return f"worker {rank}: {error}"
    if outside:
        return f"worker {', '.join(map(str, outside))} was lost"
    return f"worker {rank}: {type(error).__name__}: {one_line(error, first=True)}"
