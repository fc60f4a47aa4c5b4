"""Sweeps with real Ray Tune on this machine: what reaches the trials, what comes out, and what survives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import infoae
from infoae import launch, planning
from infoae.cluster.connect import Request
from infoae.config import recipes
from infoae.errors import InfoAEError
from infoae.launch import Executor
from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.run import Run
from infoae.tune import record
from infoae.tune.record import Sweep
from infoae.tune.sweep import extended, run
from tests.helpers.paths import ROOT
from tests.helpers.settings import TINY
from tests.helpers.sweeps import make
from tests.helpers.waiting import wait_until

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings(  # Ray's own
        "ignore::DeprecationWarning:ray",
        "ignore::FutureWarning:ray",
        "ignore:.*unclosed <socket.socket.*:ResourceWarning",
        "ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning",
    ),
]
HERE = Request()
LAMBDAS = """
alpha: {keys: [objective.weights.reconstruction], low: 0.02, high: 2.0, distribution: loguniform}
beta: {keys: [objective.weights.classification_generated, objective.weights.classification_encoded], low: 0.1, high: 3}
"""


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray on this machine with two CPUs, shared by the tests: it takes seconds to start."""
    import ray

    variables = pytest.MonkeyPatch()
    variables.setenv("PYTHONPATH", str(ROOT))
    ray.init(address="local", num_cpus=2, include_dashboard=False)  # not what else runs on this machine
    yield
    ray.shutdown()
    variables.undo()


@pytest.fixture(scope="module")
def swept(ray_here: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Sweep, Path]:  # noqa: ARG001
    """A finished sweep of three trials of two epochs. Not to be changed."""
    sweep, folder = make(tmp_path_factory.mktemp("swept") / "runs", LAMBDAS, trials=3)
    assert run(sweep, folder, HERE, "disabled")
    return sweep, folder


@pytest.mark.slow
def test_different_lambdas_reach_the_trials_and_change_the_training(swept: tuple[Sweep, Path]) -> None:
    sweep, folder = swept
    runs = [Run.open(folder / trial.run) for trial in sweep.trials]
    for trial, trained in zip(sweep.trials, runs, strict=True):
        used = trained.config().objective.weights
        assert used.reconstruction == trial.values["alpha"]
        assert used.classification_generated == used.classification_encoded == trial.values["beta"]
        assert trained.config() == planning.checked(sweep.config_of(trial), folder, "smoke", None, None).config
    assert sweep.trials[0].values == {"alpha": 1.0, "beta": 1.0}  # the recipe's own come first
    assert len({trial.values["alpha"] for trial in sweep.trials}) == 3

    # All start alike: the seed is one. After the first step they are no longer the same.
    first, last = zip(*((lines[0], lines[-2]) for lines in (list(r.metrics()) for r in runs)), strict=True)
    assert len({line["loss/reconstruction"] for line in first}) == 1
    assert len({line["loss/reconstruction"] for line in last}) == 3
    tensors = [load_file(trained.checkpoint("newest") / "model.safetensors") for trained in runs]
    for name, values in tensors[0].items():
        if values.ndim > 1:
            assert not np.array_equal(values, tensors[1][name]), name
            assert not np.array_equal(tensors[1][name], tensors[2][name]), name


@pytest.mark.slow
def test_each_trial_is_a_run_folder_like_any_other(swept: tuple[Sweep, Path], tmp_path: Path) -> None:
    sweep, folder = swept
    for trial in sweep.trials:
        trained = Run.open(trial.run, folder)
        lines = [line for line in trained.metrics() if "evaluation/mutual_information" in line]
        highest = max(line["evaluation/mutual_information"] for line in lines)
        best = [line for line in lines if line["evaluation/mutual_information"] >= highest - 0.01][-1]
        assert [epoch.epoch for epoch in trial.epochs] == [1, 2]
        assert trial.score == best["evaluation/mutual_information"] == checkpoint.read(trained.checkpoint("best")).score
        assert not any("accuracy" in key for line in lines for key in line)  # labels are for infoae evaluate alone
        assert InfoAE.of_run(trained, "best").num_categories == 10
        (started,) = json.loads((trained.path / "environment.json").read_text())
        assert (started["step"], started["threads"]) == (0, 1)  # two CPUs, two trials at once
    copied = shutil.copytree(folder / sweep.trials[1].run, tmp_path / "copied")
    further = launch.run(planning.resumed(str(copied), tmp_path, 3), Executor())
    assert (further.finished, further.step) == (True, 18)


