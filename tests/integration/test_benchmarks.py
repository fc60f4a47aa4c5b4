"""The benchmark programs run and their figures are what they say."""

from __future__ import annotations

import json
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import (
    classify,
    few_labels,
    latency,
    neighbour_search,
    pseudo_labels,
    quality,
    same_training,
    scaling,
    score,
    train,
    unbalanced,
)
from infoae import data
from infoae.config import recipes
from infoae.data import ImageSet, load
from infoae.deploy.bundle import Bundle
from infoae.runs.run import PSEUDO_LABELS, Run
from tests.helpers.bundles import make_bundle
from tests.helpers.settings import SMALL, TINY


@pytest.mark.parametrize("recipe", ["mnist", "mnist-best", "mnist-paper"])
def test_every_recipe_has_a_plain_counterpart(recipe: str) -> None:
    assert not recipes.load(recipe, train.ALIKE).objective.weights.pseudo_label


def test_few_labels_draws_from_each_class_and_names_by_majority() -> None:
    labels = np.repeat(np.arange(3), 50)
    drawn = few_labels.draw(labels, 5, np.random.default_rng(0))
    assert np.bincount(labels[drawn]).tolist() == [5, 5, 5]
    assert len(set(drawn.tolist())) == 15
    # Category 0 holds class 1 and the reverse; category 2 has no example, so its images count as wrong.
    categories = np.array([0, 0, 1])
    accuracy = few_labels.naming_accuracy(categories, np.array([1, 1, 0]), np.array([0, 1, 2]), np.array([1, 0, 2]), 3)
    assert accuracy == pytest.approx(2 / 3)


