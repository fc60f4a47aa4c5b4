"""Fixtures of tests that run many parts together."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from infoae.config import Config
from infoae.runs.run import Run
from tests.helpers import ranks
from tests.helpers.paths import ROOT
from tests.helpers.ranks import Start


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that runs a scenario of ranks.py on so many processes and returns what each came to."""

    def run(scenario: str, num_ranks: int, run_config: Config) -> list[Any]:
        folder = tmp_path / f"{scenario}-{num_ranks}"
        folder.mkdir()
        Run(folder).write_config(run_config)
        processes = []
        for rank in range(num_ranks):
            arguments = [str(folder / "store"), str(rank), str(num_ranks), str(folder / "config.yaml")]
            command = [sys.executable, "-m", ranks.__name__, scenario, *arguments, str(folder / f"{rank}.pt")]
            processes.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}))
        try:
            assert [process.wait(timeout=120) for process in processes] == [0] * num_ranks
        finally:
            for process in processes:
                process.kill()  # those that wait for one that failed
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(num_ranks)]

    return run
