"""A Ray cluster: what a command asks of one, and connecting to it, or to a Ray started here."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from infoae import limits
from infoae.errors import InfoAEError, UsageError, one_line, shown
from infoae.signals import keeping_sigterm

HOW = (
    "start one with `ray start --head --disable-usage-stats` on one machine and `ray start --address=HOST:6379` on "
    "each other, or with KubeRay on Kubernetes (deploy/ray)"
)
PROTECTED = "; if it has a token, set RAY_AUTH_MODE=token and put the token into ~/.ray/auth_token"
VARIABLE = "RAY_ADDRESS"
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Request:
    """What a command asks of a cluster."""

    min_nodes: int = 1
    max_nodes: int = 1
    workers_per_node: int | None = None
    """None: one for each GPU, or one without GPUs."""
    address: str | None = None

    def options(self) -> list[str]:
        """Return it as given to a command."""
        nodes = str(self.min_nodes) if self.min_nodes == self.max_nodes else f"{self.min_nodes}-{self.max_nodes}"
        given = {
            "--nodes": None if self.max_nodes == 1 else nodes,
            "--workers-per-node": self.workers_per_node,
            "--address": self.address,
        }
        return [part for option, value in given.items() if value is not None for part in (option, str(value))]

    @property
    def needs_ray(self) -> bool:
        """One worker trains in this process."""
        return self.max_nodes > 1 or (self.workers_per_node or 1) > 1 or self.address is not None


def request(nodes: str | None, workers_per_node: int | None, address: str | None) -> Request:
    """Return what the options of a command ask for; RAY_ADDRESS counts only beside one of them.

    A variable that was set for something else, as in a pod, must not move a plain command to another cluster. Raises
    UsageError.
    """
    least, most = (1, 1) if nodes is None else parse_nodes(nodes)
    if address is not None and not address.strip():
        raise UsageError("--address is empty: give HOST:PORT, or leave it out")
    if address is None and (nodes, workers_per_node) != (None, None):
        address = os.environ.get(VARIABLE) or None
    return Request(least, most, workers_per_node, address)


def parse_nodes(nodes: str) -> tuple[int, int]:
    """Return the least and the most of N or N-M. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", nodes)
    least, most = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 1 <= least <= most:
        raise UsageError(f"--nodes {shown(nodes)}: give a number such as 4, or a range such as 2-4")
    return least, most


@contextmanager
def connected(request: Request, log: Path) -> Iterator[None]:
    """Connect to the cluster of `request`; `quiet` is for whatever uses it.

    A single node without an address is this machine. Raises InfoAEError at once if there is no cluster.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    started = not ray.is_initialized()
    if started:
        with quiet(log), keeping_sigterm():
            _connect(request)
    try:
        yield
    finally:
        if started:
            with quiet(log):
                ray.shutdown()


@contextmanager
def quiet(log: Path) -> Iterator[None]:
    """Keep what Ray prints out of sight in `log`. A bar shown meanwhile must be there before."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with (
        log.open("a", encoding="utf-8", buffering=1) as file,
        redirect_stdout(file),
        redirect_stderr(file),
        _logging_to(file),
    ):
        yield


@contextmanager
def _logging_to(file: TextIO) -> Iterator[None]:
    """Ray's logger holds on to the stderr that was there when it was imported."""
    handlers = [h for h in logging.getLogger("ray").handlers if isinstance(h, logging.StreamHandler)]
    for handler in handlers:
        if handler.stream.closed:  # a caller's that is gone, and could not be flushed
            handler.stream = sys.__stderr__
    previous = [(handler, handler.setStream(file)) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in previous:
            handler.setStream(stream)


def _connect(request: Request) -> None:
    import ray

    address = request.address or ("auto" if request.max_nodes > 1 else "local")
    told = VARIABLE if address == os.environ.get(VARIABLE) else "--address"
    if "://" in address:
        raise UsageError(f"{told} {shown(address)}: Ray Client cannot train; run infoae on a machine of the cluster")
    try:
        if address not in ("auto", "local"):
            _knock(address)
        if address == "local":
            with suppress(OSError):  # no home, or none that can be written: Ray says so if it needs one
                protect_token()
        # A cluster has a dashboard or not; one started here has no use for it.
        dashboard = False if address == "local" else None
        # What is started here has the variables of this process; other machines are told.
        raised = None if address == "local" else {"env_vars": limits.given()}
        ray.init(address=address, include_dashboard=dashboard, logging_level=logging.ERROR, runtime_env=raised)
    except Exception as error:  # Ray raises a bare one where a node takes too long to start
        reason = one_line(error, first=True)
        where = "on this machine" if address == "auto" else f"at {address}, which {told} says"
        wanted = f"{request.min_nodes} node{'s' * (request.min_nodes > 1)}"
        token = "" if address == "auto" or os.environ.get("RAY_AUTH_MODE") == "token" else PROTECTED
        raise InfoAEError(f"no Ray cluster {where} ({reason}); {wanted} needed: {HOW}{token}") from None


def protect_token() -> None:
    """Make the token of a Ray that is started here readable by its owner alone: Ray leaves it to anyone.

    Does nothing where another token is told, or none is wanted.
    """
    told = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if told or os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        with suppress(OSError):  # another's
            path.chmod(0o600)
    else:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))


def _knock(address: str) -> None:
    """See at once what ray.init would try for minutes. Raises OSError or ValueError if no Ray answers."""
    import grpc

    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise ValueError("give HOST:PORT")
    socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    if os.environ.get("RAY_USE_TLS") == "1":
        return
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            raise ConnectionError("what answers there is not Ray") from None
