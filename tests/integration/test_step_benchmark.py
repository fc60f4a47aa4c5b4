"""benchmarks/step.py: a step beside the machine, beside busy processes, and phase by phase."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import (
    busy,
    phases,
    step,
    ways,
)
from infoae.distributed import collectives, local_group
from infoae.runs.run import Run
from tests.helpers.settings import WITH_HEADS

SHARED = (*WITH_HEADS, "train.batch_size=75")
"""Enough images a step for two processes."""


def test_step_takes_the_first_and_the_last_stage_and_shares_are_of_the_peak_beside(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = list(ways.cases_of("smoke", SHARED, 2))
    assert [case.stage.name for case in cases] == ["mutual_information", "adversarial"]
    turns = iter([(0.5, 8e9), (0.25, 16e9), (0.4, 16e9)] * 2 + [(0.9, 4e9), (0.3, 8e9), (0.6, 8e9)] * 2)
    monkeypatch.setattr(step, "turn", lambda *_: next(turns))
    monkeypatch.setattr(step, "operations", lambda _: 10**9)
    monkeypatch.setattr(local_group, "run", lambda _, work, __: work())
    found = step.speed(cases, 1, 2)
    assert [entry["batch"] for entry in found] == [75, 75]
    one, processes, threads = found[0]["ways"].values()
    assert [(way["processes"], way["threads"]) for way in (one, processes, threads)] == [(1, 1), (2, 1), (1, 2)]
    assert one["ratios"] == [1, 1]
    assert processes["ratios"] == pytest.approx([2, 3])
    assert threads["shares_of_peak"] == pytest.approx([1 / 0.4 / 16, 1 / 0.6 / 8])
    assert one["images_per_second"] == pytest.approx(75 / 0.7)


def test_step_counts_operations_as_products_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one matrix product and its two gradients."""
    case = next(ways.cases_of("smoke", SHARED, 2))
    layer = torch.nn.Linear(30, 20, bias=False)
    x = torch.ones(64, 30, requires_grad=True)
    monkeypatch.setattr(ways.Case, "take", lambda *_: layer(x).sum().backward())
    assert step.operations(case) == 3 * 2 * 64 * 30 * 20


def test_a_group_takes_equally_many_steps_in_a_box_of_time() -> None:
    case = next(ways.cases_of("smoke", SHARED, 2))
    _, processes, _ = case.ways
    before = [parameter.clone() for parameter in case.step.model.parameters()]

    def taken(most: int, box: float) -> tuple[int, float]:
        """By this process, and by both."""
        mine = len(case.seconds(most, box))
        return mine, collectives.sum_over_ranks(torch.tensor([float(mine)])).item()

    assert processes.run(lambda: taken(3, math.inf)) == (3, 6)
    assert processes.run(lambda: taken(busy.STEPS, 0)) == (1, 2)
    mine, both = processes.run(lambda: taken(busy.STEPS, 0.1))
    assert both == 2 * mine
    assert any(not torch.equal(*pair) for pair in zip(before, case.step.model.parameters(), strict=True))


@pytest.mark.parametrize("possible", [1, 2])
def test_busy_processes_are_ended_whatever_happens(possible: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second cannot be begun, or something fails beside both."""
    begun: list[subprocess.Popen[bytes]] = []

    class Begun(subprocess.Popen[bytes]):
        def __init__(self, command: list[str]) -> None:
            if len(begun) == possible:
                raise OSError(command)
            super().__init__(command)
            begun.append(self)

    monkeypatch.setattr(subprocess, "Popen", Begun)
    monkeypatch.setattr(busy, "STARTED", 0)

    def beside_both() -> None:
        with busy.competitors(2):
            assert [process.poll() for process in begun] == [None, None]
            raise KeyError

    with pytest.raises((OSError, KeyError)):
        beside_both()
    assert [process.returncode for process in begun] == [-9] * possible


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("convolutions' gradients", ["aten::copy_", "aten::clone", "_ConvolveBackward"]),
        ("convolutions' gradients", ["aten.constant_pad_nd.default", "_ConvolveBackward"]),
        ("convolutions' gradients", ["aten.convolution_backward.default"]),
        ("convolutions forward", ["aten::mkldnn_convolution", "aten::conv2d", "_Convolve", "step"]),
        ("casts", ["aten::copy_", "aten::_to_copy", "aten::to", "aten::conv2d", "step"]),
        ("casts", ["aten._to_copy.default", "ToCopyBackward0"]),
        ("matrix products", ["aten::copy_", "aten::baddbmm"]),
        ("matrix products", ["aten.mm.default", "AddmmBackward0"]),
        ("first-layer phases", ["aten::pixel_shuffle", "PixelUnshuffleBackward0"]),
        ("batch normalisation", ["aten.native_batch_norm_backward.default"]),
        ("activations", ["aten::threshold_backward", "ReluBackward0"]),
        ("optimizers and average", ["aten::add_", "aten::_foreach_add_", "Optimizer.step#Adam.step"]),
        ("copies", ["aten::copy_", "aten::clone", "aten::contiguous"]),
        ("other", ["aten::log", "step"]),
    ],
)
def test_an_operation_is_of_the_kind_of_what_it_is_called_by(kind: str, names: list[str]) -> None:
    assert phases.kind_of(names) == kind


def test_phases_counts_bytes_given_and_returned_and_no_views() -> None:
    x, w = torch.ones(6, 5), torch.ones(5, 4, requires_grad=True)
    with phases._Traffic() as traffic:
        y = x[:2].expand(2, 5) @ w
        y.sum().backward()
    forward, backward = 2 * 5 + 5 * 4 + 2 * 4, 2 * 5 + 1 + 5 * 4  # a sum's gradient is one number, expanded
    assert traffic.bytes["matrix products"] == 4 * (forward + backward)


@pytest.mark.slow
def test_step_prints_and_writes_all(
    finished_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module, name, value in (
        (step, "SIDE", 32),
        (step, "available_cpus", lambda: 2),
        (phases, "COPIED", 2**16),
        (busy, "BOX", 0.02),
        (busy, "BUSY", ["sleep", "600"]),  # busy ones would slow other tests
    ):
        monkeypatch.setattr(module, name, value)
    options = [part for setting in SHARED for part in ("--set", setting)]
    options += ["--steps", "2", "--rounds", "1", "--profile", "--busy", "--run", str(finished_run.path)]
    monkeypatch.setattr(sys, "argv", ["step.py", "smoke", *options, "--json", str(tmp_path / "step.json")])
    step.main()
    found = json.loads((tmp_path / "step.json").read_text())
    for entry in found["profile"]:
        assert sum(kind["seconds"] for kind in entry["kinds"].values()) > 0
        names = list(entry["phases"])
        assert names[:2] == ["draw", "forward"]
        assert names[3:] == ["backward, discriminator, self critic", "optimizers", "average", "other"]
        assert entry["kinds"]["convolutions' gradients"]["bytes"] > 0
        assert len(entry["operations"]) == phases.LARGEST
    rows = {(row["what"], row["way"]): row for row in found["busy"]}
    assert [way for what, way in rows if what == "smoke, adversarial"] == ["one thread", "processes", "threads"]
    assert [what for what, _ in rows][-3:] == ["smoke, evaluation", "neighbour search", "`Classifier`"]
    assert all(len(shares) == 1 and shares[0] > 0 for row in rows.values() for shares in row["shares"])
    assert "GFLOP/s" in capsys.readouterr().out
