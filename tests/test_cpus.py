"""How many CPUs a container allows, and how many of them other programs leave free."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infoae import cpus
from infoae.cpus import available_cpus
from infoae.device import on_free_cpus


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"proc/self/cgroup": "0::/job\n", "sys/fs/cgroup/job/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/step/cpu.max": "max 100000\n",
                "sys/fs/cgroup/job/cpu.max": "50000 100000\n",
            },
            1,
        ),
        ({"proc/self/cgroup": "0::/../host\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 1),
        (
            {
                "proc/self/cgroup": "3:cpu,cpuacct:/job\n0::/\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "90000\n",
                "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            },
            1,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "1:cpu:/\n", "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n"}, None),
        ({}, None),
    ],
)
def test_a_quota_limits_the_threads(tmp_path: Path, files: dict[str, str], allowed: int | None) -> None:
    free = available_cpus(tmp_path / "nothing here")
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert available_cpus(tmp_path) == (allowed or free)


@pytest.mark.parametrize(
    ("others", "own", "free"),
    [(0.0, 0.0, 2.0), (10.0, 0.0, 1.0), (3.0, 16.0, 1.7), (0.0, 20.0, 2.0), (18.0, 2.0, 0.2)],
)
def test_cpus_are_free_that_no_other_program_keeps_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: float, own: float, free: float
) -> None:
    """Over ten seconds, of the second and the fourth CPU, in seconds of work."""
    clock = {"now": 100.0, "own": 5.0}
    monkeypatch.setattr(cpus, "time", SimpleNamespace(monotonic=lambda: clock["now"], sleep=lambda _seconds: None))
    monkeypatch.setattr(os, "times", lambda: (0.75 * clock["own"], 0.0, 0.0, 0.25 * clock["own"], 0.0))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {1, 3}, raising=False)

    def write(busy: float) -> None:
        ticks = round(busy * os.sysconf("SC_CLK_TCK"))
        (tmp_path / "proc").mkdir(exist_ok=True)
        rows = {"cpu": [9 * ticks] * 10, "cpu0": [7 * ticks] * 10, "cpu2": [8 * ticks] * 10}
        rows |= {"cpu1": [1000 + ticks // 2, 500, 250, *[5 * ticks] * 7]}  # idle, waiting, interrupts, stolen, guests
        rows |= {"cpu3": [1000, 500 + ticks // 4, 250 + ticks - ticks // 2 - ticks // 4, *[6 * ticks] * 7]}
        lines = [f"{name} {' '.join(map(str, values))}" for name, values in rows.items()]
        (tmp_path / "proc/stat").write_text("\n".join([*lines, "intr 12345 0 9", "ctxt 1990473", ""]))

    write(0)
    measured = cpus.FreeCpus(2, tmp_path)
    for times in (1, 2):  # each time since the last
        write(times * (others + own))
        clock = {"now": 100.0 + 10 * times, "own": 5.0 + own * times}
        assert measured.since_last_asked() == pytest.approx(free, abs=0.01)


def test_own_work_that_was_counted_elsewhere_frees_no_more_than_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus.FreeCpus, "SECONDS", 0.01)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text("cpu0 0 0 0\n")
    measured = cpus.FreeCpus(2, tmp_path)
    assert sum(range(100_000))  # work of this process, of which the file says nothing
    assert measured.since_last_asked() == 2


def test_all_cpus_are_free_where_the_system_does_not_say(tmp_path: Path) -> None:
    measured = cpus.FreeCpus(3, tmp_path / "nothing here")
    started = time.monotonic()
    assert measured.since_last_asked() == 3
    assert time.monotonic() - started >= 0.9 * cpus.FreeCpus.SECONDS  # as long as it takes to measure


def test_the_free_cpus_of_this_machine_are_measured() -> None:
    assert cpus.FreeCpus(available_cpus()).since_last_asked() <= available_cpus()


@pytest.mark.parametrize(("free", "threads"), [(2.0, 2), (1.7, 2), (1.5, 1), (0.2, 1), (-0.5, 1), (4.0, 3)])
def test_a_thread_computes_for_each_cpu_that_is_nearly_free(
    free: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus.FreeCpus, "since_last_asked", lambda _: free)
    assert cpus.FreeCpus(4).threads(3) == threads
    torch.set_num_threads(3)
    with on_free_cpus():
        assert torch.get_num_threads() == threads
    assert torch.get_num_threads() == 3
