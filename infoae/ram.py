"""How much memory this process may really take: a container's limit is invisible to what asks the machine."""

from __future__ import annotations

import os
from pathlib import Path

from infoae import cgroups


def total(root: Path = Path("/")) -> int:
    """Return the bytes of memory that the machine has, or the cgroup's limit (v2 or v1) if that is less.

    `root` is the folder that holds `proc` and `sys`.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    groups = cgroups.of_process(root, "memory")
    limits = [cgroups.read(group / ("memory.max" if v2 else "memory.limit_in_bytes")).strip() for group, v2 in groups]
    return min([machine, *(int(limit) for limit in limits if limit.isdigit())])
