"""classify tells how far a batch is from what the bundle knows; stopped and resumed it tells the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from infoae import config, data
from infoae.cli.classify import classify
from infoae.deploy import sinks
from infoae.deploy.drift import LARGE
from infoae.errors import InfoAEError, Notice
from tests.helpers.bundles import add_reference, make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return add_reference(make_bundle(tmp_path_factory.mktemp("model") / "bundle"), digits())


@pytest.fixture
def batches(tmp_path: Path) -> dict[str, Path]:
    """The digits that the bundle knows, and the same inverted; of both the last 700 in a file of their own."""
    for name, images in (("same", digits()), ("inverted", 255 - digits())):
        np.save(tmp_path / f"{name}.npy", images)
    (tmp_path / "broken.png").write_bytes(b"")
    return {name: tmp_path / f"{name}" for name in ("same.npy", "inverted.npy", "broken.png")}


def digits() -> np.ndarray[Any, np.dtype[np.uint8]]:
    return data.load(config.Data(), "test").images[:1000]


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(classify)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def rows_of(path: Path) -> int:
    return len(path.read_text().splitlines()) - 1


def test_exit_code_4_after_all_is_written(bundle: Path, batches: dict[str, Path], tmp_path: Path) -> None:
    out, watched = tmp_path / "x.csv", ("--model", bundle, "--fail-on-drift", LARGE, "--json")
    same = run(batches["same.npy"], "--out", out, *watched)
    assert same.exit_code == 0
    assert same.stderr.splitlines()[-1].startswith("drift 0.00 (occupancy 0.00, confidence 0.00, latent 0.00): like ")
    assert json.loads(same.stdout)["drift"]["distance"] == 0
    other = run(batches["inverted.npy"], "--out", out, *watched)
    assert other.exit_code == 4
    assert rows_of(out) == 1000
    far = json.loads(other.stdout)["drift"]
    assert far["distance"] == far[far["quantity"]] > LARGE
    assert (far["num_images"], far["num_reference"]) == (1000, 1000)
    assert other.stderr.splitlines()[-1].endswith("unlike the 1,000 test images at export; above --fail-on-drift 0.25")


@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        (["inverted.npy"], [], 0),
        (["inverted.npy"], ["--fail-on-drift", "1000"], 0),
        (["inverted.npy", "broken.png"], ["--fail-on-drift", "0.25"], 4),
        (["same.npy", "broken.png"], ["--fail-on-drift", "0"], 3),
    ],
)
def test_exit_codes(bundle: Path, batches: dict[str, Path], names: list[str], options: list[str], code: int) -> None:
    result = run(*(batches[name] for name in names), "--model", bundle, "--columns", "label", *options)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1].startswith("drift ")
    assert len(result.stdout.splitlines()) == 1 + 1000 + ("broken.png" in names)


def test_what_cannot_be_watched_is_refused_before_it_begins(batches: dict[str, Path], tmp_path: Path) -> None:
    old = make_bundle(tmp_path / "old")
    given = (batches["same.npy"], "--model", old, "--out", tmp_path / "x.csv")
    result = run(*given, "--fail-on-drift", "0.25")
    assert isinstance(result.exception, InfoAEError)
    assert "does not say how its test images are answered; export it again" in str(result.exception)
    for bound in ("nan", "-1"):
        assert run(*given, "--fail-on-drift", bound).exit_code == 2
    assert not (tmp_path / "x.csv").exists()
    result = run(*given, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["drift"] is None
    assert "drift" not in result.stderr


@pytest.mark.parametrize("lost", [False, True])
def test_a_resumed_job_counts_each_picture_once(
    lost: bool, bundle: Path, batches: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part whose counts are lost is made again, and so are those after it."""
    monkeypatch.setattr(sinks, "PART_ROWS", 300)
    names = [batches[name] for name in ("same.npy", "broken.png", "inverted.npy")]
    given = (*names, "--model", bundle, "--batch-size", 100, "--json")
    whole = json.loads(run(*given, "--out", tmp_path / "whole.csv", "--workers", 1).stdout)
    out, partial = tmp_path / "x.csv", tmp_path / ".x.csv.partial"
    assert "stopped" in str(run(*given, "--out", out, "--max-errors", 0).exception)
    parts = sorted(partial.glob("0*"))
    assert [path.name for path in sorted(partial.glob("_counts-*"))] == [f"_counts-{part.name}" for part in parts]
    shutil.copy(partial / f"_counts-{parts[1].name}", partial / "_counts-of-another")  # a doubled one counts for nobody
    if lost:
        (partial / f"_counts-{parts[2].name}").unlink()
        with pytest.warns(Notice, match="made again"):
            resumed = json.loads(run(*given, "--out", out, "--resume").stdout)
    else:
        resumed = json.loads(run(*given, "--out", out, "--resume").stdout)
    assert 0 < resumed["num_resumed"] < 2001
    assert resumed["drift"] == whole["drift"]
    assert whole["drift"]["num_images"] == 2000
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
