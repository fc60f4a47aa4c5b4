from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoae.config import Config
from infoae.errors import InfoAEError
from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.checkpoint import Checkpoint
from infoae.runs.run import Run
from infoae.step import Step
from tests.helpers.models import last_stage
from tests.helpers.paths import ROOT


@pytest.fixture
def step(tiny_config: Config) -> Step:
    torch.manual_seed(0)
    step = Step(InfoAE(tiny_config.model), tiny_config, torch.device("cpu"), torch.float32)
    step(torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8), 0, last_stage(tiny_config))
    return step


def save(folder: Path, step: Step, number: int, score: float | None = None) -> Path:
    return checkpoint.save(folder, Checkpoint(number, 0, 1.0, score), step.state())


def test_its_files_have_the_mode_of_all_others(tmp_path: Path, step: Step) -> None:
    (tmp_path / "other").touch()
    files = [tmp_path / "other", *save(tmp_path / "checkpoints", step, 1).iterdir()]
    assert len({file.stat().st_mode for file in files}) == 1


def test_the_newest_and_the_best_are_kept(tmp_path: Path, step: Step) -> None:
    for number, score in [(1, 0.5), (2, 2.0), (3, 1.0), (4, None), (5, 1.5)]:
        save(tmp_path, step, number, score)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-00000002", "step-00000005"]
    assert checkpoint.best(tmp_path) == tmp_path / "step-00000002"
    assert checkpoint.newest(tmp_path) == tmp_path / "step-00000005"


def test_of_checkpoints_as_good_the_last_is_the_best(tmp_path: Path, step: Step) -> None:
    """The generator, which the score does not see, learns longest; and a slow fall is no plateau."""
    kept = []
    for number, score in enumerate([1.0, 2.0, 1.995, 1.991, 1.985, 1.98, 1.999, 2.5, 2.2]):
        save(tmp_path, step, number, score)
        kept.append((int(checkpoint.best(tmp_path).name[-1]), len(list(tmp_path.iterdir()))))  # type: ignore[union-attr]
    assert kept == [(0, 1), (1, 1), (2, 2), (3, 2), (3, 3), (3, 3), (6, 2), (7, 1), (7, 2)]


def test_without_a_score_the_newest_is_the_best(tmp_path: Path, step: Step) -> None:
    save(tmp_path, step, 1)
    save(tmp_path, step, 2)
    assert checkpoint.best(tmp_path) == tmp_path / "step-00000002"
    assert checkpoint.best(tmp_path / "empty") is checkpoint.newest(tmp_path / "empty") is None


def test_only_safetensors_and_json_are_written(tmp_path: Path, step: Step) -> None:
    path = save(tmp_path, step, 1)
    assert {file.suffix for file in path.iterdir()} == {".safetensors", ".json"}
    content = json.loads((path / "checkpoint.json").read_text())
    assert content["step"] == 1
    assert set(content["sha256"]) == {"model.safetensors", "average.safetensors", "optimizer.safetensors"}


@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_one_clear_line_and_loads_nothing(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, step: Step
) -> None:
    path = save(tmp_path_factory.mktemp("damage"), step, 1)
    name = data.draw(st.sampled_from(["model.safetensors", "average.safetensors", "optimizer.safetensors"]))
    content = bytearray((path / name).read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (path / name).write_bytes(content)
    with pytest.raises(InfoAEError, match=rf"checkpoint file .*{name}.*remove"):
        checkpoint.load(path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": 1}', "\x00"])
def test_a_damaged_description_is_one_clear_line(text: str, tmp_path: Path, step: Step) -> None:
    path = save(tmp_path, step, 1)
    (path / "checkpoint.json").write_text(text)
    with pytest.raises(InfoAEError, match=r"is damaged .*remove that folder"):
        checkpoint.read(path)


def test_a_newer_format_asks_for_an_upgrade(tmp_path: Path, step: Step) -> None:
    path = save(tmp_path, step, 1)
    content = json.loads((path / "checkpoint.json").read_text())
    (path / "checkpoint.json").write_text(json.dumps(content | {"format": 3}))
    with pytest.raises(InfoAEError, match="upgrade"):
        checkpoint.read(path)


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path: Path, step: Step, tiny_config: Config) -> None:
    path = save(tmp_path, step, 1)
    other = InfoAE(tiny_config.model.model_copy(update={"width": 5}))
    with pytest.raises(InfoAEError, match=r"does not fit the run's config\.yaml"), checkpoint.fitting(path):
        other.load_state_dict(checkpoint.weights(path))


def test_a_full_disk_leaves_the_previous_checkpoint_and_nothing_else(
    tmp_path: Path, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, step, 1)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{tmp_path}/step-00000002'"):
        save(tmp_path, step, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("files", [0, 1, 2])
def test_a_process_killed_while_it_saves_leaves_the_previous_checkpoint(files: int, tmp_path: Path, step: Step) -> None:
    """Killed in the middle of the first, second or third file of the next one."""
    save(tmp_path, step, 1)
    Run(tmp_path).write_config(step.config)
    program = (
        "import os, sys, torch\nfrom pathlib import Path\n"
        "from infoae.runs import checkpoint\nfrom infoae.runs.run import Run\n"
        "from infoae.model import InfoAE\nfrom infoae.step import Step\n"
        "folder, left = Path(sys.argv[1]), int(sys.argv[2])\nconfig = Run(folder).config()\n"
        "step = Step(InfoAE(config.model), config, torch.device('cpu'), torch.float32)\n"
        "step.load(checkpoint.load(checkpoint.newest(folder))[1])\nwrite = Path.write_bytes\n"
        "def dying(path, content):\n    global left\n    left -= 1\n    write(path, content)\n"
        "    if left < 0:\n        os.truncate(path, 100)\n        os.kill(os.getpid(), 9)\n"
        "Path.write_bytes = dying\ncheckpoint.save(folder, checkpoint.Checkpoint(2, 0, 1.0, 9.0), step.state())\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path), str(files)], env=environment, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert checkpoint.newest(tmp_path) == checkpoint.best(tmp_path) == tmp_path / "step-00000001"
    assert checkpoint.load(tmp_path / "step-00000001")[0].step == 1
    assert len(list(tmp_path.glob(".step-*"))) == 1
    save(tmp_path, step, 2)
    assert list(tmp_path.glob(".step-*")) == []


def test_loading_takes_the_average(finished_run: Run) -> None:
    from safetensors.torch import load_file

    path = finished_run.checkpoint("newest")
    weights = InfoAE.of_run(finished_run, "newest").state_dict()
    name = "encoder.latent.weight"
    assert torch.equal(weights[name], load_file(path / "average.safetensors")[name])
    assert not torch.equal(weights[name], load_file(path / "model.safetensors")[name])


def test_the_gradient_scaler_is_saved(tmp_path: Path, tiny_config: Config) -> None:
    step = Step(InfoAE(tiny_config.model), tiny_config, torch.device("cpu"), torch.float16)
    step.scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    step(torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8), 0, last_stage(tiny_config))
    path = save(tmp_path / "c", step, 1)
    other = Step(InfoAE(tiny_config.model), tiny_config, torch.device("cpu"), torch.float16)
    other.load(checkpoint.load(path)[1])
    assert other.scaler.get_scale() == 8.0
