"""How a batch is shared out among ranks and in micro-batches, and that one process alone needs none of it."""

from __future__ import annotations

from dataclasses import astuple
from itertools import chain
from unittest import mock

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from infoae.distributed import collectives
from infoae.distributed.collectives import Share


@given(st.integers(2, 300), st.integers(1, 9), st.floats(0.01, 1))
def test_subsets_of_all_ranks_are_those_of_one(total: int, ranks: int, fraction: float) -> None:
    assume(round(fraction * total) >= 2 * ranks or (fraction == 1.0 and total >= ranks))
    whole = Share(0, total, total).subset(fraction)
    assert len(whole.rows) == round(fraction * total)
    assert whole.weight == 1.0
    shares = [Share(total * rank // ranks, total * (rank + 1) // ranks, total) for rank in range(ranks)]
    subsets = [share.subset(fraction) for share in shares]
    rows = [share.start + subset.rows for share, subset in zip(shares, subsets, strict=True)]
    assert torch.equal(torch.cat(rows), whole.rows)
    assert all(len(each) for each in rows)
    counts = [share.weight * each.weight * len(whole.rows) for share, each in zip(shares, subsets, strict=True)]
    assert counts == pytest.approx([len(each) for each in rows])


@given(st.integers(2, 3000), st.integers(1, 9), st.integers(2, 700))
def test_micro_batches_share_out_a_batch_in_equal_parts(total: int, ranks: int, size: int) -> None:
    def of_rank(rank: int, ranks: int) -> list[Share]:
        with mock.patch.object(collectives, "_rank_and_ranks", return_value=(rank, ranks)):
            of_share = collectives.micro_batches(total, size)
            assert not of_share or (of_share[0].start, of_share[-1].stop) == astuple(collectives.share(total))[:2]
            return of_share

    parts = [of_rank(rank, ranks) for rank in range(ranks)]
    together = list(chain(*parts))
    whole = of_rank(0, 1)
    assert bool(together) == (len(whole) >= ranks)
    if together:
        assert [part.start for part in together] == [0, *(part.stop for part in together[:-1])]
        sizes = [part.stop - part.start for part in together]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= min(total, 3 * size // 4)
    if together and len(whole) % ranks == 0:
        assert together == whole


def test_without_a_process_group_everything_is_the_identity() -> None:
    value = torch.rand(3, requires_grad=True)
    assert collectives.size() == 1
    assert collectives.is_main()
    assert collectives.mean(value, 5) is value
    assert collectives.share(7) == collectives.Share(0, 7, 7)
    assert collectives.share(7).weight == 1
    assert not collectives.any_rank(False, torch.device("cpu"))
    assert collectives.any_rank(True, torch.device("cpu"))
