"""How many processes or threads compute: as many as CPUs are free, or as many as were asked for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from infoae.config import Train
from infoae.cpus import FreeCpus
from infoae.distributed import local_group, sharing
from infoae.distributed.sharing import Sharing

CPU = torch.device("cpu")


class FakeCpus(FreeCpus):
    """So many of four CPUs, left free by other programs."""

    def __init__(self, free: float) -> None:
        super().__init__(4)
        self.free = free

    def since_last_asked(self) -> float:
        return self.free


@pytest.fixture(autouse=True)
def _possible(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let batches be shared whatever ran before."""
    monkeypatch.setattr(local_group, "possible", lambda _device: True)


def beside(free: float, num_bytes: int = 0, **train: Any) -> Sharing:
    made = Sharing(Train(**train), CPU, num_bytes)
    made.cpus, made.most = FakeCpus(free), 4
    return made


@pytest.mark.parametrize(("free", "processes"), [(2.0, 2), (1.0, 1), (1.7, 2), (1.5, 1), (0.2, 1), (-0.5, 1), (4.0, 4)])
def test_as_many_processes_share_a_batch_as_cpus_are_free(
    free: float, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = beside(free, batch_size=256)
    assert made.begin() == made.processes == processes
    assert beside(free, batch_size=63).begin() == 1
    monkeypatch.setattr(local_group, "possible", lambda _device: False)
    assert made.begin() == 1


def test_processes_that_were_asked_for_are_taken_whatever_is_free() -> None:
    torch.set_num_threads(3)
    assert beside(0.2, batch_size=100, processes=3).begin() == 3
    halves = beside(0.2, batch_size=100, processes=3, micro_batch_size=50)
    assert halves.begin() == 2  # each with a whole micro-batch
    halves.follow()
    assert torch.get_num_threads() == 3


def test_networks_large_beside_the_batch_are_computed_by_threads() -> None:
    made = beside(3.0, num_bytes=256 * local_group.BYTES_A_SAMPLE, batch_size=256)
    assert made.begin() == 1
    assert torch.get_num_threads() == 3
    assert beside(3.0, num_bytes=64 * local_group.BYTES_A_SAMPLE, batch_size=256).begin() == 3


def test_no_more_than_the_threads_that_pytorch_has() -> None:
    made = beside(4.0, batch_size=256)
    made.most = 3  # as OMP_NUM_THREADS says
    assert made.begin() == 3


def test_threads_follow_the_free_cpus_between_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    made = beside(3.0, batch_size=32)
    made.begin()
    made.cpus = FakeCpus(1.0)
    made.follow()
    assert torch.get_num_threads() == 3  # it was just counted
    monkeypatch.setattr(sharing, "ASK_SECONDS", 0.0)
    made.follow()
    assert torch.get_num_threads() == 1
