"""Fixtures of tests that run many parts together."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from infoae.config import Config
from infoae.runs.run import Run
from tests.helpers import ranks
from tests.helpers.ranks import Start

# Ranks are forked from a process that has imported all they need, which takes seconds, and has done nothing else.
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload([ranks.__name__])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Return a function that runs a scenario of ranks.py on so many processes and returns what each came to."""
    processes: list[Any] = []

    def run(scenario: str, num_ranks: int, run_config: Config) -> list[Any]:
        folder = tmp_path / f"{scenario}-{num_ranks}"
        folder.mkdir()
        Run(folder).write_config(run_config)
        for rank in range(num_ranks):
            arguments = (scenario, folder, rank, num_ranks, dict(os.environ))
            processes.append(FORKING.Process(target=ranks.main, args=arguments))
            processes[-1].start()
        for process in processes[-num_ranks:]:
            process.join(timeout=120)
        assert [process.exitcode for process in processes[-num_ranks:]] == [0] * num_ranks
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(num_ranks)]

    yield run
    for process in processes:
        process.kill()  # those that wait for one that failed
        process.join()
