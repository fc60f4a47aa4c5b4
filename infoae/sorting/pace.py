"""How long a training takes, by a rehearsal of every stage on some of its pictures; and fewer epochs, to fit a time."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
from torch import Tensor

from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.data.sampler import steps_an_epoch
from infoae.methods.schedules import schedule_of
from infoae.planning import Plan
from infoae.runs.run import Run
from infoae.trainer import Metrics, Moment, Trainer

PICTURES, STEPS = 1000, 3
"""What a rehearsal has, and how many steps each stage takes in it."""
FEWEST_EPOCHS, SHARE = 2, 5
"""No stage has fewer epochs than that, or than this part of the recipe's, unless the recipe itself has."""

_KEYS = {
    "representation": "stages.representation_epochs",
    "mutual_information": "stages.mutual_information_epochs",
    "pseudo_labels": "stages.pseudo_label_epochs",
}


@dataclass(frozen=True)
class Pace:
    """Seconds, of each stage by name: of a step, of what comes after an epoch; and of the search for neighbours.

    The last two are for `count` pictures.
    """

    count: int
    before: float
    step: Mapping[str, float]
    after: Mapping[str, float]

    def seconds(self, config: Config, count: int) -> float:
        """Return how long `config` trains on `count` pictures."""
        train, times = config.train, count / self.count
        steps = steps_an_epoch(count, train.batch_size, train.min_steps_per_epoch)
        stages = schedule_of(config).stages
        each = (
            len(stage.epochs) * (steps * self.step[stage.name] + times * self.after[stage.name]) for stage in stages
        )
        return times * self.before + sum(each)


@dataclass
class _Clock:
    """Takes the time of every step and of every epoch's end."""

    last: float = field(default_factory=time.perf_counter)
    steps: dict[int, list[float]] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)

    def _lap(self) -> float:
        before, self.last = self.last, time.perf_counter()
        return self.last - before

    def stepped(self, moment: Moment) -> None:
        """Take the time of a step."""
        self.steps.setdefault(moment.epoch, []).append(self._lap())

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Nothing."""

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        """Nothing."""

    def saved(self, moment: Moment) -> None:
        """Take the time of an epoch's end."""
        self.ends[moment.epoch] = self._lap()


def measured(plan: Plan) -> Pace:
    """Go through every stage of a plan, an epoch of STEPS steps each, and return how long that takes."""
    rows = np.sort(np.random.default_rng(plan.config.seed).permutation(len(plan.train))[:PICTURES])
    features = None if plan.train.features is None else np.asarray(plan.train.features[rows])
    train = ImageSet(plan.train.images[rows], None, features=features)
    stages = schedule_of(plan.config).stages
    settings = {
        "train.epochs": len(stages),
        "train.min_steps_per_epoch": STEPS,
        "train.patience": None,
        "optim.decay_epochs": 0,
    } | {_KEYS[stage.name]: 1 for stage in stages if stage.name in _KEYS}
    if plan.config.method == "infoae":
        settings |= {"neighbours.refresh_every": None, "pseudo_labels.refresh_every": None}
    config = recipes.replaced(plan.config, settings, "--minutes")
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for name in ("first", "second"):  # the first one loads and compiles what the second has
            clock = _Clock()
            trainer = Trainer(
                Run.create(Path(folder), name, "pace", config), config, train, plan.device, plan.precision
            )
            made.append(clock._lap())
        trainer.fit([clock])
    return Pace(
        count=len(rows),
        before=made[-1],
        step={stage.name: median(clock.steps[epoch]) for epoch, stage in enumerate(stages, 1)},
        after={stage.name: clock.ends[epoch] for epoch, stage in enumerate(stages, 1)},
    )


def fitted(config: Config, count: int, pace: Pace, seconds: float) -> tuple[list[str], str]:
    """Return the settings by which training on `count` pictures takes so many seconds at most, and what to tell of it.

    All stages are shortened in proportion. None falls below its fewest epochs, whatever the time.
    """
    for share in np.linspace(1, 0, 101):
        settings = _shortened(config, float(share))
        needed = pace.seconds(recipes.replaced(config, settings, "--minutes"), count)
        if needed <= seconds:
            break
    told = f"{settings['train.epochs']} of the recipe's {config.train.epochs} epochs, about {needed / 60:.1f} minutes"
    if needed > seconds:
        told += f": --minutes {seconds / 60:g} is too short, and with fewer epochs nothing is found"
    return [f"{key}={value}" for key, value in settings.items()], told


def _shortened(config: Config, share: float) -> dict[str, int]:
    """Return the settings that leave a share of the epochs of each stage, at least the fewest."""
    epochs = {
        stage.name: min(
            len(stage.epochs), max(FEWEST_EPOCHS, -(-len(stage.epochs) // SHARE), int(share * len(stage.epochs)))
        )
        for stage in schedule_of(config).stages
    }
    every = sum(epochs.values())
    settings = {_KEYS[name]: count for name, count in epochs.items() if name in _KEYS}
    return settings | {
        "train.epochs": every,
        "optim.decay_epochs": config.optim.decay_epochs * every // config.train.epochs,
    }
