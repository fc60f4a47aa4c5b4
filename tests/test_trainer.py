from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.errors import InfoAEError, UsageError
from infoae.evaluation import evaluate
from infoae.planning import planned, with_image_shape
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.step import Step
from infoae.trainer import Metrics, Moment, Trainer

MakeTrainer = Callable[..., Trainer]


class Recorder:
    """Reporter that remembers what it was told."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.images_left: list[int] = []
        self.logs: list[Metrics] = []
        self.evaluations: list[Metrics] = []

    def stepped(self, moment: Moment) -> None:
        self.steps.append(moment.step)
        self.images_left.append(moment.images_left)

    def logged(self, moment: Moment, metrics: Metrics) -> None:
        self.logs.append(metrics)

    def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
        assert samples.shape == (80, 1, 28, 28)
        self.evaluations.append(metrics)

    def saved(self, moment: Moment) -> None:
        assert moment.step == self.steps[-1]


class Killer(Recorder):
    """Reporter in whose hands training dies after so many steps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def stepped(self, moment: Moment) -> None:
        if moment.step > self.after:
            raise KeyboardInterrupt


def state(step: Step) -> dict[str, Tensor]:
    tensors = {f"model.{name}": value for name, value in step.model.state_dict().items()}
    if step.average is not None:
        tensors |= {f"average.{name}": value for name, value in step.average.module.state_dict().items()}
    return tensors | {f"optimizer.{name}": value for name, value in step.state().tensors["optimizer"].items()}


def test_training_logs_evaluates_and_saves(make_trainer: MakeTrainer, tiny_config: Config) -> None:
    trainer, recorder = make_trainer(tiny_config), Recorder()
    assert trainer.fit([recorder])
    assert recorder.steps == list(range(1, 13))
    assert {"loss/reconstruction", "loss/self_critic", "discriminator_accuracy", "images_per_second"} <= set(
        recorder.logs[-1]
    )
    assert [set(e) >= {"evaluation/recovered", "evaluation/mutual_information"} for e in recorder.evaluations] == [
        True
    ] * 2
    lines = list(trainer.run.metrics())
    assert [line["step"] for line in lines if "loss/reconstruction" in line] == list(range(1, 13))
    assert [line["step"] for line in lines if "evaluation/recovered" in line] == [6, 12]
    newest = checkpoint.newest(trainer.run.checkpoints)
    assert newest is not None
    assert checkpoint.read(newest).step == 12


@pytest.mark.parametrize("stop_after", [1, 4, 6, 9, 11])
def test_a_run_stopped_after_any_step_resumes_bit_equal(
    stop_after: int, make_trainer: MakeTrainer, tiny_config: Config
) -> None:
    unbroken = make_trainer(tiny_config, "unbroken")
    unbroken.fit([])

    stopped = make_trainer(tiny_config, "stopped")
    assert not stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    torch.rand(100)  # whatever else draws random numbers must not matter
    resumed = make_trainer(tiny_config.model_copy(update={"seed": tiny_config.seed}), "stopped")
    resumed.resume()
    assert resumed.done == stop_after
    assert resumed.fit([])

    expected, result = state(unbroken.step), state(resumed.step)
    assert set(result) == set(expected)
    different = [name for name in expected if not torch.equal(expected[name], result[name])]
    assert different == []
    steps = [line["step"] for line in resumed.run.metrics() if "loss/reconstruction" in line]
    assert steps == list(range(1, 13))  # no metric lost or doubled

    def measured(trainer: Trainer) -> list[dict[str, float]]:
        timing = ("seconds", "images_per_second", "data_wait")
        return [{k: v for k, v in line.items() if k not in timing} for line in trainer.run.metrics()]

    assert measured(resumed) == measured(unbroken)


