"""A group of processes computes what one does, tells what went wrong in any of them, and leaves none behind."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from infoae.distributed import collectives, local_group
from infoae.errors import InfoAEError
from tests.helpers.paths import ROOT

CPU = torch.device("cpu")
FLOATS = (torch.float32, torch.float64, torch.bfloat16)


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    """Fail where a test hangs, or leaves a process or a group behind."""

    def fail(*_: object) -> None:
        raise TimeoutError("a group hangs")

    previous = signal.signal(signal.SIGALRM, fail)
    signal.alarm(60)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert multiprocessing.active_children() == []
    assert local_group.here() is None


def rank() -> int:
    group = local_group.here()
    assert group is not None
    return group.rank


def exchange(value: Tensor) -> list[Tensor]:
    group = local_group.here()
    assert group is not None
    return group.exchange(value)


def exchange_for_ever() -> None:
    while True:
        exchange(torch.ones(3))


def in_rank(which: int, act: Callable[[], object]) -> Callable[[], None]:
    """Return work in which one rank acts after a few exchanges, and the others wait for it."""

    def work() -> None:
        for _ in range(3):
            exchange(torch.ones(3))
        if rank() == which:
            act()
        exchange_for_ever()

    return work


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def run_alone(script: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=50, check=False, cwd=ROOT)


def test_one_process_alone_is_no_group() -> None:
    assert local_group.run(1, lambda: (local_group.here(), collectives.size())) == (None, 1)
    assert local_group.is_first()


exchanges = st.tuples(
    st.sampled_from((*FLOATS, torch.int64)),
    st.lists(st.integers(0, 3), max_size=2),
    st.lists(st.integers(0, 5), min_size=3, max_size=3),
)


@settings(max_examples=15)
@given(st.integers(2, 3), st.lists(exchanges, min_size=1, max_size=20), st.integers(0, 2**32))
def test_every_rank_sees_the_values_of_all(
    size: int, taken: list[tuple[torch.dtype, list[int], list[int]]], seed: int
) -> None:
    """Of any type and number of rows, in any order: so sums are the same on all ranks, and those of one process."""

    def work() -> int:
        random = torch.Generator().manual_seed(seed)  # of all ranks' values, on each
        for dtype, shape, counts in taken:
            values = [(torch.randn(n, *shape, generator=random) * 1000).to(dtype) for n in counts[:size]]
            found = exchange(values[rank()])
            assert [each.dtype for each in found] == [dtype] * size
            assert all(torch.equal(one, other) for one, other in zip(found, values, strict=True))
            alike = [(torch.randn(4, *shape, generator=random) * 1000).to(dtype) for _ in range(size)]
            assert torch.equal(collectives.sum_over_ranks(alike[rank()]), torch.stack(alike).sum(0))
        return rank()

    assert local_group.run(size, work) == 0


def test_an_exchange_takes_what_lies_in_any_order_and_has_a_gradient() -> None:
    def work() -> None:
        value = torch.arange(24.0, requires_grad=True).view(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
        for each in exchange(value + rank()):
            assert not each.requires_grad
        first, second = exchange(value + rank())
        assert torch.equal(first + 1, second)
        assert torch.equal(first, value)

    local_group.run(2, work)


WHOLE = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def of_mean(rows: Tensor) -> Tensor:
    mean = collectives.mean(rows.mean(0), len(rows))
    return (mean - 1).square().sum() + collectives.mean(rows.exp().mean(), len(rows))


def of_total(rows: Tensor) -> Tensor:
    return collectives.total(rows.sigmoid().sum(0), len(rows)).log().sum()


def of_all(rows: Tensor) -> Tensor:
    every = collectives.gather_with_gradient(rows)
    return (every @ every.T).logsumexp(1).mean()


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("loss", [of_mean, of_total, of_all])
def test_a_loss_of_all_samples_and_its_gradient_are_those_of_one_process(
    size: int, loss: Callable[[Tensor], Tensor]
) -> None:
    whole = WHOLE.clone().requires_grad_()
    expected = loss(whole)
    expected.backward()
    assert whole.grad is not None
    gradient = whole.grad

    def work() -> None:
        share = collectives.share(len(WHOLE))
        mine = WHOLE[share.slice].clone().requires_grad_()
        found = loss(mine)
        (found * share.weight).backward()  # as a step weighs it
        torch.testing.assert_close(found, expected.detach())
        torch.testing.assert_close(mine.grad, gradient[share.slice])

    local_group.run(size, work)


@pytest.mark.parametrize("size", [2, 3])
def test_what_is_gathered_and_summed_is_that_of_one_process(size: int) -> None:
    def work() -> None:
        share = collectives.share(len(WHOLE))
        rows, mine = collectives.gather(WHOLE[share.slice])
        assert torch.equal(rows, WHOLE)
        assert mine == share.slice
        assert (collectives.size(), collectives.is_main(), local_group.is_first()) == (size, rank() == 0, rank() == 0)

        lying = torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last) * (rank() + 1)
        tensors = [lying, torch.full((), 2.0), torch.zeros(0), torch.arange(3.0)]
        wait = collectives.sum_in_place(tensors)
        collectives.any_rank(False, CPU)  # of another exchange before it is waited for
        wait()
        assert torch.equal(lying, torch.full((2, 3, 4, 5), size * (size + 1) / 2))
        assert tensors[1].item() == 2 * size
        assert torch.equal(tensors[3], size * torch.arange(3.0))

        for last in (False, True):
            assert collectives.any_rank(last and rank() == size - 1, CPU) is last
        with collectives.alone():
            assert collectives.any_rank(rank() == 0, CPU) is (rank() == 0)
            assert len(collectives.gather(WHOLE[:2])[0]) == 2

    local_group.run(size, work)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("error", [InfoAEError("no number: lower the rate"), ZeroDivisionError("by zero")])
def test_what_any_process_raises_is_raised_here(which: int, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        local_group.run(3, in_rank(which, raising(error)))


def test_what_another_raises_after_the_last_exchange_is_raised_here() -> None:
    def work() -> None:
        if rank() == 1:
            raise ZeroDivisionError("late")

    with pytest.raises(ZeroDivisionError, match="late"):
        local_group.run(2, work)


class OddError(Exception):
    """One that cannot be unpickled."""

    def __init__(self, what: str, of: str) -> None:
        super().__init__(f"{what} of {of}")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (OddError("lack", "memory"), "OddError: lack of memory"),
        (ValueError("long " * 100_000), "ValueError: long long"),
    ],
    ids=["cannot be sent", "larger than a pipe"],
)
def test_an_error_that_cannot_be_sent_is_told(error: Exception, text: str) -> None:
    with pytest.raises(RuntimeError, match=text) as raised:
        local_group.run(2, in_rank(1, raising(error)))
    assert len(str(raised.value)) < 600


@pytest.mark.parametrize("which", [1, 2])
def test_a_killed_process_is_one_line(which: int) -> None:
    with pytest.raises(
        InfoAEError, match=r"^one of 3 processes that train together was ended \(exit code -9\)"
    ) as told:
        local_group.run(3, in_rank(which, lambda: os.kill(os.getpid(), signal.SIGKILL)))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_an_interrupt_of_the_first_ends_the_others(error: BaseException) -> None:
    with pytest.raises(type(error)):
        local_group.run(3, in_rank(0, raising(error)))


def test_one_that_does_not_hear_that_the_first_has_ended_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_group, "_PATIENCE", 0.2)
    with pytest.raises(KeyboardInterrupt):
        local_group.run(2, lambda: time.sleep(600) if rank() else raising(KeyboardInterrupt())())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_is_for_the_first_alone(number: signal.Signals) -> None:
    """A terminal and batch systems send it to all: the first decides what it means."""

    def work() -> float:
        exchange(torch.ones(1))
        if rank():
            os.kill(os.getpid(), number)
        return sum(each.item() for each in exchange(torch.ones(1)))

    assert local_group.run(2, work) == 2


def test_the_others_end_where_the_first_is_killed() -> None:
    """Output is read until nobody can write any more."""
    script = """
