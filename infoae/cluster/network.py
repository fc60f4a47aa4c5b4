"""Which network of a machine gloo takes: that of the address by which Ray reaches it."""

from __future__ import annotations

import os
from typing import Any

import psutil
import ray.util
from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

VARIABLE = "GLOO_SOCKET_IFNAME"


class NodeNetwork(TorchConfig):
    """As TorchConfig, but each worker's gloo takes its node's network, unless GLOO_SOCKET_IFNAME is set there."""

    @property
    def backend_cls(self) -> type[_TorchBackend]:
        """What Ray Train sets the process group up by."""
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        worker_group.execute(take_node_network)
        super().on_start(worker_group, backend_config)


def take_node_network() -> None:
    """Set GLOO_SOCKET_IFNAME, unless it is, to the interface of this node's address.

    Without it gloo takes the address that the machine's name has. That of many is a loopback, which no other reaches.
    """
    if VARIABLE not in os.environ:
        interface = interface_of(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        if interface is not None:
            os.environ[VARIABLE] = interface


def interface_of(address: str) -> str | None:
    """Return the name of the interface of this machine that has an address, or None."""
    interfaces: dict[str, list[Any]] = psutil.net_if_addrs()
    for name, addresses in interfaces.items():
        if any(each.address == address for each in addresses):
            return name
    return None
