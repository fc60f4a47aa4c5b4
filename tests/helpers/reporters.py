"""Reporters of a training for tests."""

from __future__ import annotations

from torch import Tensor

from infoae.trainer import Metrics, Moment


class Silent:
    """Reporter that does nothing, to be given what it should do."""

    def stepped(self, moment: Moment) -> None:
        pass

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        pass

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        pass

    def saved(self, moment: Moment) -> None:
        pass
