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
from infoae.data import ImageSet
from infoae.runs.run import Run
from tests.helpers import ranks
from tests.helpers.bundles import make_bundle
from tests.helpers.inputs import write_shards
from tests.helpers.paths import ROOT
from tests.helpers.ranks import Start
from tests.helpers.s3 import S3Server

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


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    variables = pytest.MonkeyPatch()
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    variables.setenv("PYTHONPATH", path)  # where the workers find the package, installed or not
    simulated = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        simulated.add_node(num_cpus=1)
    yield simulated
    simulated.shutdown()  # type: ignore[no-untyped-call]
    variables.undo()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """An object store that this process and those it starts use; copies of its files have a cache of their own."""
    found = S3Server(tmp_path)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def digits(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> Path:
    """300 training images in 12 shards, more than are mixed at a time, and 500 test images."""
    write_shards(tmp_path / "digits", mnist[0].images, 12, mnist[1])
    return tmp_path / "digits"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A bundle."""
    return make_bundle(tmp_path / "bundle")
