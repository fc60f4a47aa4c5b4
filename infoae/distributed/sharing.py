"""Who computes the steps of a training on this machine's CPUs: several processes, or the threads of this one."""

from __future__ import annotations

import time

import torch

from infoae.config import Train
from infoae.cpus import FreeCpus, available_cpus
from infoae.distributed import local_group

ASK_SECONDS = 5.0
"""After which it is asked again how many are free, where threads compute."""


class Sharing:
    """As many processes or threads as CPUs are free, unless `train.processes` says how many.

    Threads wait for each other at every operation: beside another program, one alone is up to ten times as fast as two.
    """

    def __init__(self, train: Train, device: torch.device, num_bytes: int) -> None:
        self._train, self._device, self._num_bytes = train, device, num_bytes
        self.cpus, self.most = FreeCpus(available_cpus()), torch.get_num_threads()
        self.processes = 1
        self._asked = time.monotonic()

    def begin(self) -> int:
        """Return how many processes share the batches from now on, and let as many threads compute if that is one."""
        wanted, sizes = self._train.processes, (self._train.batch_size, self._train.micro_batch_size)
        self.processes = 1
        if local_group.possible(self._device):
            most = self._use_free_cpus() if wanted == "auto" else wanted
            self.processes = local_group.size_for(*sizes, most, self._num_bytes)
        return self.processes

    def follow(self) -> None:
        """Between steps: let as many threads compute as CPUs are free, if it was long ago that they were counted."""
        by_threads = self.processes == 1 and self._train.processes == "auto"
        if by_threads and time.monotonic() - self._asked > ASK_SECONDS and local_group.possible(self._device):
            self._use_free_cpus()

    def _use_free_cpus(self) -> int:
        free = self.cpus.threads(self.most)
        torch.set_num_threads(free)
        self._asked = time.monotonic()
        return free
