"""onnxruntime sends events to its makers unless it is told not to: it keeps them in the home folder until then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.bundles import make_bundle

PROGRAM = """
import sys
import numpy as np
from infoae.deploy import Classifier
Classifier(sys.argv[1], "cpu").classify(np.zeros((1, 28, 28), np.uint8))
"""


def test_onnxruntime_keeps_no_events_to_send(tmp_path: Path) -> None:
    bundle, home = make_bundle(tmp_path / "bundle"), tmp_path / "home"
    home.mkdir()
    environment = {key: value for key, value in os.environ.items() if key not in ("ORT_DISABLE_TELEMETRY", "CI")}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")}
    subprocess.run([sys.executable, "-c", PROGRAM, str(bundle)], check=True, env=environment)
    assert not list(home.rglob("*onnxruntime*"))
