from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from infoae.config import Config
from infoae.data import ImageSet
from infoae.evaluation import evaluate
from infoae.model import InfoAE
from infoae.pseudolabels import neighbour_graph
from infoae.runs import checkpoint
from infoae.runs.run import Run
from tests.helpers.models import sides_of


class Oracle(InfoAE):
    """Answers with the class that was painted into an image's brightness: a model whose measures are known."""

    def classify(self, images: object) -> Tensor:
        x = self.to_input(images)  # type: ignore[arg-type]
        index = (x.amax((1, 2, 3)) * 10 - 1).round().clamp(0, 9).long()
        return torch.nn.functional.one_hot((index + 3) % 10, 10).float()


def painted(labels: np.ndarray) -> ImageSet:
    images = np.zeros((len(labels), 1, 28, 28), np.uint8)
    images[:, :, 8:20, 8:20] = ((labels + 1) * 25)[:, None, None, None]
    return ImageSet(images, labels)


def test_a_perfect_answer_scores_one_whatever_its_category_numbers(tiny_config: Config) -> None:
    data = painted(np.arange(200) % 10)
    result = evaluate.evaluate(Oracle(tiny_config.model), data)
    assert result.labelled is not None
    assert result.labelled.accuracy == result.labelled.nmi == result.labelled.ari == 1
    assert result.labelled.matching == {(k + 3) % 10: k for k in range(10)}
    assert result.labelled.purity == [1] * 10
    assert result.label_free.mutual_information == pytest.approx(math.log(10), abs=0.02)
    assert result.label_free.balance == pytest.approx(1)
    assert result.label_free.categories_used == 10
    assert result.category_sizes == [20] * 10


def test_the_parameters_of_both_sides_are_counted(tiny_config: Config) -> None:
    model = Oracle(tiny_config.model)
    counted = sum(parameter.numel() for side in sides_of(model, tiny_config) for parameter in side)
    found = evaluate.evaluate(model, painted(np.arange(20) % 10))
    assert found.num_parameters == found.to_dict()["num_parameters"] == counted > 10_000


@pytest.mark.parametrize("learned", [False, True])
def test_categories_are_suspected_by_neighbours_in_what_was_trained_on(
    learned: bool, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"encoder": "residual", "projection_dim": 8} if learned else {}
    model = InfoAE(tiny_config.model.model_copy(update=sizes)).eval()
    seen: list[tuple[int, ...]] = []

    def nearest(values: np.ndarray, *_: object) -> np.ndarray:
        seen.append(values.shape)
        return np.zeros((len(values), 1), np.int32)

    for name in ("nearest_neighbours", "nearest_by_features"):
        monkeypatch.setattr(neighbour_graph, name, nearest)
    images = painted(np.arange(1000) % 10).images
    assert any("may be one thing" in said for said in evaluate._suspicious_categories(model, images, 0))
    assert seen == [(1000, model.encoder.num_features) if learned else (1000, 1, 28, 28)]


def test_one_answer_for_everything_carries_no_information(tiny_config: Config) -> None:
    data = painted(np.zeros(50, np.int64))
    result = evaluate.evaluate(Oracle(tiny_config.model), data)
    assert result.label_free.mutual_information == pytest.approx(0, abs=1e-9)
    assert (result.label_free.balance, result.label_free.categories_used) == (0, 1)


def test_the_label_free_part_ignores_labels(finished_run: Run, mnist: tuple[ImageSet, ImageSet]) -> None:
    model, data = InfoAE.of_run(finished_run), mnist[1]
    with_labels = evaluate.evaluate(model, data)
    without = evaluate.evaluate(model, ImageSet(data.images, None))
    assert without.labelled is None
    assert without.label_free == with_labels.label_free
    assert without.generated == with_labels.generated
    assert "accuracy" not in without.to_dict()


def test_the_measures_are_json_and_repeat(finished_run: Run, mnist: tuple[ImageSet, ImageSet]) -> None:
    first, second = (evaluate.evaluate(InfoAE.of_run(finished_run), mnist[1]).to_dict() for _ in range(2))
    assert json.loads(json.dumps(first, allow_nan=False)) is not None
    assert first == second
    assert {"accuracy", "nmi", "ari", "categories_used", "label_free", "generated", "confusion"} <= set(first)
    assert np.sum(first["confusion"]) == first["num_images"] == 500


def test_identical_samples_have_no_diversity(finished_run: Run, mnist: tuple[ImageSet, ImageSet]) -> None:
    model = InfoAE.of_run(finished_run)
    with torch.no_grad():
        next(model.generator.parameters())[:, : model.noise_dim] = 0  # the noise no longer matters
    categories = model.classify(mnist[1].images).argmax(1).numpy()
    result = evaluate.generated(model, mnist[1].images, categories)
    assert result.diversity_pixels == pytest.approx(0, abs=1e-4)
    assert result.diversity_latent == pytest.approx(0, abs=1e-4)


def test_samples_that_are_real_images_have_a_diversity_of_one(
    finished_run: Run, mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = InfoAE.of_run(finished_run), mnist[1]
    assert data.labels is not None
    real = [data.images[data.labels == k] for k in range(10)]
    drawn = np.concatenate([np.resize(images, (evaluate.SAMPLES_PER_CATEGORY, *images.shape[1:])) for images in real])
    monkeypatch.setattr(model, "draw_images", lambda *_: torch.tensor(drawn) / 255)
    result = evaluate.generated(model, data.images, data.labels)
    assert result.diversity_pixels == pytest.approx(1, abs=0.1)


def test_how_the_two_sides_stood_at_the_end_is_said(
    finished_run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    run = Run(shutil.copytree(finished_run.path, tmp_path / "run"))
    cpu = torch.device("cpu")
    before = evaluate.evaluate_run(run, mnist[1], "best", cpu).measures.warnings
    with (run.path / "metrics.jsonl").open("a") as file:
        for right in (0.5, *[0.999] * evaluate.LOGGED_STEPS):
            line = {"step": 1, "discriminator_accuracy": right, "loss/encoder_adversarial": 9.5}
            file.write(json.dumps(line) + "\n")
    after = evaluate.evaluate_run(run, mnist[1], "best", cpu).measures.warnings
    found = [warning for warning in after if warning not in before]
    assert any("the discriminator tells 100% of what it sees apart" in warning for warning in found)
    assert any("encoder_adversarial 9.5 nats" in warning for warning in found)
    written = json.loads((run.path / "evaluation.json").read_text())
    assert written["warnings"] == after
    assert (written["run"], written["checkpoint"]) == ("run", run.checkpoint("best").name)
    saved = checkpoint.read(run.checkpoint("best"))
    assert (written["checkpoint_step"], written["score"]) == (saved.step, saved.score)
