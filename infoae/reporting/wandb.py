"""Weights & Biases: config, metrics and samples on the global step; wandb is imported only if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor

from infoae.config import Config
from infoae.errors import InfoAEError, one_line
from infoae.runs.run import Run
from infoae.trainer import Metrics, Moment

Mode = Literal["online", "offline", "disabled"]


class WandbReporter:
    """Reporter for one W&B run; a resumed infoae run continues the same W&B run."""

    def __init__(self, wandb_run: Any) -> None:
        self._run = wandb_run

    def stepped(self, moment: Moment) -> None:
        """Log nothing: losses come every few steps."""

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        """Log metrics on the global step."""
        self._run.log(metrics, step=moment.step)

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        """Log measures, and the samples as one picture."""
        import wandb
        from torchvision.utils import make_grid

        grid = make_grid(samples, nrow=8)
        image = wandb.Image(grid.permute(1, 2, 0).numpy(), caption="a row or more per category")
        self._run.log(metrics | {"samples": image}, step=moment.step)

    def saved(self, moment: Moment) -> None:
        """Log nothing: checkpoints stay where they are."""


@contextmanager
def wandb_reporter(mode: Mode, run: Run, config: Config, group: str | None = None) -> Iterator[list[WandbReporter]]:
    """Yield the reporters to add: none if disabled. Closes the W&B run whatever happens; `group` is its sweep."""
    if mode == "disabled":
        yield []
        return
    import wandb

    try:
        wandb_run = wandb.init(
            project="infoae",
            id=run.name,
            name=run.name,
            group=group,
            resume="allow",
            mode=mode,
            dir=run.path,
            config=config.settings(),
            settings=wandb.Settings(silent=True),
        )
    except (wandb.Error, OSError) as error:
        raise InfoAEError(f"W&B {mode} could not start ({one_line(error)}): wandb login, or --wandb offline") from None
    try:
        yield [WandbReporter(wandb_run)]
    finally:
        wandb_run.finish()
