"""The notebook runs, from its first cell to its last."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from nbclient.cli import main; main()", "--output", str(tmp_path / "run")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, str(NOTEBOOK)], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads((tmp_path / "run.ipynb").read_text(encoding="utf-8"))["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    texts = "".join("".join(output.get("text", "")) for output in outputs)
    shown = "".join("".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    of_pictures, of_latents = map(float, re.findall(r"ARI (\S+)", texts))
    assert of_pictures > 0.4
    assert of_latents > 0.3
    assert "True [" in texts
    assert "infoae-categories" in shown
    assert shown.count("data:image/png;base64,") == 80


def test_the_tutorial_is_kept_without_outputs() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
