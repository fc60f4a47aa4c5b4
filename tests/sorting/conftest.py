"""A small folder of digits, and the result of sorting it, made once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from infoae import data
from infoae.config import Data
from tests.helpers.commands import call

RECIPE = """
data: {name: files}
model: {width: 8, hidden_dim: 32, latent_dim: 8, num_categories: 2, num_over_categories: 4, num_heads: 2}
objective: {pairs: neighbours, weights: {mutual_information: 10.0, pseudo_label: 1.0, reconstruction: 0.1}}
stages: {mutual_information_epochs: 3, pseudo_label_epochs: 1}
optim: {learning_rate: 5.0e-3}
train: {epochs: 5, batch_size: 45, min_steps_per_epoch: 16, precision: fp32, device: cpu, log_every: 1}
"""


def sort(folder: Path, *more: str) -> tuple[int, str, str]:
    """Run the command of the tests in `folder`; return exit code, stdout and stderr."""
    command = ["sort", "digits", "--out", "s", "--config", "tiny.yaml", "--categories", "2", *more]
    done = call(*command, cwd=folder, INFOAE_CACHE=str(folder / "cache"))
    return done.returncode, done.stdout, done.stderr


def tree(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder, with its time, and that of every folder."""
    return {
        str(path.relative_to(folder)): f"{path.stat().st_mtime_ns} "
        + (hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `digits`, 100 zeros and ones as PNG, and the recipe `tiny.yaml`."""
    folder = tmp_path_factory.mktemp("digits")
    test = data.load(Data(), "test")
    assert test.labels is not None
    (folder / "digits" / "below").mkdir(parents=True)
    for number, image in enumerate(test.images[test.labels < 2][:100, 0]):
        where = folder / "digits" / ("below" if number % 2 else ".")
        Image.fromarray(image).save(where / f"{number:03d}.png")
    (folder / "tiny.yaml").write_text(RECIPE)
    return folder


@pytest.fixture(scope="session")
def once(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a folder in which `digits` were sorted into `s`, and what was said of it."""
    folder = tmp_path_factory.mktemp("once") / "here"
    shutil.copytree(digits, folder)
    code, _, said = sort(folder)
    assert code == 0, said
    return folder, said


@pytest.fixture
def done(once: tuple[Path, str]) -> Callable[[], Path]:
    """Return the folder of a finished sort as it was after it, whatever tests have done to it since."""
    # Labels know their files by absolute path and time, so the folder is put back and not copied elsewhere.
    folder = once[0]
    kept = folder.with_name("kept")
    if not kept.exists():
        shutil.copytree(folder, kept, symlinks=True)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, symlinks=True)
    return lambda: folder