def test_an_epoch_of_two_passes_stopped_in_the_second_resumes_bit_equal(
    make_trainer: MakeTrainer, tiny_config: Config
) -> None:
    few = recipes.replaced(tiny_config, {"train.min_steps_per_epoch": 8, "train.epochs": 1}, "test")
    unbroken, stopped, recorder = make_trainer(few, "unbroken"), make_trainer(few, "stopped"), Recorder()
    assert unbroken.fit([recorder])
    assert recorder.images_left == [50 * left for left in range(11, -1, -1)]
    assert not stopped.fit([], should_stop=lambda: stopped.done == 7)
    resumed = make_trainer(few, "stopped")
    resumed.resume()
    assert resumed.fit([])
    expected, found = state(unbroken.step), state(resumed.step)
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    evaluated = [line["step"] for line in resumed.run.metrics() if "evaluation/mutual_information" in line]
    assert evaluated == [12]


def test_learning_rates_fall_in_a_straight_line_over_the_last_epochs(
    make_trainer: MakeTrainer, tiny_config: Config
) -> None:
    """Six steps an epoch, the last of three decays; a resumed run takes the rates of its steps."""
    settings = {
        "train.epochs": 3,
        "optim.decay_epochs": 1,
        "optim.learning_rate": 0.006,
        "optim.critic_learning_rate": 0.003,
    }
    decaying = recipes.replaced(tiny_config, settings, "test")
    rates: list[tuple[float, float]] = []

    class Watcher(Recorder):
        def stepped(self, moment: Moment) -> None:
            super().stepped(moment)
            optimizers = [player.optimizer for player in trainer.step._players]
            rates.append((optimizers[0].param_groups[0]["lr"], optimizers[1].param_groups[0]["lr"]))

    trainer = make_trainer(decaying)
    trainer.fit([Watcher()], should_stop=lambda: trainer.done == 15)
    trainer = make_trainer(decaying)
    trainer.resume()
    trainer.fit([Watcher()])
    parts = np.array([1.0] * 12 + [6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    np.testing.assert_allclose(rates, parts[:, None] * [0.006, 0.003])


def test_metrics_written_after_the_last_checkpoint_are_dropped_on_resume(
    make_trainer: MakeTrainer, tiny_config: Config
) -> None:
    trainer = make_trainer(tiny_config)
    trainer.fit([], should_stop=lambda: trainer.done == 6)
    with (trainer.run.path / "metrics.jsonl").open("a") as file:  # a crash in the second epoch
        file.write(json.dumps({"step": 7, "loss/reconstruction": 1.0}) + "\n")
        file.write('{"step": 8, "loss/rec')
    again = make_trainer(tiny_config)
    again.resume()
    again.fit([])
    steps = [line["step"] for line in again.run.metrics() if "loss/reconstruction" in line]
    assert steps == list(range(1, 13))


def test_a_run_saved_within_an_epoch_loses_little_and_goes_on_bit_equal(
    make_trainer: MakeTrainer, tiny_config: Config
) -> None:
    plain = make_trainer(tiny_config, "plain")
    plain.fit([])
    often = tiny_config.model_copy(update={"train": tiny_config.train.model_copy(update={"save_every": 4})})
    broken, saved = make_trainer(often, "broken"), []

    class Crash(Recorder):
        def saved(self, moment: Moment) -> None:
            saved.append(moment.step)

        def stepped(self, moment: Moment) -> None:
            if moment.step == 10:
                raise RuntimeError("killed")

        def evaluated(self, moment: Moment, metrics: Metrics, samples: Tensor) -> None:
            pass

    with pytest.raises(RuntimeError, match="killed"):
        broken.fit([Crash()])
    assert saved == [4, 6, 8]
    resumed = make_trainer(often, "broken")
    resumed.resume()
    assert resumed.done == 8
    resumed.fit([])
    expected, result = state(plain.step), state(resumed.step)
    assert [name for name in expected if not torch.equal(expected[name], result[name])] == []


def test_a_finished_run_is_not_trained_again(make_trainer: MakeTrainer, tiny_config: Config) -> None:
    make_trainer(tiny_config).fit([])
    with pytest.raises(InfoAEError, match=r"finished \(2 of 2 epochs\).*--epochs"):
        make_trainer(tiny_config).resume()


def test_a_run_killed_before_its_first_checkpoint_is_resumed_from_the_start(
    make_trainer: MakeTrainer, tiny_config: Config
) -> None:
    killed = make_trainer(tiny_config, "killed")
    with pytest.raises(KeyboardInterrupt):
        killed.fit([Killer(after=3)])
    unbroken, resumed = make_trainer(tiny_config, "unbroken"), make_trainer(tiny_config, "killed")
    resumed.resume()
    assert resumed.done == 0
    for trainer in (unbroken, resumed):
        assert trainer.fit([])
    expected, found = state(unbroken.step), state(resumed.step)
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    steps = [line["step"] for line in resumed.run.metrics() if "images_per_second" in line]
    assert steps == list(range(1, resumed.total_steps + 1))


def test_training_never_reads_a_label_of_the_training_images(
    make_trainer: MakeTrainer, tiny_config: Config, mnist: tuple[ImageSet, ImageSet]
) -> None:
    """The same weights come out whatever the labels say, and no measure of training is of them."""
    plain, recorder = make_trainer(tiny_config, "plain"), Recorder()
    plain.fit([recorder])
    assert "evaluation/mutual_information" in recorder.evaluations[0]
    assert not any("accuracy" in name for name in recorder.evaluations[0])
    assert mnist[0].labels is not None
    turned = ImageSet(mnist[0].images, (mnist[0].labels + 3) % 10)
    other = Trainer(
        Run.create(plain.run.path.parent, "other", "test", plain.config),
        plain.config,
        turned,
        torch.device("cpu"),
        torch.float32,
    )
    other.fit([])
    assert all(torch.equal(a, b) for a, b in zip(state(plain.step).values(), state(other.step).values(), strict=True))
    kept = [[p.name for p in sorted(t.run.checkpoints.iterdir())] for t in (plain, other)]
    assert kept[0] == kept[1]  # nor does the choice of the best checkpoint


def test_the_score_is_of_held_out_images_where_there_are_any(
    make_trainer: MakeTrainer, tiny_config: Config, mnist: tuple[ImageSet, ImageSet]
) -> None:
    """And nothing is trained on them: the same weights come out as without them."""
    plain = make_trainer(tiny_config, "plain")
    plain.fit([])
    data = ImageSet(mnist[0].images, None, mnist[1].images[:80])
    run = Run.create(plain.run.path.parent, "held-out", "test", plain.config)
    scored = Trainer(run, plain.config, data, torch.device("cpu"), torch.float32)
    scored.fit([])
    for name, tensor in state(plain.step).items():
        assert torch.equal(tensor, state(scored.step)[name]), name
    key = "evaluation/mutual_information"
    scores = [[line[key] for line in trainer.run.metrics() if key in line][-1] for trainer in (plain, scored)]
    model = scored.step.evaluated_model()
    assert scores[0] == pytest.approx(evaluate.label_free(model, mnist[0].images).mutual_information)
    assert scores[1] == pytest.approx(evaluate.label_free(model, mnist[1].images[:80]).mutual_information)
    assert scores[0] != scores[1]


def test_the_image_shape_comes_from_the_data_or_must_agree(
    tiny_config: Config, mnist: tuple[ImageSet, ImageSet]
) -> None:
    unset = tiny_config.model_copy(
        update={"model": tiny_config.model.model_copy(update={"channels": None, "image_size": None})}
    )
    filled = with_image_shape(unset, mnist[0])
    assert (filled.model.channels, filled.model.image_size) == (1, 28)
    wrong = tiny_config.model_copy(update={"model": tiny_config.model.model_copy(update={"channels": 3})})
    with pytest.raises(UsageError, match=r"model\.channels is 3, but the images of shards have 1"):
        with_image_shape(wrong, mnist[0])
    with pytest.raises(UsageError, match="28 x 20"):
        with_image_shape(unset, ImageSet(mnist[0].images[..., :20], None))


def test_a_single_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 2 images"):
        planned("smoke", ["data.limit=1"], tmp_path, None)
