"""How many CPUs this process may really use: a container's quota is invisible to os.cpu_count()."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_cpus(root: Path = Path("/")) -> int:
    """Return the CPUs allowed by affinity and by the cgroup's quota (v2 or v1), at least 1.

    `root` is the folder that holds `proc` and `sys`.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cpus, *(math.ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> list[float]:
    """The CPU quotas of this process's cgroup and of every cgroup above it, in CPUs."""
    quotas = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "sys/fs/cgroup" / controllers, _quota_v1
            base = base if base.is_dir() else root / "sys/fs/cgroup/cpu"
        else:
            continue
        group = base / path.lstrip("/")
        # Inside a container the path is the host's and may not exist here: the mount's own top is then our group.
        groups = [group, *group.parents] if group.is_dir() else [base]
        quotas += [read(group) for group in groups if group.is_relative_to(base)]
    return [quota for quota in quotas if quota is not None]


def _quota_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _quota_v1(group: Path) -> float | None:
    quota, period = _read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def _read(path: Path) -> str:
    """Return the file's text, nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
