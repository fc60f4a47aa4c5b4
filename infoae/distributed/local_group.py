"""Processes of one machine that share a batch out as ranks, forked from the one that trains.

An operation of networks this small is too little work to be split over threads; a group splits the samples. What mixes
samples is exchanged in shared memory (`exchange`, which `collectives` sums). Whoever waits is asleep, so that another
program on the machine takes no more than its own time. A group lasts as long as one call of `run`: the processes begin
with all that this one holds, see the same batches and update their own weights alike, and end.
"""

from __future__ import annotations

import math
import mmap
import multiprocessing
import pickle
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain, combinations
from multiprocessing.connection import Connection
from typing import TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from infoae.errors import InfoAEError, one_line

T = TypeVar("T")
Sockets: TypeAlias = dict[tuple[int, int], tuple[socket.socket, socket.socket]]
"""The two ends of what connects two ranks."""

SAMPLES = 32
"""Fewer of a batch are not worth a process."""
BYTES_A_SAMPLE = 80_000
"""Of gradients, beside which a process of fewer samples loses more by the exchange than it gains. On two cores with AMX
processes were faster than threads or as fast at 26,000 (recipe mnist-best), and slower at 216,000 (pixelgan-ae)."""
ROOM = 2**28
"""Bytes that a rank can show the others at once, next to what is asked for: memory only as far as it is used."""
_PATIENCE = 60.0  # seconds that the others have to end, once this one has
_UNREAD = 2000  # bytes that any pipe takes, next to a line of text, before they are read


class _GoneError(Exception):
    """Another process of the group has ended."""


class LocalGroup:
    """This process among those of its group."""

    def __init__(self, rank: int, sockets: Sockets, memory: mmap.mmap) -> None:
        self.rank, self._memory = rank, memory
        self._peers: dict[int, socket.socket] = {}
        for ranks, ends in sockets.items():
            for owner, other, end in zip(ranks, ranks[::-1], ends, strict=True):
                if owner == rank:
                    self._peers[other] = end
                else:
                    end.close()  # or nobody would see that its owner has ended
        self.size = len(self._peers) + 1
        self._room = len(memory) // (2 * self.size)
        self._turn = 0

    def exchange(self, value: Tensor) -> list[Tensor]:
        """Return the `value` (N, ...) of each rank, by rank; only N may differ.

        Asleep until all have come. What is returned is shared memory, to be read before this rank exchanges again.
        """
        value = value.detach().contiguous()
        if value.nbytes > self._room:
            raise InfoAEError(f"{value.nbytes} bytes to share at once, more than {self._room}: lower train.batch_size")
        self._turn = 1 - self._turn  # two in turn, since a rank may be one exchange ahead of another, but no more
        self._shown(self.rank, value, len(value)).copy_(value)
        count = len(value).to_bytes(8, "little")
        counts = {self.rank: len(value)}
        try:
            for peer in self._peers.values():
                peer.sendall(count)
            for rank, peer in self._peers.items():
                counts[rank] = int.from_bytes(received := peer.recv(8, socket.MSG_WAITALL), "little")
                if not received:
                    raise _GoneError
        except ConnectionError:
            raise _GoneError from None
        return [self._shown(rank, value, counts[rank]) for rank in range(self.size)]

    def _shown(self, rank: int, like: Tensor, count: int) -> Tensor:
        shape = (count, *like.shape[1:])
        offset = (2 * rank + self._turn) * self._room
        values = math.prod(shape)
        if not values:
            return like.new_empty(shape)
        return torch.frombuffer(self._memory, dtype=like.dtype, count=values, offset=offset).view(shape)

    def leave(self) -> None:
        """Let the others see that this one has ended."""
        for peer in self._peers.values():
            peer.close()


_mine: LocalGroup | None = None


def here() -> LocalGroup | None:
    """Return the group that this process is in."""
    return _mine


def is_first() -> bool:
    """Return whether this process goes on when a group ends."""
    return _mine is None or _mine.rank == 0


def possible(device: torch.device) -> bool:
    """Return whether processes can share a batch: where they can be forked, and no GPU does the work or could.

    PyTorch takes no gradients in a process that was forked from one that has seen a GPU.
    """
    alone = not dist.is_initialized() and not torch.accelerator.is_available()
    return device.type == "cpu" and sys.platform.startswith("linux") and alone


