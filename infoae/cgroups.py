"""Which control groups a process is in: a container's limits are invisible to what asks the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def of_process(root: Path, controller: str) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of each cgroup that limits this process by `controller` ("cpu", "memory"), and if it is v2's.

    `root` is the folder that holds `proc` and `sys`.
    """
    for line in read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controllers
            base = base if base.is_dir() else root / "sys/fs/cgroup" / controller
        else:
            continue
        group = base / path.lstrip("/")
        # Inside a container the path is the host's and may not exist here: the mount's own top is then our group.
        for each in [group, *group.parents] if group.is_dir() else [base]:
            if each.is_relative_to(base):
                yield each, controllers == ""


def read(path: Path) -> str:
    """Return the file's text, nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
