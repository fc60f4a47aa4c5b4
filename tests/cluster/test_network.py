from __future__ import annotations

import os

import pytest

from infoae.cluster import network


def test_an_interface_is_found_by_its_address() -> None:
    assert network.interface_of("127.0.0.1") == "lo"
    assert network.interface_of("192.0.2.200") is None


@pytest.mark.parametrize(
    ("given", "address", "taken"),
    [(None, "127.0.0.1", "lo"), ("eth7", "127.0.0.1", "eth7"), (None, "192.0.2.200", None)],
)
def test_gloo_takes_the_nodes_network_unless_told(
    given: str | None, address: str, taken: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(network.VARIABLE, given or "")
    if given is None:
        monkeypatch.delenv(network.VARIABLE)
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: address)
    network.take_node_network()
    assert os.environ.get(network.VARIABLE) == taken
