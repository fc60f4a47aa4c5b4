"""Export of over-categories: the graphs merge their probabilities and choose among them as the model does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from infoae import config, data
from infoae.config import recipes
from infoae.deploy import Classifier, Generator, export, graphs
from infoae.deploy.bundle import Bundle
from infoae.deploy.export import export_run
from infoae.deploy.precision import Precision, to_fp16
from infoae.errors import InfoAEError
from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.checkpoint import Checkpoint
from infoae.runs.run import Run
from infoae.step import Step
from tests.helpers.models import lively


@pytest.fixture(scope="module")
def over_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a model with 23 over-categories, merged at random; one category has a single one, one many."""
    settings = ["model.channels=1", "model.image_size=28", "model.width=4", "model.hidden_dim=16"]
    settings += ["model.latent_dim=8", "model.num_over_categories=23", "data.limit=300", "train.precision=fp32"]
    run_config = recipes.load("smoke", settings)
    model = lively(num_over_categories=23)
    random = torch.Generator().manual_seed(1)
    category_of = torch.cat([torch.arange(10), torch.randint(2, 10, (13,), generator=random)])
    model.merge(category_of[torch.randperm(23, generator=random)], torch.rand(23, generator=random))
    with torch.no_grad():
        model.classifier.get_parameter("layers.2.weight").mul_(10)  # answers that differ
    run = Run.create(tmp_path_factory.mktemp("over"), "over", "test", run_config)
    step = Step(model, run_config, torch.device("cpu"), torch.float32)
    checkpoint.save(run.checkpoints, Checkpoint(1, 1, 0.0, 1.0), step.state())
    return run


def test_over_categories_are_merged_and_chosen_inside_the_graphs(over_run: Run, tmp_path: Path) -> None:
    bundle = export_run(over_run, tmp_path / "bundle").path
    images = data.load(config.Data(), "test").images[:500]
    model, manifest = InfoAE.of_run(over_run), Bundle.load(bundle).manifest
    assert manifest.num_categories == len(manifest.category_names) == 10
    assert manifest.files["classifier"].outputs["probabilities"].shape == ("batch", 10)
    answers = Classifier(bundle).classify(images)
    np.testing.assert_allclose(answers.probabilities, model.classify(images), atol=1e-4)
    assert len(set(answers.labels.tolist())) > 1
    assert Generator(bundle).generate(9, 3, seed=0).shape == (3, 1, 28, 28)
    with pytest.raises(InfoAEError, match="0 to 9"):
        Generator(bundle).generate(10, 3, seed=0)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_the_graph_chooses_the_over_category_that_the_model_does(over_run: Run, precision: Precision) -> None:
    """At the very noise where one over-category ends and the next begins, one rounding aside, in any precision."""
    model = InfoAE.of_run(over_run)
    graph = export.to_onnx(graphs.build_graphs(model)["generator"], graphs.describe(model)["generator"])
    if precision is Precision.FP16:
        graph = to_fp16(graph)
        onnx.checker.check_model(graph, full_check=True)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    borders = model.chosen_up_to[(model.chosen_up_to > -1) & (model.chosen_up_to < 1)]
    above = torch.nextafter(borders, torch.ones(()))
    u = torch.cat([borders, above, torch.tensor([-1.0, 1.0])]).repeat(10)
    category = torch.arange(10).repeat_interleave(len(u) // 10)
    noise = torch.rand(len(u), 100, generator=torch.Generator().manual_seed(0)) * 2 - 1
    noise[:, 0] = u
    over = model.choose_over(category, u)
    assert torch.equal(model.category_of[over], category)
    assert len(set(over.tolist())) == 23
    with torch.inference_mode():
        expected = model.decode(model.generator(noise, torch.eye(23)[over]))
    (images,) = session.run(["images"], {"noise": noise.numpy(), "category": category.numpy()})
    np.testing.assert_allclose(images, expected, atol=1e-4 if precision is Precision.FP32 else 2e-2)