def size_for(batch_size: int, micro_batch_size: int | None, most: int, num_bytes: int = 0) -> int:
    """Return how many processes, at most `most`, should share a batch, whose gradients take `num_bytes`.

    They compute what one would: they have whole micro-batches, equally many, or share a single one.
    """
    most = max(1, min(most, batch_size // max(SAMPLES, num_bytes // BYTES_A_SAMPLE)))
    parts = max(1, round(batch_size / micro_batch_size)) if micro_batch_size else 1
    return most if parts == 1 else max(size for size in range(1, most + 1) if parts % size == 0)


def run(size: int, work: Callable[[], T], room: int = 0) -> T:
    """Let `size` processes compute `work`, of which this one is rank 0; returns what this one's returns.

    The others end there. `room` are bytes that a rank has to show at once. Raises what any of them raised, and
    InfoAEError if one was killed. Within, each has a single thread.
    """
    if size == 1:
        return work()
    sockets = {ranks: socket.socketpair() for ranks in combinations(range(size), 2)}
    memory = mmap.mmap(-1, 2 * size * (ROOM + room // mmap.PAGESIZE * mmap.PAGESIZE))
    threads = torch.get_num_threads()
    others: list[_Other] = []
    try:
        others.extend(_Other(rank, sockets, memory, work) for rank in range(1, size))
        with _member(LocalGroup(0, sockets, memory)):
            return work()
    except _GoneError:
        raise _why(others) from None
    finally:
        torch.set_num_threads(threads)
        for end in chain.from_iterable(sockets.values()):
            end.close()  # those that wait see it, also where not all could be started
        for other in others:
            other.end()


@contextmanager
def _member(group: LocalGroup) -> Iterator[None]:
    global _mine
    _mine = group
    torch.set_num_threads(1)  # OpenMP hangs in a process forked from one that has had its threads
    try:
        yield
        group.exchange(torch.empty(0))  # all have done their work, or this one hears of what was raised
    finally:
        _mine = None
        group.leave()


class _Other:
    """Another process of the group, as the first one knows it."""

    def __init__(self, rank: int, sockets: Sockets, memory: mmap.mmap, work: Callable[[], object]) -> None:
        context = multiprocessing.get_context("fork")
        self.raised, raised = context.Pipe(duplex=False)
        arguments = (rank, sockets, memory, work, raised)
        self.process = context.Process(target=_compute, args=arguments, daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of other threads, which it does not need
            self.process.start()
        raised.close()

    def end(self) -> None:
        self.process.join(_PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.raised.close()


def _compute(rank: int, sockets: Sockets, memory: mmap.mmap, work: Callable[[], object], raised: Connection) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # the first process hears of it, and tells the others
        signal.signal(number, signal.SIG_IGN)
    with suppress(_GoneError), _member(LocalGroup(rank, sockets, memory)):
        try:
            work()
        except _GoneError:
            raise
        except Exception as error:
            _send(error, raised)  # before the others see that this one has ended
            raise _GoneError from None


def _send(error: Exception, to: Connection) -> None:
    """Send what `error` says, and itself where it can be and none need wait for that."""
    with suppress(Exception):  # what cannot be sent, or the first process has ended, and nobody wants to know
        to.send(f"{type(error).__name__}: {one_line(error)}")
        pickled = pickle.dumps(error)
        if len(pickled) <= _UNREAD:
            to.send_bytes(pickled)


def _why(others: list[_Other]) -> Exception:
    """Return what ended a group: what one of them raised, or that it was killed."""
    for other in others:
        if (found := _received(other.raised)) is not None:
            return found
    codes = []
    for other in others:
        other.process.join(1)
        codes.append(other.process.exitcode)
    code = next((code for code in codes if code), None)
    return InfoAEError(
        f"one of {len(others) + 1} processes that train together was ended (exit code {code}): is memory short?"
    )


def _received(raised: Connection) -> Exception | None:
    try:
        text = raised.recv() if raised.poll() else None
    except EOFError:
        return None
    if text is None:
        return None
    try:
        found: Exception = raised.recv()
    except Exception:  # it was not sent, or its class makes none of what it is sent as
        return RuntimeError(text)
    return found