def test_few_labels_measures_and_draws(
    lively_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(few_labels, "LABELS_PER_CLASS", (1, 20))
    monkeypatch.setattr(sys, "argv", ["few_labels.py", str(lively_run.path), "--draws", "3", "--out", str(tmp_path)])
    few_labels.main()
    assert "linear probe" in capsys.readouterr().out
    result = json.loads((tmp_path / "few_labels.json").read_text())
    for method in few_labels.METHODS:
        assert len(result[method]["mean"]) == len(result[method]["deviation"]) == 2
    assert result["probe"]["mean"][1] > result["probe"]["mean"][0] > 0.1
    assert result["naming"]["mean"][1] <= result["matched_accuracy"] + 0.2
    assert (tmp_path / "few_labels.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_classify_measures_every_way(lively_run: Run, tmp_path: Path) -> None:
    result = classify.measure(
        lively_run, rounds=1, repeats=1, million=False, device="cpu", batch_size=256, folder=tmp_path
    )
    assert all(value > 0 for value in result["images_per_second"].values())
    assert 0 < result["seconds_to_first_label"] < 30


def test_latency_is_of_threads_that_ask_at_once() -> None:
    together, asked = threading.Barrier(4, timeout=60), []

    def ask() -> None:
        together.wait()  # is passed only by four threads at once
        asked.append(threading.get_ident())

    seconds, whole = latency.closed_loop(ask, 4, 5)
    assert seconds.sum(axis=1).max() <= whole
    assert seconds.shape == (4, 5)
    assert (seconds > 0).all()
    assert sorted(asked.count(thread) for thread in set(asked)) == [6, 6, 6, 6]


def test_latency_tells_percentiles_and_their_ratios(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[tuple[int, int]] = []

    def loop(ask: Callable[[], object], num_threads: int, requests: int) -> tuple[NDArray[np.float64], float]:
        ask()
        loops.append((num_threads, requests))
        return len(loops) ** 2 * np.arange(101).reshape(1, -1) / 1000, len(loops)  # p50 0.05, p99 0.099 of that square

    monkeypatch.setattr(latency, "closed_loop", loop)
    bundle = Bundle.load(make_bundle(tmp_path / "bundle"))
    found = latency.measure(bundle, np.zeros((40, 1, 28, 28), np.uint8), 2, "cpu")
    assert [(row["batch"], row["threads"]) for row in found["rows"]] == [
        (1, 1), (1, 8), (1, 32), (32, 1), (32, 8), (32, 32)
    ]  # fmt: skip
    assert loops[:12] == [(1, 40_000)] * 6 + [(8, 5_000)] * 6
    first = found["rows"][0]
    # Ways take turns: the classifier is the first and fourth loop, the session the second and fifth.
    rate = 101 * (1 + 1 / 4) / 2
    assert first["classifier"] == {"p50_ms": 50 * 17 / 2, "p99_ms": 99 * 17 / 2, "requests_per_second": rate}
    assert first["session"]["p50_ms"] == pytest.approx(50 * (4 + 25) / 2)
    ratio = round((1 / 4 + 16 / 25) / 2, 3)
    assert first["classifier/session"] == {"p50_ms": ratio, "p99_ms": ratio, "requests_per_second": (2 + 5 / 4) / 2}
    assert len(latency.lines(found)) == 6 * 5


@pytest.mark.parametrize(
    ("settings", "statistics", "others"),
    [
        # Batch normalisations, of which both sides pass back through the discriminator's fakes; the joint distribution.
        ([], 0, 16 + 20 + 1),
        # Running means and variances of encoder, decoder, discriminator and self-critic.
        (["train.micro_batch_size=50"], 2 * (24 + 12 + 24 + 24), 0),
    ],
    ids=["whole batch", "micro-batches"],
)
def test_scaling_counts_what_two_workers_send(settings: list[str], statistics: int, others: int) -> None:
    tiny = [setting for setting in TINY if not setting.startswith("train.batch_size")]
    two = scaling.measure(scaling.Situation("two", 2, 100), "smoke", [*tiny, *settings], steps=2)
    gradients = sorted(two["sizes"])[-2:]  # with those of one side what is measured: nine losses, and one accuracy
    assert sum(gradients) == 4 * (two["parameters"] + 10 + statistics)
    assert len(two["sizes"]) == 2 + others + 1  # whether to stop
    assert two["images_per_second"] == pytest.approx(100 / two["seconds"], rel=0.01)
    assert 0 < two["communication"] < two["seconds"]
    assert two["transfer"] > 0


def test_scaling_models_ring_and_tree() -> None:
    links = ((1e9, 1e-6), (1e8, 1e-5))
    within, beyond = (scaling.modelled(gpus, [1_000_000], 1e-2, links) for gpus in (8, 64))
    assert within["seconds"] == pytest.approx(2 * 7 / 8 * 1e-3 + 6e-6)
    assert beyond["seconds"] == pytest.approx(2 * 63 / 64 * 1e-2 + 12e-5)
    assert beyond["efficiency"] == pytest.approx(1e-2 / (1e-2 + beyond["seconds"]))


@pytest.mark.long
def test_scaling_prints_and_writes_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scaling.json"
    settings = [part for setting in TINY if "epochs" not in setting for part in ("--set", setting)]
    arguments = ["scaling.py", "--config", "smoke", *settings, "--batch", "50", "--steps", "3", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--gpu-step", "2.5", "--out", str(out)])
    scaling.main()
    shown = capsys.readouterr().out
    assert "2.50 ms (as given)" in shown
    result = json.loads(out.read_text())
    assert result["one worker"]["sizes"] == []
    assert all(len(values) == 1 and values[0] > 1 for values in result["seconds_to_first_step"].values())
    for name in scaling.LINKS:
        efficiencies = [result["model"][name][str(gpus)]["efficiency"] for gpus in scaling.GPUS]
        assert 1 > efficiencies[0] > efficiencies[1] > efficiencies[2] > 0


def test_a_score_that_ranks_as_accuracy_does_has_correlation_one_and_no_regret() -> None:
    runs = [{"run": f"a-{i}", "score": i / 10, "accuracy": accuracy} for i, accuracy in enumerate([0.2, 0.5, 0.6, 0.9])]
    assert score.summary(runs) == {"runs": 4, "spearman": pytest.approx(1), "chosen": "a-3", "regret": 0}
    runs[1]["accuracy"] = 0.95  # now second in score is first in accuracy: ranks differ by 2, 1 and 1
    found = score.summary(runs)
    assert found["spearman"] == pytest.approx(1 - 6 * (4 + 1 + 1) / (4 * 15))
    assert found["regret"] == pytest.approx(0.05)


def test_score_evaluates_runs_and_draws(
    lively_run: Run,
    finished_run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    paths = [str(tmp_path / name) for name in ("score.json", "score.png")]
    runs = [str(run.path) for run in (lively_run, finished_run)]
    monkeypatch.setattr(sys, "argv", ["score.py", *runs, "--out", paths[0], "--figure", paths[1]])
    score.main()
    result = json.loads(Path(paths[0]).read_text())
    assert (result["runs"], result["chosen"]) == (2, "lively")
    assert abs(result["spearman"]) == pytest.approx(1)
    assert f"accuracy {result['of_each'][0]['accuracy']:.2%}" in capsys.readouterr().out
    assert Path(paths[1]).read_bytes().startswith(b"\x89PNG")


def test_unbalanced_thins_digits_and_trains_with_each_prior(
    mnist: tuple[ImageSet, ImageSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.repeat(np.arange(10), 50)
    thin = unbalanced.thinned(ImageSet(np.zeros((500, 1, 28, 28), np.uint8), labels), 0.1)
    assert thin.labels is not None
    assert np.bincount(thin.labels).tolist() == [50, 45, 40, 35, 30, 25, 20, 15, 10, 5]

    monkeypatch.setattr(
        data, "load", lambda config, split: mnist[split == "test"] if config.name == "mnist" else load(config, split)
    )
    options = [part for setting in [*SMALL, "model.num_over_categories=20"] for part in ("--set", setting)]
    arguments = [
        "unbalanced.py",
        "--config",
        "smoke",
        *options,
        "--folder",
        str(tmp_path),
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    unbalanced.main()
    result = json.loads((tmp_path / "out").read_text())
    assert result["given"]["prior"] == pytest.approx(result["shares"], abs=1e-3)
    assert result["uniform"]["prior"] == [0.1] * 10
    assert sum(result["estimated"]["prior"]) == pytest.approx(1, abs=1e-3)
    assert result["images"] == sum(len(np.load(path)) for path in (tmp_path / "train").glob("*.npy"))


def test_the_power_of_seconds_is_that_of_their_number() -> None:
    rows = [
        {"vectors": number, "seconds": {"exact": 3 * number**2, "lists": number**1.5, "graph": 7 * number}}
        for number in (10, 20, 80)
    ]
    assert neighbour_search.powers(rows) == {"exact": 2, "lists": 1.5, "graph": 1}


def test_pseudo_labels_counts_what_is_given_and_right() -> None:
    """Two classes, numbered the other way round; one image without a category and one of three wrong."""
    found = pseudo_labels.counts(np.array([1, 1, 0, 0, -1]), np.array([0, 0, 1, 0, 1]), 2)
    assert (found["given"], found["right"]) == (0.8, 0.75)
    assert found["kinds"][0] == (0, 1, 1)


def test_pseudo_labels_reads_a_run(
    lively_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Categories that are the labels; links between images beside each other, of other digits as a rule."""
    folder = shutil.copytree(lively_run.path, tmp_path / lively_run.name)
    labels = np.asarray(data.load(lively_run.config().data, "train").labels)
    np.save(folder / PSEUDO_LABELS, labels[None])
    np.savez(folder / "neighbours.npz", neighbours=np.roll(np.arange(len(labels)), 1)[:, None])
    monkeypatch.setattr(sys, "argv", ["pseudo_labels.py", str(folder), "--hops", "1"])
    pseudo_labels.main()
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{lively_run.name}, pseudo-labels 1: 100.0% given, 100.00% of these right")
    assert [line.split(":")[0].strip() for line in others] == [
        f"{lively_run.name}, classifier",
        "1 hops, anchors",
        "1 hops, propagated",
    ]


def test_quality_finds_what_it_changed_and_planted(
    mnist: tuple[ImageSet, ImageSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (10, 1, 28, 28), np.uint8)
    np.save(tmp_path / "noise.npy", noise)
    monkeypatch.setattr(quality, "CHANGED", 30)
    monkeypatch.setattr(quality, "PLANTED", 5)
    monkeypatch.setattr(data, "load", lambda _, split: mnist[split == "test"])
    options = ["--mnist", str(make_bundle(tmp_path / "bundle")), "--others", str(tmp_path / "noise.npy")]
    options += ["--count", "200", "--many", "200", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["quality.py", *options])
    quality.main()
    found = json.loads((tmp_path / "out.json").read_text())["MNIST"]
    assert all(found["near-duplicates"][name]["recall"] > 0.8 for name in quality.SAME)
    assert found["near-duplicates"]["none added"] < 3
    assert found["outliers"]["others"]["precision at 5"] == 1
    assert found["faults"]["cut off"]["damaged"] == found["faults"]["a fifth as bright"]["dark"] == 1
    assert found["faults"]["as they are"] == {"blurred": 0, "dark": 0, "damaged": 0}
    assert "seconds to group" in capsys.readouterr().out


def test_same_training_sees_every_bit(lively_run: Run, tmp_path: Path) -> None:
    copied = Run(shutil.copytree(lively_run.path, tmp_path / "copied"))
    assert list(same_training.differences(lively_run.path, copied.path)) == []
    weights = copied.checkpoint("newest") / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    np.save(copied.path / PSEUDO_LABELS, np.zeros((1, 5)))
    with (copied.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 999}\n')
    found = list(same_training.differences(lively_run.path, copied.path))
    assert len(found) == 3
    assert found[0] == f"{weights.relative_to(copied.checkpoints)} differs"
