"""The tasks of a search for neighbours on all nodes of the connected Ray cluster, which see its folder and the images.

A task whose node or process dies is done again elsewhere. One that was only out of reach may then be done twice, and
writes the same file twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch

from infoae.cluster import connect, placement
from infoae.errors import InfoAEError, UnavailableError, machine_errors, one_line
from infoae.pseudolabels.search_files import Search
from infoae.pseudolabels.search_on_disk import Executor
from infoae.pseudolabels.search_tasks import Stage

RETRIES = 3  # of a task that is lost; a process that Ray kills for want of memory does not count
WAITING = 2  # tasks a CPU that Ray is given at once: one runs, the next waits for it
LOOK_SECONDS = 10.0  # between looks at the nodes, while no task ends
NO_CPU_SECONDS = 600.0  # without a node, after which the search gives up


def on_nodes(log: Path) -> Executor:
    """Return what does tasks on a CPU each of the connected cluster; what Ray prints meanwhile goes to `log`.

    A stage of one task has all CPUs of a node. Raises InfoAEError naming the node where a task fails, UnavailableError
    if tasks are lost again and again, or no node is left.
    """
    return partial(_on_nodes, log)


def _on_nodes(log: Path, search: Search, stage: Stage, numbers: Sequence[int]) -> Generator[int]:
    if not numbers:
        return
    with connect.quiet(log):
        cpus = placement.cpus_of_nodes()
        each = min(cpus, default=1) if stage.count(search) == 1 else 1
        task: Any = ray.remote(max_retries=RETRIES)(_do).options(
            num_cpus=each, scheduling_strategy="SPREAD", name=f"infoae search: {stage.result}"
        )
        told, left, running = ray.put(search), list(reversed(numbers)), dict[Any, int]()
        while left or running:
            while left and len(running) < WAITING * max(1, sum(cpus)):
                number = left.pop()
                running[task.remote(told, stage.task, number, each)] = number
            ended = _first_of(list(running))
            try:
                ray.get(ended)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, InfoAEError) else error  # noqa: B904  it says all
            except ray.exceptions.RayError as error:
                raise UnavailableError(
                    f"a task of the search for neighbours ({stage.result} {running[ended]}) was lost {RETRIES + 1} "
                    f"times ({one_line(error, first=True)}): see {log}, and go on with --resume"
                ) from None
            yield running.pop(ended)


def _first_of(running: list[Any]) -> Any:
    """Return the first task that ends. Raises UnavailableError if there is nowhere to do any."""
    seen = time.monotonic()
    while True:
        ended, _ = ray.wait(running, timeout=LOOK_SECONDS)
        if ended:
            return ended[0]
        if placement.cpus_of_nodes():
            seen = time.monotonic()
        elif time.monotonic() - seen > NO_CPU_SECONDS:
            raise UnavailableError(f"no node with a CPU is left for the search for neighbours; {connect.HOW}")


def _do(search: Search, task: Callable[[Search, int], None], number: int, num_threads: int) -> None:
    """Do one task, as a process of Ray's on any node."""
    torch.set_num_threads(num_threads)
    try:
        with machine_errors():
            task(search, number)
    except InfoAEError as error:
        address = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        raise type(error)(f"node {address}: {error}") from None