import os, signal, torch
from infoae.distributed import local_group

def work():
    while True:
        local_group.here().exchange(torch.ones(3))
        if local_group.is_first():
            os.kill(os.getpid(), signal.SIGKILL)

local_group.run(3, work)
"""
    done = run_alone(script)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")


def test_where_a_process_cannot_be_started_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[BaseProcess] = []
    start = BaseProcess.start

    def refusing(process: BaseProcess) -> None:
        if started:
            raise BlockingIOError("too many processes")
        started.append(process)
        start(process)

    monkeypatch.setattr(BaseProcess, "start", refusing)
    with pytest.raises(BlockingIOError, match="too many"):
        local_group.run(3, exchange_for_ever)
    assert len(started) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_more_than_the_room_is_refused(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_group, "ROOM", mmap.PAGESIZE)
    most = 2 * mmap.PAGESIZE // 8  # what was asked for, and next to it the room that there always is

    def work(more: int) -> float:
        rows = torch.ones(most + more * (rank() == which), dtype=torch.float64)
        return sum(each.sum().item() for each in exchange(rows))

    assert local_group.run(2, lambda: work(0), room=mmap.PAGESIZE) == 2 * most
    with pytest.raises(InfoAEError, match=r"^\d+ bytes to share at once, more than \d+: lower train.batch_size$"):
        local_group.run(2, lambda: work(1), room=mmap.PAGESIZE)


def test_a_group_has_a_thread_a_process_and_leaves_threads_as_they_were() -> None:
    """In a process of its own, since it has threads to lose: those of OpenMP do not survive a fork."""
    script = """
