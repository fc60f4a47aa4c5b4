"""How many CPUs this process may really use: a container's quota is invisible to os.cpu_count()."""

from __future__ import annotations

import math
import os
import time
from pathlib import Path

from infoae import cgroups


def available_cpus(root: Path = Path("/")) -> int:
    """Return the CPUs allowed by affinity and by the cgroup's quota (v2 or v1), at least 1.

    `root` is the folder that holds `proc` and `sys`.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [(_quota_v2 if v2 else _quota_v1)(group) for group, v2 in cgroups.of_process(root, "cpu")]
    return max(1, min([cpus, *(math.ceil(quota) for quota in quotas if quota is not None)]))


class FreeCpus:
    """How many of some CPUs other programs leave to this process and those that it has started and seen end."""

    SECONDS = 0.2  # less is too short to be measured
    NEARLY = 0.4  # of a CPU, what other programs may take of it for it to be free

    def __init__(self, cpus: int, root: Path = Path("/")) -> None:
        self._cpus, self._root, self._last = cpus, root, self._measure(root)

    def since_last_asked(self) -> float:
        """Return the mean since then, or since it was made; all of them where the system does not say."""
        time.sleep(max(0.0, self._last[0] + self.SECONDS - time.monotonic()))
        last, self._last = self._last, self._measure(self._root)
        seconds, all_busy, own = (now - before for now, before in zip(self._last, last, strict=True))
        return self._cpus - max(0.0, all_busy - own) / seconds

    def threads(self, most: int) -> int:
        """Return how many threads, from 1 to `most`, have a CPU each since it was last asked."""
        return max(1, min(most, int(self.since_last_asked() + self.NEARLY)))

    @staticmethod
    def _measure(root: Path) -> tuple[float, float, float]:
        """Return the time, how long the CPUs that are allowed were busy, and how long this process was, in seconds."""
        own = sum(os.times()[:4])
        allowed = {f"cpu{number}" for number in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set()
        try:
            lines = [line.split() for line in (root / "proc/stat").read_text().splitlines()]
        except OSError:
            return time.monotonic(), own, own
        # user, nice and system; guests are in user, and what the host took from a virtual machine is in none
        ticks = sum(int(value) for name, *values in lines if name in allowed for value in values[:3])
        return time.monotonic(), ticks / os.sysconf("SC_CLK_TCK"), own


def _quota_v2(group: Path) -> float | None:
    quota, _, period = cgroups.read(group / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(group: Path) -> float | None:
    quota, period = (cgroups.read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None
