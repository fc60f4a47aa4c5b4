from __future__ import annotations

import stat
from itertools import product
from pathlib import Path

import pytest

from infoae.cluster import connect
from infoae.errors import InfoAEError, UsageError


@pytest.mark.parametrize(
    ("nodes", "workers", "address"), [*product([None, "1", "2-4"], [None, 1, 2], [None, "here:1"])]
)
def test_the_variable_counts_only_beside_an_option_that_asks_for_a_cluster(
    nodes: str | None, workers: int | None, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    asked = connect.request(nodes, workers, address)
    variable = "10.0.0.1:6379" if nodes or workers else None
    assert asked.address == (address or variable)
    assert asked.needs_ray == (asked.address is not None)
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert connect.request(nodes, workers, address).address == address


@pytest.mark.parametrize("nodes", ["0", "4-2", "x", "1" * 5000, "-1", "", "1-", "1\n2"])
def test_wrong_nodes_are_one_line(nodes: str) -> None:
    with pytest.raises(UsageError, match="--nodes") as caught:
        connect.request(nodes, None, None)
    assert str(caught.value).isprintable()


def test_the_message_names_the_variable_that_was_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    given = connect.Request(2, 2, 1, "127.0.0.1:2")
    for asked, told in ((connect.request("2", None, None), "RAY_ADDRESS"), (given, "--address")):
        with pytest.raises(InfoAEError, match=told), connect.connected(asked, tmp_path / "ray.log"):
            pass


def test_the_token_of_a_ray_started_here_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    connect.protect_token()
    token = tmp_path / ".ray" / "auth_token"
    assert len(token.read_text()) == 64
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    known = token.read_text()
    token.chmod(0o644)  # as Ray leaves it
    connect.protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() == known
