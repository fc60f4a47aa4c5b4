"""The nodes of the connected Ray cluster: how workers fill them, and whether each has what it needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoae.cluster.connect import HOW, Request
from infoae.errors import InfoAEError

FREE_WAIT = 10.0  # seconds for an earlier job to let go of its workers
CLASSIFIES = {"infoae/classify": "true"}
"""Ray's label of the nodes that classify, where a cluster has such: those with GPUs are then left to training."""


@dataclass(frozen=True)
class Layout:
    """How workers fill the nodes."""

    min_workers: int
    max_workers: int
    workers_per_node: int
    cpus_per_worker: int
    use_gpu: bool

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """What Ray sets aside for each worker."""
        return {"CPU": float(self.cpus_per_worker)} | ({"GPU": 1.0} if self.use_gpu else {})


def layout(request: Request, device: str) -> Layout:
    """Fit the workers of `request` to the connected cluster. Raises InfoAEError saying what was found and is needed.

    `device` is auto, cpu or cuda; auto takes GPUs if enough nodes have them.
    """
    available = _available()
    alive = [
        node["Resources"] | {"free": available.get(node["NodeID"], node["Resources"]).get("CPU", 0.0)}
        for node in _nodes()
    ]
    with_gpu = [node for node in alive if node.get("GPU", 0) >= (request.workers_per_node or 1)]
    use_gpu = device == "cuda" or (device == "auto" and len(with_gpu) >= request.min_nodes)
    resource = "GPU" if use_gpu else "CPU"
    per_node = request.workers_per_node or 1
    fit = sorted((n for n in alive if min(n.get(resource, 0), n.get("CPU", 0)) >= per_node), key=lambda n: -n[resource])
    if len(fit) < request.min_nodes:
        found = ", ".join(f"{n.get('CPU', 0):.0f} CPUs {n.get('GPU', 0):.0f} GPUs" for n in alive) or "none"
        raise InfoAEError(
            f"{request.min_nodes} node{'s' * (request.min_nodes > 1)} of at least {per_node} {resource} needed, "
            f"{len(fit)} found among {len(alive)} ({found}): add nodes, or ask for fewer; {HOW}"
        )
    nodes = fit[: request.max_nodes]
    if use_gpu and request.workers_per_node is None:
        per_node = int(min(node["GPU"] for node in nodes))
    # Another job may hold a CPU of a node whose GPUs are free: without it they train as well.
    cpus = max(1, int(min(node["free" if use_gpu else "CPU"] for node in nodes)) // per_node)
    found_layout = Layout(request.min_nodes * per_node, request.max_nodes * per_node, per_node, cpus, use_gpu)
    _wait_until_free(found_layout)
    return found_layout


def cpus_of_nodes() -> list[int]:
    """Return the number of CPUs of each node of the connected cluster that has any."""
    counts = [int(node["Resources"].get("CPU", 0)) for node in _nodes()]
    return [count for count in counts if count]


@dataclass(frozen=True)
class Classifiers:
    """Where images are classified: on `cpus` CPUs, on nodes of the labels `label`; none means any node."""

    cpus: int
    label: dict[str, str]


def classifiers(device: str) -> Classifiers:
    """Return where the connected cluster classifies on `device` (auto, cpu or cuda; cuda needs any node with a GPU).

    Where it grows by itself, the CPUs are those that it can grow to.
    """
    from ray._private.state import state

    alive = _nodes()
    labelled = [node for node in alive if device != "cuda" and CLASSIFIES.items() <= node["Labels"].items()]
    nodes = labelled or alive
    groups = {node["Labels"].get("ray.io/node-group") for node in nodes}
    config = state.get_cluster_config()
    most = sum(
        max(0, group.max_count) * group.resources.get("CPU", 0)  # -1 is without a limit
        for group in (() if config is None else config.node_group_configs)
        if not labelled or group.name in groups
    )
    here = sum(node["Resources"].get("CPU", 0.0) for node in nodes)
    return Classifiers(max(1, int(here), most), CLASSIFIES if labelled else {})


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _available() -> dict[str, dict[str, float]]:
    """Return what is free on each node, by its id."""
    from ray._private.state import available_resources_per_node

    found: dict[str, dict[str, float]] = available_resources_per_node()  # type: ignore[no-untyped-call]
    return found


def _wait_until_free(wanted: Layout) -> None:
    until = time.monotonic() + FREE_WAIT
    each = wanted.resources_per_worker
    while True:
        # A worker is on one node: what two nodes have left is of no use to it.
        room = sum(min(int(free.get(name, 0) // n) for name, n in each.items()) for free in _available().values())
        if room >= wanted.min_workers:
            return
        if time.monotonic() > until:
            text = " and ".join(f"{amount:.0f} {name}" for name, amount in each.items())
            raise InfoAEError(
                f"the cluster is busy: {wanted.min_workers} workers of {text} needed, room for {room}; "
                "wait for the other job, or ask for fewer workers"
            )
        time.sleep(0.5)


def check_nodes(folder: Path | None) -> None:
    """Ask every node whether it has this infoae, and sees `folder` if given. Raises InfoAEError naming the node."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from infoae.version import __version__

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in _nodes()}
    remote = ray.remote(num_cpus=0)(_looker(None if folder is None else str(folder)))
    asked = {
        address: remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()
        for node, address in nodes.items()
    }
    for address, answer in asked.items():
        try:
            version, sees = ray.get(answer, timeout=60)
        except ray.exceptions.RayError as error:
            raise InfoAEError(f"node {address} does not answer: {type(error).__name__}") from None
        if version != __version__:
            raise InfoAEError(f"node {address} has infoae {version}, here it is {__version__}: install the same there")
        if not sees:
            raise InfoAEError(f"node {address} does not see {folder}: put --runs on shared storage, or give --storage")


def _looker(folder: str | None) -> Callable[[], tuple[str | None, bool]]:
    # A function within a function is sent to the node as its code, so that it runs where infoae is missing.
    def look() -> tuple[str | None, bool]:
        import pathlib

        try:
            from infoae.version import __version__ as version
        except ImportError:
            return None, True
        return version, folder is None or pathlib.Path(folder).is_dir()

    return look


def leaving(nodes: Mapping[str, str]) -> list[str]:
    """Return which of the nodes, addresses by id, are announced to be taken away."""
    from ray._private.state import state

    announced = state.get_draining_nodes()
    return sorted({address for node, address in nodes.items() if node in announced})
