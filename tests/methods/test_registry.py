"""The seam: another method is trained, resumed, evaluated and exported by the very same code."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.deploy import Classifier
from infoae.deploy.export import export_run
from infoae.evaluation.evaluate import evaluate_run
from infoae.methods import registry, schedules
from infoae.methods.infoae import InfoAEMethod
from infoae.methods.method import Side
from infoae.model import InfoAE
from infoae.objective import Terms
from infoae.stages import Schedule, Stage
from infoae.trainer import Trainer

PLAIN = ("reconstruction", "mutual_information")


class Autoencoder(InfoAEMethod):
    """One side, one stage, two losses, no critic."""

    def sides(self, model: InfoAE, config: Config) -> tuple[Side, ...]:
        networks = (model.encoder, model.decoder, model.classifier)
        return (Side([p for net in networks for p in net.parameters()], PLAIN, config.optim.learning_rate),)

    def compute(self, *arguments: object) -> Terms:
        terms = super().compute(*arguments)  # type: ignore[arg-type]
        assert set(terms.losses) == set(PLAIN)
        return terms


@pytest.fixture
def another_method(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.METHODS, "infoae", Autoencoder())
    whole = lambda run: Schedule(run, (Stage("whole", range(run.train.epochs), PLAIN, adversarial=True),))  # noqa: E731
    monkeypatch.setitem(schedules.SCHEDULES, "infoae", whole)


@pytest.mark.usefixtures("another_method")
def test_another_method_is_trained_resumed_evaluated_and_exported(
    make_trainer: Callable[..., Trainer], tiny_config: Config, mnist: tuple[ImageSet, ImageSet]
) -> None:
    unbroken = make_trainer(tiny_config, "unbroken")
    before = {name: value.clone() for name, value in unbroken.step.model.state_dict().items()}
    unbroken.fit([])
    stopped = make_trainer(tiny_config, "stopped")
    stopped.fit([], should_stop=lambda: stopped.done == 5)
    resumed = make_trainer(tiny_config, "stopped")
    resumed.resume()
    resumed.fit([])
    weights, again = (trainer.step.model.state_dict() for trainer in (unbroken, resumed))
    assert [name for name in weights if not torch.equal(weights[name], again[name])] == []
    moved = {name.partition(".")[0] for name in weights if not torch.equal(weights[name], before[name])}
    assert {"encoder", "decoder", "classifier"} <= moved
    assert not any(
        name.endswith("weight") and not torch.equal(weights[name], before[name])
        for name in weights
        if name.startswith(("discriminator", "self_critic.joint", "generator"))
    )

    found = evaluate_run(unbroken.run, mnist[1], "best", torch.device("cpu"))
    assert found.measures.labelled is not None
    bundle = export_run(unbroken.run, unbroken.run.path / "bundle").path
    images = mnist[1].images[:50]
    expected = InfoAE.of_run(unbroken.run).classify(images).argmax(1).numpy()
    np.testing.assert_array_equal(Classifier(bundle).classify(images).labels, expected)


def test_every_method_has_a_schedule_and_a_name_in_the_configuration() -> None:
    names = Config.model_json_schema()["properties"]["method"]
    known = set(names.get("enum", [names.get("const")]))
    assert set(registry.METHODS) == set(schedules.SCHEDULES) == known
    assert recipes.load("mnist").method in known