import torch
from infoae.distributed import local_group

def work():
    convolution(torch.randn(64, 8, 28, 28)).sum().backward()
    threads = torch.tensor([torch.get_num_threads()])
    return torch.cat(local_group.here().exchange(threads)).tolist()

torch.set_num_threads(4)
convolution = torch.nn.Conv2d(8, 8, 3)
convolution(torch.randn(64, 8, 28, 28)).sum().backward()
print(local_group.run(2, work), torch.get_num_threads())
try:
    local_group.run(2, lambda: 1 / 0)
except ZeroDivisionError:
    print(torch.get_num_threads())
"""
    done = run_alone(script)
    assert done.stdout.splitlines() == ["[1, 1] 4", "4"], done.stderr


@pytest.mark.parametrize(
    ("batch_size", "micro_batch_size", "most", "size"),
    [
        (63, None, 8, 1),
        (64, None, 8, 2),
        (128, None, 2, 2),
        (1000, None, 4, 4),
        (128, None, 0, 1),
        (2, None, 8, 1),
        (100, 100, 8, 3),  # a single micro-batch is shared
        (200, 50, 3, 2),  # of four micro-batches
        (200, 50, 4, 4),
        (300, 100, 2, 1),  # of three
        (300, 100, 8, 3),
        (64, 8, 8, 2),
        (100, 400, 8, 3),
    ],
)
def test_as_many_processes_as_share_whole_micro_batches(
    batch_size: int, micro_batch_size: int | None, most: int, size: int
) -> None:
    assert local_group.size_for(batch_size, micro_batch_size, most) == size


@given(st.integers(1, 2000), st.integers(2, 700), st.integers(0, 40))
def test_processes_have_the_micro_batches_of_one(batch_size: int, micro_batch_size: int, most: int) -> None:
    size = local_group.size_for(batch_size, micro_batch_size, most)
    assert 1 <= size <= max(1, min(most, batch_size // local_group.SAMPLES))
    parts = len(collectives.micro_batches(batch_size, micro_batch_size))
    assert parts == 1 or parts % size == 0


def test_a_process_group_or_another_device_has_no_local_group(tmp_path: Path) -> None:
    assert not local_group.possible(torch.device("cuda"))
    if torch.accelerator.is_available():
        pytest.skip("nothing is forked beside an accelerator")
    assert local_group.possible(CPU) == sys.platform.startswith("linux")
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        assert not local_group.possible(CPU)
    finally:
        torch.distributed.destroy_process_group()
