"""The Python in docs/bundle.md runs as it stands and the two ways agree."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.helpers.bundles import make_bundle
from tests.helpers.paths import ROOT

PAGE = ROOT / "docs/bundle.md"


def test_both_programs_say_the_same(tmp_path: Path) -> None:
    make_bundle(tmp_path / "bundle")
    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), np.uint8))
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(programs) == 2
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    outputs = []
    for program in programs:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        outputs.append(done.stdout)
    lines = [[(line[:6], float(line[6:])) for line in output.splitlines()] for output in outputs]
    assert len(lines[0]) == 5
    for (name, confidence), (other_name, other_confidence) in zip(*lines, strict=True):
        assert name == other_name
        assert abs(confidence - other_confidence) < 1e-5
