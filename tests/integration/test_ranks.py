"""Several ranks follow one: real processes over gloo, without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import astuple
from itertools import chain
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given
from hypothesis import strategies as st

from infoae import config, data
from infoae.config import Config, recipes
from infoae.distributed import collectives
from infoae.distributed.collectives import Share
from infoae.pseudolabels import pairs
from infoae.runs.run import Run
from tests.helpers import ranks as script
from tests.helpers.inputs import write_shards
from tests.helpers.paths import ROOT
from tests.helpers.settings import TINY

Start = Callable[..., list[Any]]
SETTINGS = (
    *TINY,
    "data.limit=299",  # six batches of 50, the last of 49: shares are uneven
    "objective.weights.information=1",
    "optim.ema_decay=0.9",
    "model.channels=1",
    "model.image_size=28",
)


OVER = (
    "model.num_over_categories=20",
    "model.num_heads=3",
    "objective.weights.consensus=1",
    "information.pairs=neighbours",
    "information.epochs=1",
    "objective.weights.latent_matching=1",
    "augment.elastic=1",
)
MICRO = ("train.micro_batch_size=25",)  # two of a batch
SETTLED = (
    *OVER,
    "information.certain_links=1",
    "information.settle_every=1",
    "information.consensus_epochs=1",
    "train.epochs=3",
)


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that runs a scenario of ranks.py on so many processes and returns what each came to."""

    def run(scenario: str, num_ranks: int, run_config: Config) -> list[Any]:
        folder = tmp_path / f"{scenario}-{num_ranks}"
        folder.mkdir()
        Run(folder).write_config(run_config)
        processes = []
        for rank in range(num_ranks):
            arguments = [str(folder / "store"), str(rank), str(num_ranks), str(folder / "config.yaml")]
            command = [sys.executable, str(Path(script.__file__)), scenario, *arguments, str(folder / f"{rank}.pt")]
            processes.append(subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(ROOT)}))
        try:
            assert [process.wait(timeout=120) for process in processes] == [0] * num_ranks
        finally:
            for process in processes:
                process.kill()  # those that wait for one that failed
        return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(num_ranks)]

    return run


def configured(*overrides: str) -> Config:
    return recipes.load("smoke", [*SETTINGS, *overrides])


