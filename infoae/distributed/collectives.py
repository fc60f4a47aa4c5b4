"""Several processes that train one model: who this one is, its share of a batch, and what is summed over all of them.

They are a process group, or a group of this machine (`local_group`).

Every rank draws the whole batch's order, noise and augmentation and computes its own share of it; losses, gradients
and whatever mixes the samples of a batch are summed, so W ranks compute what one would, up to the order of summation.
Ranks that have micro-batches of their own mix no samples, and sum losses and gradients alone.
Without other processes everything here is the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from infoae.distributed import doing, local_group

_alone = False


def size() -> int:
    """Return how many ranks' samples are mixed; 1 without other ranks, and within `alone`."""
    return 1 if _alone else _rank_and_ranks()[1]


@contextmanager
def alone() -> Iterator[None]:
    """Mix the samples of this rank with those of no other: within, what is summed over ranks is so over this one."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def is_main() -> bool:
    """Return whether this rank writes what is written once: metrics, checkpoints, evaluations."""
    return _rank_and_ranks()[0] == 0


@dataclass(frozen=True)
class Subset:
    """Some of this rank's samples."""

    rows: Tensor
    """Which of them, (S,)."""
    weight: float
    """What a mean over them counts for in the mean over the subsets of all ranks, next to Share.weight."""


@dataclass(frozen=True)
class Share:
    """This rank's samples of a batch of `total`: `start` to `stop`."""

    start: int
    stop: int
    total: int

    @property
    def slice(self) -> slice:
        """The samples of this share, in the batch of all ranks."""
        return slice(self.start, self.stop)

    @property
    def weight(self) -> float:
        """What a mean over this share counts for in the mean over the batch."""
        return (self.stop - self.start) / self.total

    def subset(self, fraction: float) -> Subset:
        """Return this rank's samples of the `fraction` of the batch that is spread evenly over it.

        Those are some if the fraction is at least two samples a rank.
        """
        count = max(1, round(fraction * self.total))
        rows = torch.arange(count) * self.total // count
        rows = rows[(rows >= self.start) & (rows < self.stop)] - self.start
        return Subset(rows, len(rows) / count / self.weight)


