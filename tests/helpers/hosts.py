"""Hosts: network namespaces of this machine on one switch, each with an address, and with a Ray of its own.

They share files, processors and clock. Their links can be pulled and made slow, which kills nothing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.helpers.paths import ROOT

NETWORK = "10.231.77"
HERE = f"{NETWORK}.254"
"""Where hosts reach this machine."""
PORT = 6379
LINK = "eth0"
"""A host's only one, as it is called there."""
FEW_PROCESSES = ["--include-dashboard=false", "--no-monitor"]
START_SECONDS, START_TRIES = 60, 3
"""On a busy machine Ray's node process waits in vain for its agent: 15 seconds, which cannot be set."""
STOP_SECONDS = 20.0


def missing() -> str | None:
    """Return why there can be no hosts on this machine, or None if there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "tc"):
        if shutil.which(program) is None:
            return f"there is no `{program}` (iproute2)"
    name = _unique("probe")
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"no network namespace can be made: {made.stderr.strip()}"
    tried = (
        ("bridge", ["ip", "-n", name, "link", "add", "switch", "type", "bridge"]),
        ("veth", ["ip", "-n", name, "link", "add", LINK, "type", "veth", "peer", "name", "port"]),
        ("tbf", ["tc", "-n", name, "qdisc", "add", "dev", "lo", "root", *_limited("1mbit")]),
    )
    lacking = [what for what, command in tried if subprocess.run(command, capture_output=True).returncode]
    _run("ip", "netns", "del", name)
    return f"the kernel has no {', '.join(lacking)}" if lacking else None


class Hosts:
    """So many hosts, numbered from 0, and a switch; as a context it ends all that runs on them and removes them."""

    def __init__(self, count: int) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="hosts-"))  # a short path: Ray puts sockets below
        self._switch, self._names = _unique("switch"), [_unique(str(host)) for host in range(count)]
        self._here = _unique("v")
        token = self._folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_raylet_start_wait_time_s": str(START_SECONDS),
        }
        """Of all that is started on them."""

    def __enter__(self) -> Hosts:
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._names, self._switch]:
            if Path("/run/netns", name).exists():
                _kill_all(name)
                _run("ip", "netns", "del", name)
        subprocess.run(["ip", "link", "del", self._here], capture_output=True)  # gone with the switch, in time
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connect(self) -> None:
        _run("ip", "netns", "add", self._switch)
        # The bridge is in a namespace, too: a firewall of this machine would look at what goes over it.
        _run("ip", "-n", self._switch, "link", "add", "switch", "type", "bridge")
        _run("ip", "-n", self._switch, "link", "set", "switch", "up")
        _run("ip", "link", "add", self._here, "type", "veth", "peer", "name", "here", "netns", self._switch)
        _run("ip", "address", "add", f"{HERE}/24", "dev", self._here)
        _run("ip", "link", "set", self._here, "up")
        _run("ip", "-n", self._switch, "link", "set", "here", "master", "switch", "up")
        for host, name in enumerate(self._names):
            _run("ip", "netns", "add", name)
            peer = ["peer", "name", _port(host), "netns", self._switch]
            _run("ip", "-n", name, "link", "add", LINK, "type", "veth", *peer)
            _run("ip", "-n", name, "address", "add", f"{self.address(host)}/24", "dev", LINK)
            _run("ip", "-n", name, "link", "set", "lo", "up")
            _run("ip", "-n", name, "link", "set", LINK, "up")
            _run("ip", "-n", name, "route", "add", "default", "via", HERE)  # by which Ray finds a host's address
            _run("ip", "-n", self._switch, "link", "set", _port(host), "master", "switch", "up")

    def address(self, host: int) -> str:
        return f"{NETWORK}.{host + 1}"

    @property
    def cluster(self) -> str:
        """The address of the Ray of all hosts, whose head is on host 0."""
        return f"{self.address(0)}:{PORT}"

    def popen(self, host: int, command: list[str], output: Path) -> subprocess.Popen[bytes]:
        """Start a command on a host; what it prints is in `output`.out and `output`.err."""
        with output.with_suffix(".out").open("wb") as out, output.with_suffix(".err").open("wb") as err:
            return subprocess.Popen(
                ["ip", "netns", "exec", self._names[host], *command],
                env=self.environment,
                stdout=out,
                stderr=err,
            )

    def start_ray(self, *hosts: int) -> None:
        """Start the Ray of these hosts, of one CPU each; that of host 0 is the head, and comes first."""
        for host in sorted(hosts):
            folder = self._folder / str(host)
            folder.mkdir(exist_ok=True)
            for _ in range(START_TRIES):
                code = self._start_ray(host, folder).wait(timeout=2 * START_SECONDS)
                if code == 0:
                    break
                self.stop_ray(host)
            said = [(folder / f"start.{end}").read_text() for end in ("out", "err")]
            assert code == 0, said

    def _start_ray(self, host: int, folder: Path) -> subprocess.Popen[bytes]:
        where = ["--head", f"--port={PORT}", f"--node-ip-address={self.address(0)}", *FEW_PROCESSES]
        if host:
            where = [f"--address={self.cluster}"]
        size = ["--num-cpus=1", "--object-store-memory=100000000", "--include-log-monitor=false"]
        ray = str(Path(sys.executable).with_name("ray"))
        return self.popen(host, [ray, "start", *where, *size, f"--temp-dir={folder}"], folder / "start")

    def stop_ray(self, host: int) -> None:
        """Kill all that runs on a host."""
        _kill_all(self._names[host])

    def unplug(self, host: int) -> None:
        """Pull a host's cable out of the switch. It keeps its address, and nothing on it ends."""
        _run("ip", "-n", self._switch, "link", "set", _port(host), "down")

    def plug(self, host: int) -> None:
        """Put it in again."""
        _run("ip", "-n", self._switch, "link", "set", _port(host), "up")

    def limit(self, host: int, rate: str) -> None:
        """Let a host send, and be sent, no more than `rate` a second, as tc says it."""
        for where, link in ((self._names[host], LINK), (self._switch, _port(host))):
            _run("tc", "-n", where, "qdisc", "add", "dev", link, "root", *_limited(rate))

    def unlimit(self, host: int) -> None:
        """Let it send and be sent as much as it can."""
        for where, link in ((self._names[host], LINK), (self._switch, _port(host))):
            _run("tc", "-n", where, "qdisc", "del", "dev", link, "root")


def _limited(rate: str) -> list[str]:
    return ["tbf", "rate", rate, "burst", "16kb", "latency", "500ms"]


def _port(host: int) -> str:
    return f"port{host}"


def _unique(name: str) -> str:
    return f"iae{os.getpid()}-{name}"


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _kill_all(name: str) -> None:
    """Kill the processes of a namespace, and those that they start meanwhile."""
    end = time.monotonic() + STOP_SECONDS
    while found := _run("ip", "netns", "pids", name).split():
        assert time.monotonic() < end, f"processes {found} do not end"
        for pid in found:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.1)
