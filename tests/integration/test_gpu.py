"""On a CUDA GPU (`pytest -m gpu`, `just test-gpu`): its steps follow the CPU's, several ranks and a resumed run too.

Convolutions in TF32, PyTorch's default, would hide behind their rounding what is to be seen here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from infoae import config, data
from infoae.cli.app import app
from infoae.config import Config, recipes
from infoae.data import ImageSet
from infoae.deploy import Classifier
from infoae.distributed import collectives
from infoae.errors import InfoAEError
from infoae.gpu import Provider
from infoae.model import InfoAE
from infoae.runs.run import Run
from infoae.step import Step
from infoae.trainer import Trainer
from tests.helpers import ranks as script
from tests.helpers.models import last_stage
from tests.helpers.ranks import OVER, SETTINGS, Start
from tests.helpers.settings import TINY

pytestmark = pytest.mark.gpu

CUDA = ("train.device=cuda",)
EVERYTHING = (
    *OVER,
    "stages.pseudo_label_epochs=1",
    "train.epochs=3",
    "train.adversarial_fraction=0.5",
    "model.critic_norm=spectral",
    "augment.blur=1",
)


@pytest.fixture(autouse=True)
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")  # of the processes started here


@pytest.fixture
def nccl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of this rank alone in which everything is sent as between several: NCCL wants a GPU for each."""
    torch.distributed.init_process_group("nccl", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    monkeypatch.setattr(collectives, "size", lambda: 2)
    yield
    torch.distributed.destroy_process_group()


def configured(*overrides: str) -> Config:
    return recipes.load("smoke", [*SETTINGS, *overrides])


def assert_follows(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Six steps as close as the rounding of two orders of summation, twenty within what that grows to."""
    expected = theirs["gradients"][0]
    assert (ours["gradients"][0] - expected).norm() < 1e-4 * expected.norm()
    for index, (losses, others) in enumerate(zip(ours["losses"], theirs["losses"], strict=True)):
        accuracy = [step.pop("discriminator_accuracy", 0.0) for step in (losses, others)]
        assert abs(accuracy[0] - accuracy[1]) <= 2 / 50
        tolerance = 1e-3 if index < 6 else 3e-2
        assert losses == pytest.approx(others, rel=tolerance, abs=tolerance), index


@pytest.mark.parametrize("settings", [(), OVER, EVERYTHING], ids=["plain", "over-categories", "everything"])
def test_steps_follow_those_of_the_cpu(settings: tuple[str, ...]) -> None:
    cpu, gpu = (script.take_steps(configured(*settings, *device), Path()) for device in ((), CUDA))
    for whole, other in zip(cpu["noise"][0], gpu["noise"][0], strict=True):  # the same draws whatever the device
        torch.testing.assert_close(whole, other, rtol=1e-3, atol=1e-4)
    assert_follows(gpu, cpu)


def test_two_ranks_that_share_the_gpu_follow_one(start: Start) -> None:
    run_config = configured(*OVER, *CUDA)
    one, two = script.take_steps(run_config, Path()), start("steps", 2, run_config)
    assert_follows(two[0], one)
    for what in ("gradients", "buffers"):
        assert all(torch.equal(a, b) for a, b in zip(two[0][what], two[1][what], strict=True))


def test_steps_over_nccl_follow_those_without(request: pytest.FixtureRequest) -> None:
    run_config = configured(*EVERYTHING, *CUDA)
    alone = script.take_steps(run_config, Path())
    request.getfixturevalue("nccl")
    assert_follows(script.take_steps(run_config, Path()), alone)
    gpu = torch.device("cuda")
    assert collectives.any_rank(True, gpu)
    assert not collectives.any_rank(False, gpu)
    assert collectives.same_everywhere(7, gpu)
    assert collectives.from_main(torch.tensor([1, 2]), gpu).tolist() == [1, 2]


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.bfloat16, 0.02), (torch.float16, 0.1)])
def test_mixed_precision_follows_float32(precision: torch.dtype, tolerance: float) -> None:
    """float16 leaves out the first steps, until its gradients' scale no longer overflows."""
    run_config = configured(*CUDA)
    images = torch.tensor(data.load(run_config.data, "train").images)[:50]
    results = []
    for each in (torch.float32, precision):
        torch.manual_seed(0)
        step = Step(InfoAE(run_config.model), run_config, torch.device("cuda"), each)
        results.append(
            [step(images, index, last_stage(run_config)).metrics()["loss/reconstruction"] for index in range(10)]
        )
        assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in step.model.parameters())
    assert results[1] == pytest.approx(results[0], rel=tolerance)
    assert results[1][-1] < results[1][0]


def test_a_run_stops_resumes_exports_and_classifies_on_the_gpu(
    tmp_path: Path, mnist: tuple[ImageSet, ImageSet]
) -> None:
    settings = [*TINY, *OVER, "stages.pseudo_label_epochs=1", "train.epochs=4", *CUDA, "train.precision=auto"]
    settings += [
        "pseudo_labels.anchor_hops=1",
        "pseudo_labels.refresh_every=1",
        "model.channels=1",
        "model.image_size=28",
    ]
    run = Run.create(tmp_path, "run", "test", recipes.load("smoke", settings))

    def trainer() -> Trainer:
        return Trainer(run, run.config(), mnist[0], torch.device("cuda"), torch.bfloat16)

    first = trainer()
    assert not first.fit([], lambda: first.done == 15)
    second = trainer()
    second.resume()
    assert second.done == 15
    assert second.fit([])
    lines = [line["step"] for line in run.metrics() if "images_per_second" in line]
    assert lines == list(range(1, second.total_steps + 1))

    exported = CliRunner().invoke(app, ["export", str(run.path), "--onnx"])
    assert exported.exit_code == 0, exported.output
    images = data.load(config.Data(), "test").images
    gpu, cpu = (Classifier(run.path / "bundle", device) for device in ("cuda", "cpu"))
    assert gpu.device == "cuda"
    answers, expected = gpu.classify(images), cpu.classify(images)
    np.testing.assert_allclose(answers.probabilities, expected.probabilities, atol=1e-4)
    differ = answers.labels != expected.labels
    top = np.sort(expected.probabilities, 1)
    assert (top[differ, -1] - top[differ, -2] < 1e-4).all()  # only where two categories are as probable

    graph = Classifier(run.path / "bundle", "cuda", provider=Provider.CUDA_GRAPH)
    for _ in range(3):  # captured, then replayed
        np.testing.assert_allclose(graph.classify(images).probabilities, expected.probabilities, atol=1e-4)
    try:
        engines = Classifier(run.path / "bundle", "cuda", provider=Provider.TENSORRT)
    except InfoAEError as error:
        assert "TensorRT" in str(error) or "operations would be done by" in str(error)
    else:
        np.testing.assert_allclose(engines.classify(images).probabilities, expected.probabilities, atol=1e-3)

    np.savez(tmp_path / "images.npz", images=images)
    arguments = ["classify", str(tmp_path / "images.npz"), "--model", str(run.path / "bundle"), "--device", "cuda"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "labels.csv"), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["num_rows"] == len(images)


def test_train_takes_the_gpu_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(
        app, ["train", "--config", "smoke", "--set", "train.epochs=1", "--set", "data.limit=1000"]
    )
    assert done.exit_code == 0, done.output
    environment = json.loads((tmp_path / "runs" / "latest" / "environment.json").read_text())
    assert torch.cuda.get_device_name() in str(environment)
    assert "bfloat16" in str(environment) or not torch.cuda.is_bf16_supported(including_emulation=False)
