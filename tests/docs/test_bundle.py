"""The Python in docs/bundle.md runs as it stands, and what it says is what infoae says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from infoae.data.decode import read_image
from infoae.deploy import Classifier
from tests.helpers.bundles import make_bundle
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs/bundle.md"


def run(program: str, folder: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def programs() -> list[str]:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 3
    return found


def test_both_programs_say_the_same(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), np.uint8))
    outputs = [run(program, tmp_path) for program in programs()[:2]]
    lines = [[(line[:6], float(line[6:])) for line in output.splitlines()] for output in outputs]
    assert len(lines[0]) == 5
    for (name, confidence), (other_name, other_confidence) in zip(*lines, strict=True):
        assert name == other_name
        assert abs(confidence - other_confidence) < 1e-5


def test_a_picture_of_any_size_is_classified_as_infoae_classifies_it(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    noise = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    Image.fromarray(noise).resize((97, 150)).save(tmp_path / "photo.png")
    said = run(programs()[2], tmp_path)
    (answer,) = (
        Classifier(tmp_path / "bundle").classify(read_image(tmp_path / "photo.png", 1, 28, 28)[None]).probabilities
    )
    assert said[:6] == f"kind {answer.argmax()}"
    assert abs(float(said[6:]) - answer.max()) < 0.01  # where pixels differ by one level
