"""benchmarks/features.py: its figures are of the pictures that were given, and of one turn each."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import features
from tests.helpers.encoders import write_encoder


def test_both_take_turns_on_the_pictures_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (40, 50, 60, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.jpg")
    path = write_encoder(tmp_path / "tiny.onnx")
    ticks = iter(np.repeat(np.arange(100.0), 2).reshape(-1, 2))
    monkeypatch.setattr(features, "clocks", lambda: next(ticks))  # every turn takes a second
    monkeypatch.setattr(sys, "argv", ["features.py", str(path), str(tmp_path / "photos"), "--rounds", "2"])
    features.main()
    *rounds, last = capsys.readouterr().out.splitlines()
    assert rounds == ["40 pictures: 40.0 images/s from files, 32.0 alone"] * 2
    assert re.fullmatch(r"ratio, median of 2: 1\.25; of CPU time 1\.25", last)