@given(st.integers(2, 300), st.integers(1, 9), st.floats(0.01, 1))
def test_parts_of_all_ranks_are_those_of_one(total: int, ranks: int, fraction: float) -> None:
    assume(round(fraction * total) >= 2 * ranks or (fraction == 1.0 and total >= ranks))
    whole = Share(0, total, total).part(fraction)
    assert len(whole.rows) == round(fraction * total)
    assert whole.weight == 1.0
    shares = [Share(total * rank // ranks, total * (rank + 1) // ranks, total) for rank in range(ranks)]
    parts = [share.part(fraction) for share in shares]
    rows = [share.start + part.rows for share, part in zip(shares, parts, strict=True)]
    assert torch.equal(torch.cat(rows), whole.rows)
    assert all(len(each) for each in rows)
    counts = [share.weight * part.weight * len(whole.rows) for share, part in zip(shares, parts, strict=True)]
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


@pytest.mark.parametrize(
    ("settings", "of_loss", "of_move"),
    [
        ((), 1e-3, 0.03),
        (("train.game_part=0.3",), 1e-3, 0.03),
        ((*MICRO, "train.game_part=0.5"), 1e-3, 0.03),
        (OVER, 3e-2, 0.25),
        ((*OVER, "information.consensus_epochs=1", "train.epochs=3"), 3e-2, 0.25),
        ((*OVER, *MICRO, "model.critic_norm=spectral"), 3e-2, 0.25),
    ],
    ids=["plain", "a part plays", "micro-batches", "over-categories", "consensus epochs", "all in micro-batches"],
)
def test_two_ranks_follow_one(start: Start, settings: tuple[str, ...], of_loss: float, of_move: float) -> None:
    """Over 20 steps of fp32 the losses agree to 1e-3 of their size, each weight tensor to 3 % of how far it moved.

    Adam divides a gradient by its size, so where a gradient is all but zero its rounding moves the weight. Steps of
    information alone from untrained weights have such gradients: there a rounding grows some hundredfold in ten steps,
    and one process whose convolutions sum in another order is 1 % away after twenty. So the first six are strict.
    """
    run_config = configured(*settings)
    one, two = script.take_steps(run_config, Path()), start("steps", 2, run_config)

    first_gradients = one["gradients"][0]
    assert (two[0]["gradients"][0] - first_gradients).norm() < 1e-4 * first_gradients.norm()
    for index, (ours, theirs) in enumerate(zip(two[0]["losses"], one["losses"], strict=True)):
        tolerance = 1e-3 if index < 6 else of_loss
        accuracy = [step.pop("discriminator_accuracy", 0.0) for step in (ours, theirs)]
        judged = 100 * run_config.train.game_part
        assert abs(accuracy[0] - accuracy[1]) <= 2 / judged  # an image that the critic is unsure of may change sides
        assert ours == pytest.approx(theirs, rel=tolerance, abs=tolerance)
    for name in ("model", "average"):
        for key, expected in one[name].items():
            if key.endswith("num_batches_tracked"):  # counts forward passes, and decides nothing
                continue
            moved = (expected - one["initial"][key]).double().norm().item()
            difference = (two[0][name][key] - expected).double().norm().item()
            assert difference <= of_move * moved, (name, key)

    for what in ("gradients", "buffers", "model"):  # the ranks themselves are equal to the last bit
        first, second = two[0][what], two[1][what]
        if what == "model":
            first, second = list(first.values()), list(second.values())
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), what

    if set(MICRO) <= set(settings):  # each side's gradients, with one the losses and running statistics
        assert max(two[0]["collectives"]) == 2

    images = [np.concatenate(rank["seen"]) for rank in two]
    assert sorted(np.concatenate(images).tolist()) == list(range(299))  # each image once an epoch, on one rank
    assert abs(len(images[0]) - len(images[1])) <= 6
    for step_one, *steps_two in zip(one["noise"], *(rank["noise"] for rank in two), strict=True):
        for whole, first, second in zip(step_one, *steps_two, strict=True):
            torch.testing.assert_close(torch.cat([first, second]), whole)
            assert not torch.equal(first[: len(second)], second[: len(first)])  # and no rank draws another's


def test_a_step_that_fails_on_one_rank_fails_on_all_before_any_update(start: Start) -> None:
    first, second = start("fail", 2, configured())
    assert first == second
    assert first.startswith("step 1: classification_generated = nan")


def test_ranks_of_different_precision_are_refused(start: Start) -> None:
    errors = start("precision", 2, configured())
    assert errors[0] == errors[1]
    assert "give --precision fp32" in errors[0]


def test_uneven_shares_count_by_their_samples(start: Start) -> None:
    """Of batches of three, one rank has a single image and the other two."""
    run_config = configured("train.batch_size=3", "data.limit=3")
    one, two = script.take_steps(run_config, Path(), 1), start("step", 2, run_config)
    assert [len(rank["seen"][0]) for rank in two] == [1, 2]
    assert two[0]["losses"][0] == pytest.approx(one["losses"][0], rel=1e-4, abs=1e-5)
    expected = one["gradients"][0]
    assert (two[0]["gradients"][0] - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize(
    ("settings", "tolerance"),
    [((), 0.01), (OVER, 0.1), (SETTLED, 0.3)],
    ids=["plain", "over-categories", "settled anew"],
)
def test_ranks_stop_together_and_resume_from_the_files_as_one_run(
    start: Start, tmp_path: Path, settings: tuple[str, ...], tolerance: float
) -> None:
    """Steps of information alone from untrained weights have gradients near rounding: the more, the more tolerance."""
    train, test = data.load(config.Data(limit=299), "train"), data.load(config.Data(), "test")
    write_shards(tmp_path / "shards", train.images, 20, test)
    from_shards = ("data.name=shards", f"data.root={tmp_path / 'shards'}", "data.limit=null")
    run_config = configured("model.critic_norm=spectral", *from_shards, *settings)
    (tmp_path / "alone").mkdir()
    one, ranks = script.complete_run(run_config, tmp_path / "alone"), start("run", 2, run_config)
    assert [result["finished"] for result in ranks] == [[False, True]] * 2
    steps = 6 * run_config.train.epochs
    assert [result["steps"] for result in ranks] == [[4, 4, steps]] * 2
    for key, expected in one["model"].items():
        difference = (ranks[0]["model"][key] - expected).double().norm()
        assert difference <= tolerance * expected.double().norm(), key
        assert torch.equal(ranks[0]["model"][key], ranks[1]["model"][key])
    lines = list(Run(tmp_path / "run-2").metrics())  # nothing is written twice
    assert [line["step"] for line in lines if "images_per_second" in line] == list(range(1, steps + 1))
    assert [line["step"] for line in lines if "evaluation/mutual_information" in line] == list(range(6, steps + 1, 6))
    if settings:
        folders = tmp_path / "alone", tmp_path / "run-2"
        neighbours = [np.load(folder / pairs.FILE)["neighbours"] for folder in folders]
        assert (neighbours[0] == neighbours[1]).all()
        assert not torch.equal(one["model"]["category_of"], torch.arange(20) % 10)  # merged, and equal above


def test_without_a_process_group_everything_is_the_identity() -> None:
    value = torch.rand(3, requires_grad=True)
    assert collectives.size() == 1
    assert collectives.is_main()
    assert collectives.mean(value, 5) is value
    assert collectives.share(7) == collectives.Share(0, 7, 7)
    assert collectives.share(7).weight == 1
    assert not collectives.agreed(False, torch.device("cpu"))
    assert collectives.agreed(True, torch.device("cpu"))


@pytest.mark.parametrize(("rule", "factor"), [("none", 1.0), ("sqrt", 2.0), ("linear", 4.0)])
def test_the_learning_rate_follows_the_batch_by_the_rule_asked_for(rule: str, factor: float) -> None:
    run_config = configured(f"optim.learning_rate_scaling={rule}", "train.batch_size=400", "optim.learning_rate=1e-3")
    assert run_config.learning_rates() == pytest.approx((1e-3 * factor, 2e-4 * factor))


def test_synchronised_batch_normalisation_is_the_usual_one(tmp_path: Path) -> None:
    """One rank's SyncBatchNorm2d against BatchNorm2d: values, gradients and running statistics."""
    from infoae.distributed.batchnorm import synchronise

    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    synchronised = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    synchronise(synchronised)
    x = (torch.randn(8, 3, 5, 5) * 0.1 + 10).requires_grad_()  # a mean far from zero costs digits
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        results = []
        for network in (plain, synchronised):
            output = network(x)
            F.mse_loss(output, torch.linspace(0, 1, x.numel()).view_as(x)).backward()
            assert x.grad is not None
            results.append([output, x.grad.clone(), *(p.grad for p in network.parameters()), *network.buffers()])
            x.grad = None
    finally:
        torch.distributed.destroy_process_group()
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert synchronised.state_dict().keys() == plain.state_dict().keys()
