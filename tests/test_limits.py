"""One way of raising every limit, and of saying which it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from infoae import limits
from infoae.cluster import connect
from infoae.errors import UsageError
from tests.helpers.commands import call, run
from tests.helpers.paths import ROOT

LIMITS = {name: each for name, each in vars(limits).items() if isinstance(each, limits.Limit)}


@pytest.mark.parametrize("given", ["", "0", "-1", "1e6", "9" * 5000, "²"])
def test_a_limit_is_a_number(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("INFOAE_MAX_PIXELS", given)
    with pytest.raises(UsageError, match=r"INFOAE_MAX_PIXELS=.*: give a whole number from 1"):
        limits._limit("MAX_PIXELS", 5, "pixels")


def test_a_limit_can_be_raised_and_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFOAE_MAX_PIXELS", "200000000")
    raised = limits._limit("MAX_PIXELS", 5, "pixels")
    assert raised == 200_000_000
    assert f"more than {raised}" == "more than 200,000,000 (INFOAE_MAX_PIXELS raises it)"
    assert limits._limit("MAX_BYTES", 5, "bytes") == 5


def test_a_wrong_variable_is_one_line_of_any_command(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path, INFOAE_MAX_RUNS="many")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: INFOAE_MAX_RUNS='many': give a whole number from 1\n"


def test_variables_are_called_as_their_limits_and_each_limit_is_compared() -> None:
    assert {name: each.variable for name, each in LIMITS.items()} == {name: f"INFOAE_{name}" for name in LIMITS}
    folders = (ROOT / "infoae", ROOT / "cli", ROOT / "deploy")
    sources = [path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py")]
    for name in LIMITS:
        assert sum(name in text for text in sources) > 1, name


WRONG = {
    "MAX_IMAGE_SIZE": "convert x.png --out made --size 4097",
    "MAX_CATEGORIES": "train --dry-run --categories 10001",
    "MAX_UNITS": "train --dry-run --set model.width=65537",
    "MAX_BLOCKS": "train --dry-run --config pixelgan-ae --set model.pixelcnn_blocks=101",
    "MAX_HEADS": "train --dry-run --set model.num_heads=1001",
    "MAX_BATCH": "train --dry-run --set train.batch_size=1048577",
    "MAX_STEPS": "train --dry-run --set train.min_steps_per_epoch=100001",
    "MAX_NEIGHBOURS": "train --dry-run --set neighbours.count=1001",
    "MAX_DISTORTION": "train --dry-run --set neighbours.distortion=17",
    "MAX_HOPS": "train --dry-run --set pseudo_labels.anchor_hops=1001",
    "MAX_RUNS": "reproduce smoke --seeds 0-10000",
    "MAX_POINTS": "tune --config smoke --space space.yaml",
    "MAX_THREADS": "train --dry-run --workers-per-node 1025",
    "MAX_AT_ONCE": "classify x.png --model none --batch-size 65537",
    "MAX_IMAGES": "generate --model none --out made --count 10000001",
    "MAX_YAML_LEVELS": f"train --dry-run --set model.prior={'[' * 21}{']' * 21}",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_refused_setting_names_the_variable_that_raises_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("a: {keys: [optim.learning_rate], low: 1.0e-4, high: 1.0e-3, points: 1001}\n")
    done = call(*WRONG[name].split(), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"{LIMITS[name]:,} ({LIMITS[name].variable} raises it)" in done.stderr


def test_a_raised_limit_holds_in_settings_and_schema(tmp_path: Path) -> None:
    raised = {"INFOAE_MAX_CATEGORIES": "20000"}
    settings = ["--set", "model.num_categories=20000", "--set", "model.num_over_categories=20000"]
    done = run("config", "show", "mnist", *settings, cwd=tmp_path, **raised)
    assert "num_categories: 20000" in done.stdout, done.stderr
    assert '"maximum": 20000' in run("config", "schema", cwd=tmp_path, **raised).stdout


def test_workers_elsewhere_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pixels = str(int(limits.MAX_PIXELS))
    monkeypatch.setenv("INFOAE_MAX_PIXELS", pixels)
    told: list[dict[str, object]] = []
    monkeypatch.setattr("infoae.cluster.connect._knock", lambda _: None)
    monkeypatch.setattr("ray.init", lambda **given: told.append(given))
    monkeypatch.setattr("ray.shutdown", lambda: None)
    for address in ("10.0.0.1:6379", None):
        with connect.connected(connect.Request(address=address), tmp_path / "ray.log"):
            pass
    assert [given["runtime_env"] for given in told] == [{"env_vars": {"INFOAE_MAX_PIXELS": pixels}}, None]


def test_importing_them_costs_nothing() -> None:
    program = "import sys; from infoae import limits; print(sorted({'numpy', 'pydantic', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.stdout == "[]\n"
