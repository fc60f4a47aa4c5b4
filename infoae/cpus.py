"""How many CPUs this process may really use: a container's quota is invisible to os.cpu_count()."""

from __future__ import annotations

import math
import os
from pathlib import Path

from infoae import cgroups


def available_cpus(root: Path = Path("/")) -> int:
    """Return the CPUs allowed by affinity and by the cgroup's quota (v2 or v1), at least 1.

    `root` is the folder that holds `proc` and `sys`.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [(_quota_v2 if v2 else _quota_v1)(group) for group, v2 in cgroups.of_process(root, "cpu")]
    return max(1, min([cpus, *(math.ceil(quota) for quota in quotas if quota is not None)]))


def _quota_v2(group: Path) -> float | None:
    quota, _, period = cgroups.read(group / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(group: Path) -> float | None:
    quota, period = (cgroups.read(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None