def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of the ranks' `value`, without gradient: the same to the last bit on all of them.

    For what is small and waited for. On the CPU each rank gathers the values and sums them itself: gloo then sends them
    around once and not twice.
    """
    if (local := local_group.here()) is not None:
        return torch.stack(local.exchange(value)).sum(0)
    if value.device.type != "cpu":
        dist.all_reduce(value)
        return value
    values = [torch.empty_like(value) for _ in range(size())]
    with doing.waiting("a sum over ranks"):
        dist.all_gather(values, value)
    return torch.stack(values).sum(0)


def share(total: int) -> Share:
    """Return this rank's share of a batch; shares differ by at most one sample."""
    rank, ranks = _rank_and_ranks()
    return Share(total * rank // ranks, total * (rank + 1) // ranks, total)


def micro_batches(total: int, size: int | None) -> list[Share]:
    """Return this rank's micro-batches of a batch of `total`: equal parts of its share, of about `size` samples.

    Empty if there are fewer than ranks, or no size is given: then the whole batch is one, and each rank has its share.
    Ranks whose number divides that of the micro-batches have the same ones as a single rank.
    """
    rank, ranks = _rank_and_ranks()
    each = max(1, round(total / size)) // ranks if size else 0
    numbers = range(rank * each, (rank + 1) * each)
    return [Share(total * i // (ranks * each), total * (i + 1) // (ranks * each), total) for i in numbers]


def _rank_and_ranks() -> tuple[int, int]:
    if (local := local_group.here()) is not None:
        return local.rank, local.size
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


class _Sum(torch.autograd.Function):
    """The sums over ranks of a value and of the count of samples.

    Every rank computes the same loss of them, and counts it by its share of the samples. So each already has the
    gradient of the whole batch's loss, times its share, and none needs to be sent.
    """

    @staticmethod
    def forward(context: Any, value: Tensor, count: int) -> tuple[Tensor, Tensor]:
        sums = sum_over_ranks(torch.cat([value.flatten(), value.new_full((1,), count)]))
        context.weight = count / sums[-1]
        return sums[:-1].view_as(value), sums[-1]

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / context.weight, None


def mean(value: Tensor, count: int) -> Tensor:
    """Return the mean over all samples of the batch, with gradient, of which `value` is the mean over `count` here."""
    if size() == 1:
        return value
    sums: Tensor
    total: Tensor
    sums, total = _Sum.apply(value * count, count)
    return sums / total


def total(value: Tensor, count: int) -> Tensor:
    """Return the sum over ranks, with gradient, of which `value` is the part of this rank's `count` samples."""
    if size() == 1:
        return value
    sums: Tensor = _Sum.apply(value, count)[0]
    return sums


def gather(value: Tensor) -> tuple[Tensor, slice]:
    """Return the rows (B, ...) of all ranks in their order, without gradient, and which are those of `value`."""
    if size() == 1:
        return value, slice(0, len(value))
    if (local := local_group.here()) is not None:
        parts = local.exchange(value)
        start = sum(len(part) for part in parts[: local.rank])
        return torch.cat(parts), slice(start, start + len(value))
    counts = torch.zeros(size(), dtype=torch.int64, device=value.device)
    counts[dist.get_rank()] = len(value)
    counts = sum_over_ranks(counts)
    start = int(counts[: dist.get_rank()].sum())
    mine = slice(start, start + len(value))
    gathered = value.new_zeros(int(counts.sum()), *value.shape[1:])
    gathered[mine] = value.detach()
    with doing.waiting("the samples of all ranks"):
        dist.all_reduce(gathered)
    return gathered, mine


class _Gather(torch.autograd.Function):
    """The rows of all ranks. As with `_Sum`, each rank has the whole loss's gradient, times its share of the rows."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        rows, context.mine = gather(value)
        context.weight = len(value) / len(rows)
        return rows

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        mine: Tensor = gradients[0][context.mine] / context.weight
        return mine


def gather_with_gradient(value: Tensor) -> Tensor:
    """Return the rows (B, ...) of all ranks in their order, for a loss of them all that each rank computes."""
    if size() == 1:
        return value
    rows: Tensor = _Gather.apply(value)
    return rows


def from_main(value: Tensor, device: torch.device) -> Tensor:
    """Return the main rank's `value`, which has the same shape and type on every rank; `device` is this rank's."""
    if size() == 1:
        return value
    sent = value.to(device, copy=True)
    with doing.waiting("what the main rank computes"):
        dist.broadcast(sent, 0)
        return sent.to(value.device)


def sum_in_place(tensors: list[Tensor]) -> Callable[[], None]:
    """Start summing tensors over ranks, without gradient and in one buffer; calling what is returned waits for it.

    Then each is the sum, the same on all ranks.
    """
    if size() == 1 or not tensors:
        return lambda: None
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    in_group = local_group.here() is not None
    if in_group:
        flat = sum_over_ranks(flat)
    work = None if in_group else dist.all_reduce(flat, async_op=True)

    def finish() -> None:
        if work is not None:
            with doing.waiting("the gradients of all ranks"):
                work.wait()
        parts = flat.split([tensor.numel() for tensor in tensors])
        torch._foreach_copy_(tensors, [part.view(to.shape) for part, to in zip(parts, tensors, strict=True)])

    return finish


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` holds on any rank: all ranks get the same answer."""
    if size() == 1:
        return flag
    with doing.waiting("whether to go on"):  # a GPU's sum is waited for when its value is read
        return sum_over_ranks(torch.tensor([float(flag)], device=device)).item() > 0


def same_everywhere(number: int, device: torch.device) -> bool:
    """Return whether all ranks gave the same number."""
    if size() == 1:
        return True
    low_high = torch.tensor([number, -number], device=device)
    with doing.waiting("what all ranks begin with"):
        dist.all_reduce(low_high, op=dist.ReduceOp.MAX)
        return low_high.sum().item() == 0