def test_what_a_sweep_leaves(swept: tuple[Sweep, Path]) -> None:
    sweep, folder = swept
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "sweep.json",
        "ray.log",
        "latest",
        *(t.run for t in sweep.trials),
    }
    assert record.load(folder.name, folder.parent) == (sweep, folder.resolve())
    best = sweep.best()
    assert best is not None
    assert best.score == max(trial.score for trial in sweep.trials if trial.score is not None)

    recipe = record.write_best(sweep, best, folder)
    assert recipes.load(recipe) == sweep.config_of(best)
    assert f"# {best.run}, the best of 3 trials of smoke" in recipe.read_text()
    trained = launch.run(planning.planned(str(recipe), ["train.epochs=1"], folder.parent, "again"), Executor())
    assert trained.finished
    assert Run(folder.parent / "again").config().objective == Run(folder / best.run).config().objective

    with Image.open(record.write_figure(sweep, best, folder)) as figure:
        assert figure.width > 800
        pixels = np.asarray(figure.convert("RGB")).reshape(-1, 3)
    assert (np.abs(pixels.astype(int) - (214, 39, 40)).sum(1) < 10).sum() > 100  # the red ring around the best


@pytest.mark.slow
def test_a_trial_under_way_goes_on_from_its_checkpoint(swept: tuple[Sweep, Path], tmp_path: Path) -> None:
    folder = tmp_path / swept[1].name
    shutil.copytree(swept[1], folder, symlinks=True)
    longer = recipes.load("smoke", [*TINY, "train.epochs=3"])
    sweep = swept[0].model_copy(deep=True, update={"config": longer})
    sweep.trials[2].status, sweep.trials[2].epochs = "unfinished", []  # the command died before it heard of them
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*-00[01]/metrics.jsonl")}
    assert run(sweep, folder, HERE, "disabled")
    assert [(trial.status, len(trial.epochs)) for trial in sweep.trials] == [("finished", 2)] * 2 + [("finished", 3)]
    assert sweep.trials[2].epochs[:2] == swept[0].trials[2].epochs
    trained = Run.open(sweep.trials[2].run, folder)
    starts = json.loads((trained.path / "environment.json").read_text())
    assert [start["step"] for start in starts] == [0, 12]
    assert [line["step"] for line in trained.metrics() if "loss/reconstruction" in line] == list(range(1, 19))
    assert len(before) == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_more_trials_of_a_finished_sweep_are_judged_by_what_the_others_reported(
    swept: tuple[Sweep, Path], tmp_path: Path
) -> None:
    folder = tmp_path / swept[1].name
    shutil.copytree(swept[1], folder, symlinks=True)
    sweep = swept[0].model_copy(deep=True, update={"scheduler": "asha"})
    for trial in sweep.trials:
        for epoch in trial.epochs:
            epoch.score += 1.0  # nats more than what comes can reach in an epoch
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}
    more = extended(sweep, 4)
    assert run(more, folder, HERE, "disabled")
    assert [trial.status for trial in more.trials] == ["finished"] * 3 + ["stopped"]
    assert len(more.trials[3].epochs) == 1
    assert more.trials[3].values not in [trial.values for trial in sweep.trials[:3]]
    assert {path: path.stat().st_mtime_ns for path in before} == before  # nothing was trained again
    stopped = Run.open(more.trials[3].run, folder)
    assert InfoAE.of_run(stopped, "best").num_categories == 10
    assert checkpoint.read(stopped.checkpoint("newest")).epoch == 1


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_another_method_is_swept_over_a_space_of_its_own(tmp_path: Path) -> None:
    sweep, folder = make(tmp_path / "runs", None, method="infogan", trials=2)
    assert run(sweep, folder, HERE, "disabled")
    names = {"category_information", "learning_rate", "critic_learning_rate"}
    for trial in sweep.trials:
        assert (trial.status, set(trial.values), len(trial.epochs)) == ("finished", names, 2)
        trained = Run.open(trial.run, folder)
        config = trained.config()
        assert config.objective.weights.category_information == trial.values["category_information"]
        assert config.optim.learning_rate == trial.values["learning_rate"]
        assert infoae.load(trained.path).method == config.method == "infogan"
        assert trial.score == checkpoint.read(trained.checkpoint("best")).score
    assert sweep.trials[0].values != sweep.trials[1].values
    best = sweep.best()
    assert best is not None
    assert recipes.load(record.write_best(sweep, best, folder)) == sweep.config_of(best)

    more = extended(record.load(folder.name, folder.parent)[0], 3)
    assert run(more, folder, HERE, "disabled")
    assert [trial.status for trial in more.trials] == ["finished"] * 3
    assert more.trials[:2] == sweep.trials


