"""Which values the trials of a sweep get, and when a trial is stopped; both know what the sweep has found before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from infoae.errors import UsageError
from infoae.methods.schedules import schedule_of
from infoae.tune import space as searching
from infoae.tune.record import Sweep, Trial, save
from infoae.tune.space import Values

REDUCTION = 3  # ASHA lets a third of the trials pass the first epoch of everything, and three and nine times that


def make_scheduler(sweep: Sweep) -> TrialScheduler:
    """Return the scheduler, told what trials have reported before."""
    if sweep.scheduler == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    first_scored = schedule_of(sweep.config).first_scored_epoch
    asha = ASHAScheduler(
        time_attr="epoch",
        metric="score",
        mode="max",
        max_t=sweep.config.train.epochs,
        grace_period=first_scored + 1,  # before it most λs have changed nothing
        reduction_factor=REDUCTION,
    )
    for trial in sweep.trials:
        if trial.status != "unfinished":
            known: Any = SimpleNamespace(trial_id=trial.run)
            asha.on_trial_add(None, known)  # type: ignore[arg-type]  # the controller is not used
            for epoch in trial.epochs:
                asha.on_trial_result(None, known, epoch.model_dump())  # type: ignore[arg-type]
    return asha


class Numbered(Searcher):
    """Numbers the trials and decides their values: unfinished trials first, then new ones.

    The first trial has the values that the recipe has, if they are in the space: what the others are to beat.
    """

    def __init__(self, sweep: Sweep, folder: Path) -> None:
        super().__init__(metric="score", mode="max")
        self._sweep, self._folder = sweep, folder
        self._waiting = [trial for trial in sweep.trials if trial.status == "unfinished"]
        self._given: dict[str, Trial] = {}
        self._asked: set[str] = set()
        self._optuna = optuna_search(sweep) if sweep.search == "optuna" else None
        self._grid = list(searching.grid(sweep.space)) if sweep.search == "grid" else None

    def suggest(self, trial_id: str) -> Any:
        """Return number and values of the next trial, an unfinished one first, or `FINISHED`."""
        if self._waiting:
            trial = self._waiting.pop(0)
        elif len(self._sweep.trials) < self._sweep.num_trials:
            number = len(self._sweep.trials)
            values = self._values(number, trial_id)
            trial = Trial(number=number, run=f"{self._sweep.name}-{number:03d}", values=values)
            self._sweep.trials.append(trial)
            save(self._sweep, self._folder)  # before it trains: Optuna would not suggest its values again
        else:
            return Searcher.FINISHED
        self._given[trial_id] = trial
        return {"number": trial.number, "values": trial.values}

    def _values(self, number: int, trial_id: str) -> Values:
        sweep = self._sweep
        if self._grid is not None:
            return self._grid[number]
        current = searching.current(sweep.config, sweep.space) if number == 0 else None
        if current is not None:
            return current
        if self._optuna is None:
            return searching.draw(sweep.space, sweep.config.seed, number)
        self._asked.add(trial_id)
        suggested: Values = self._optuna.suggest(trial_id)
        return suggested

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell Optuna how a trial ended; one whose machine was lost says nothing of its values."""
        if self._optuna is None:
            return
        if result is not None and "lost" in result:
            result, error = None, True  # its score says nothing of its values
        if trial_id in self._asked:
            self._optuna.on_trial_complete(trial_id, result, error)
        elif result is not None:
            self._optuna.add_evaluated_point(self._given[trial_id].values, result["score"])

    def save(self, checkpoint_path: str) -> None:
        """Leave an empty file where Tune wants one."""
        Path(checkpoint_path).touch()  # sweep.json is what a sweep is resumed from


def optuna_search(sweep: Sweep) -> Any:
    """Return Tune's searcher on Optuna's TPE, told of the trials that have ended. Raises UsageError without Optuna."""
    try:
        import optuna
    except ImportError:
        raise UsageError("--search optuna needs Optuna: pip install 'infoae[optuna]'") from None
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended = [trial for trial in sweep.trials if trial.status != "unfinished"]
    found = OptunaSearch(
        OptunaSearch.convert_search_space({name: dimension.domain() for name, dimension in sweep.space.items()}),
        metric="score",
        mode="max",
        seed=sweep.config.seed + len(sweep.trials),  # a resumed search must not draw its first values again
    )
    for trial in ended:
        found.add_evaluated_point(trial.values, trial.score or 0.0)
    return found
