"""benchmarks/peers.py compares what it says, and its table can be made."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import peers, train
from benchmarks.pages.peers import table_of
from benchmarks.pages.results import Results
from infoae import convolutional, data, losses, patches, polyphase
from infoae.config import Config, recipes
from infoae.distributed import local_group
from infoae.planning import with_image_shape
from tests.helpers.settings import TINY

TINY_DATA = [setting for setting in TINY if setting.startswith("data.")] + ["train.batch_size=64", "train.processes=2"]
TINY_PEERS = {
    "mnist": [*peers.SETTINGS["mnist"], *TINY_DATA, "model.width=4", "model.hidden_dim=16"],
    "infogan": [*TINY_DATA, "model.width=4", "model.hidden_dim=16", "model.feature_dim=16"],
    "aae": [*TINY_DATA, "model.hidden_dim=16"],
}


def loaded(recipe: str) -> tuple[Config, Tensor]:
    """Return a tiny recipe and its images."""
    run = recipes.load(recipe, TINY_PEERS[recipe])
    source = data.load(run.data, "train")
    return with_image_shape(run, source), torch.tensor(source.images)


@pytest.mark.parametrize("recipe", ["mnist", "infogan"])
def test_the_loops_of_others_have_torchs_own_layers(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a layer of infoae's own")

    for module, name in ((patches._Convolve, "forward"), (convolutional._AsItLies, "forward"), (polyphase, "_phases")):
        monkeypatch.setattr(module, name, refused)
    run, images = loaded(recipe)
    for loop in peers.peers_of(recipe, run, images, torch.device("cpu")).values():
        assert next(loop) == 64
    with pytest.raises(AssertionError, match="of infoae's own"):
        train.infoae_turns(run, images, torch.device("cpu"))(1)


def test_the_plain_loop_computes_in_its_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    original = losses.reconstruction

    def reconstruction(logits: Tensor, *others: Any) -> Tensor:
        seen.append(logits.dtype)
        return original(logits, *others)

    monkeypatch.setattr(losses, "reconstruction", reconstruction)
    run, images = loaded("mnist")
    for precision in (torch.float32, torch.bfloat16):
        next(train.plain_steps(run, images, torch.device("cpu"), precision))
    assert seen == [torch.float32, torch.bfloat16]


@pytest.mark.slow
def test_peers_measures_all_and_makes_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: list[int] = []
    original = local_group.run

    def run(size: int, *arguments: Any) -> Any:
        sizes.append(size)
        return original(size, *arguments)

    monkeypatch.setattr(local_group, "run", run)
    monkeypatch.setattr(peers, "SETTINGS", TINY_PEERS)
    monkeypatch.setattr(peers, "pythae_epoch", lambda *_: {"images_per_second": 8.0, "parameters": 7})
    options = [
        "--steps",
        "1",
        "--rounds",
        "2",
        "--seeds",
        "0",
        "--pythae",
        "python",
        "--json",
        str(tmp_path / "peers.json"),
    ]
    monkeypatch.setattr(sys, "argv", ["peers.py", *options])
    peers.main()
    assert sizes == [2] * 3 * 3  # a warm-up and two rounds of each recipe
    found = json.loads((tmp_path / "peers.json").read_text())
    assert [row["recipe"] for row in found["training"]] == ["mnist", "mnist", "infogan", "aae"]
    assert [row["steps"] for row in found["training"]] == [1, 1, 1, 300 // 64]
    for row in found["training"]:
        rates = row["images_per_second"]
        assert row["ratios"] == [ours / theirs for ours, theirs in zip(rates["infoae"], rates["peer"], strict=True)]
    assert found["training"][3]["images_per_second"]["peer"] == [8, 8]
    assert found["training"][3]["parameters"]["peer"] == 7 < found["training"][3]["parameters"]["infoae"]
    assert all(0.1 < row["accuracy"] < 1 for row in found["clusterings"])
    assert "infoae, recipe mnist, as committed" in capsys.readouterr().out

    kept = Path(peers.COMMITTED).parents[1]
    (tmp_path / "mnist").mkdir()
    shutil.copy(peers.COMMITTED, tmp_path / "mnist")
    sources = json.loads((kept / "sources.json").read_text())
    sources["peers"] = {"command": "peers", "hardware": "this", "commit": "none", "files": ["peers.json"]}
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    lines = table_of(Results(tmp_path))
    assert sum(line.startswith("| `") for line in lines) == 4
    assert lines[-1].startswith("| infoae, recipe `mnist` | 98.60 %")