@pytest.mark.slow
@pytest.mark.usefixtures("ray_here")
def test_a_trial_that_fails_says_why_and_the_sweep_goes_on(tmp_path: Path) -> None:
    text = "optim.learning_rate: {choices: [1.0e+30, 1.0e-3]}"
    sweep, folder = make(tmp_path / "runs", text, "train.epochs=1", search="grid")
    assert run(sweep, folder, HERE, "disabled")
    failed, finished = sweep.trials
    assert (failed.status, failed.score) == ("failed", None)
    assert failed.message is not None
    assert "lower optim.learning_rate" in failed.message
    assert finished.status == "finished"
    assert sweep.best() is finished
    assert sweep.ranked() == [finished, failed]
    assert len(json.loads((folder / failed.run / "environment.json").read_text())) == 1  # not tried again

    for trial in sweep.trials:
        trial.status, trial.message = "failed", "step 1: the reason"
    with pytest.raises(InfoAEError, match="all 2 trials failed, the first with: step 1: the reason"):
        run(sweep, folder, HERE, "disabled")


@pytest.fixture
def two_nodes() -> Iterator[str]:
    """A head without CPUs and two nodes of two; yields the address."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    variables = pytest.MonkeyPatch()
    variables.setenv("PYTHONPATH", str(ROOT))
    simulated = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        simulated.add_node(num_cpus=2)
    yield simulated.address
    ray.shutdown()
    simulated.shutdown()  # type: ignore[no-untyped-call]
    variables.undo()


@pytest.mark.long
def test_trials_of_two_workers_share_fewer_cpus_than_all_need(two_nodes: str, tmp_path: Path) -> None:
    text = "alpha: {keys: [objective.weights.reconstruction], low: 0.1, high: 1}"
    sweep, folder = make(tmp_path / "runs", text, "train.epochs=3", scheduler="asha", trials=4, size=(2, 1))
    assert run(sweep, folder, Request(2, 2, 1, two_nodes), "disabled")  # 8 CPUs for all at once, there are 4
    assert {trial.status for trial in sweep.trials} <= {"finished", "stopped"}
    assert sweep.trials[0].status == "finished"
    for trial in sweep.trials:
        trained = Run.open(trial.run, folder)
        assert InfoAE.of_run(trained, "best").num_categories == 10
        assert trained.config().objective.weights.reconstruction == trial.values["alpha"]
        (started,) = json.loads((trained.path / "environment.json").read_text())
        assert (started["workers"], started["nodes"], started["threads"]) == (2, 2, 1)
        if trial.status == "finished":
            steps = [line["step"] for line in trained.metrics() if "loss/reconstruction" in line]
            assert steps == list(range(1, 19))

    import ray
    from ray.util import placement_group_table

    with_address = ray.init(address=two_nodes)
    wait_until(lambda: ray.available_resources().get("CPU", 0) == 4)  # type: ignore[no-untyped-call]
    assert with_address is not None
    states = {group["state"] for group in placement_group_table().values()}
    assert states <= {"REMOVED"}  # none is left behind by a stopped trial
