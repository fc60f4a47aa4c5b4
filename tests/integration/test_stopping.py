"""Ctrl-C and SIGTERM, which a scheduler sends, stop a command tidily: what is done is kept, nothing half-made stays."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.bundles import make_bundle
from tests.helpers.paths import TEST_IMAGES

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs deaf to Ctrl-C
from infoae.cli.main import main
from infoae.deploy import sinks
sinks.PART_ROWS = 2000
main()
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def stop(how: signal.Signals, folder: Path, moment: str, *arguments: object) -> tuple[int, str]:
    """Start the command, send `how` once `moment` is in `folder`, and return exit code and standard error."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(folder.glob(moment)):
        time.sleep(0.001)
    process.send_signal(how)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_classify_keeps_what_is_done_and_says_how_to_go_on(how: signal.Signals, bundle: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "x.csv", tmp_path / ".x.csv.partial"
    inputs = [TEST_IMAGES] * 100
    code, stderr = stop(how, partial, "00000001-*", "classify", *inputs, "--model", bundle, "--out", out)
    assert code == 130, stderr
    assert stderr.splitlines()[-1] == "interrupted; continue with --resume"
    assert sum(int(part.name.split("-")[1]) for part in partial.glob("0*")) >= 4000
    assert not out.exists()


def test_classify_without_a_file_has_nothing_to_resume(bundle: Path, tmp_path: Path) -> None:
    code, stderr = stop(signal.SIGTERM, tmp_path, "*", "classify", *[TEST_IMAGES] * 100, "--model", bundle)
    assert code != 0
    assert "--resume" not in stderr


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("verb", ["generate", "augment"])
def test_generate_and_augment_leave_nothing(how: signal.Signals, verb: str, bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    inputs = [TEST_IMAGES] if verb == "augment" else []
    arguments = [verb, *inputs, "--model", bundle, "--out", place / "new", "--count", 20_000]
    code, stderr = stop(how, place, ".new.*/*/000010.png", *arguments)
    assert code == 130, stderr
    assert list(place.iterdir()) == []
