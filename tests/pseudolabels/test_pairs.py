"""Partners in the mutual information: the nearest neighbours that a run keeps, and takes from runs beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from infoae import launch, planning
from infoae.config import Augment, Config, Neighbours, NeighbourSearch, recipes
from infoae.data import ImageSet
from infoae.errors import InfoAEError, UsageError
from infoae.launch import Executor
from infoae.pseudolabels import knn, pairs, pseudo_labels, vote
from infoae.pseudolabels.neighbour_graph import nearest_neighbours
from infoae.pseudolabels.vote import Ints, Votes
from infoae.runs.run import NEIGHBOURS, Run
from infoae.trainer import Trainer
from tests.helpers.settings import TINY

SEARCHES: tuple[NeighbourSearch, ...] = ("auto", "exact", "approximate")


def with_neighbours(tiny_config: Config, **neighbours: Any) -> Config:
    settings = {"objective.pairs": "neighbours"} | {f"neighbours.{key}": value for key, value in neighbours.items()}
    return recipes.replaced(tiny_config, settings, "test")


def test_partners_come_from_the_neighbours_and_vary(make_trainer: Callable[..., Trainer], tiny_config: Config) -> None:
    found = make_trainer(with_neighbours(tiny_config, count=4, merging_count=9)).partners.pairs
    assert found is not None
    assert found.nearest.shape == (300, 9)
    indices = np.arange(50, 300)
    first, second = (found.draw(indices, 0, step) for step in (0, 1))
    assert first.dtype == np.int64
    which = found.nearest[indices] == first[:, None]
    assert which[:, :4].any(1).all()
    assert which.any(0).tolist() == [True] * 4 + [False] * 5  # each of the four, no further one
    assert (first != second).any()
    np.testing.assert_array_equal(found.draw(indices, 0, 0), first)
    assert (found.draw(indices, 1, 0) != first).any()


@pytest.mark.parametrize(("merging", "kept"), [(None, 3), (2, 3), (7, 7)])
def test_more_neighbours_merge_than_are_partners(
    make_trainer: Callable[..., Trainer],
    tiny_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    merging: int | None,
    kept: int,
) -> None:
    """Of the same neighbours, nearest first: the vote gets its number, partners and label propagation the other."""
    wanted = {
        "model.num_over_categories": 20,
        "model.num_heads": 3,
        "objective.weights.mutual_information": 1,
        "objective.weights.pseudo_label": 1,
        "objective.pairs": "neighbours",
        "stages.mutual_information_epochs": 1,
        "neighbours.count": 3,
        "neighbours.merging_count": merging,
        "pseudo_labels.anchor_hops": 1,
    }
    trainer = make_trainer(recipes.replaced(tiny_config, wanted, "test"))
    given: dict[str, NDArray[np.int32]] = {}

    def of_heads(*arguments: Any) -> list[Votes]:
        given["vote"] = arguments[2]
        return [Votes(np.tile(np.arange(300) % 10, (3, 1)), np.zeros(3))]

    def labels_of(*arguments: Any) -> tuple[Ints, dict[str, float]]:
        given["propagation"] = arguments[3]
        return np.arange(300) % 10, {"pseudo_labelled": 1.0}

    monkeypatch.setattr(vote, "of_heads", of_heads)
    monkeypatch.setattr(pseudo_labels, "labels_of", labels_of)
    trainer.fit([])
    expected = nearest_neighbours(trainer.images[:], Neighbours(count=kept), tiny_config.augment)
    assert trainer.partners.pairs is not None
    np.testing.assert_array_equal(trainer.partners.pairs.nearest, expected)
    np.testing.assert_array_equal(given["vote"], expected[:, : merging or 3])
    np.testing.assert_array_equal(given["propagation"], expected[:, :3])
    np.testing.assert_array_equal(trainer.partners.pairs.drawn_from, expected[:, :3])


def test_damaged_neighbours_are_one_clear_line(make_trainer: Callable[..., Trainer], tiny_config: Config) -> None:
    run_config = with_neighbours(tiny_config)
    path = make_trainer(run_config).run.path / NEIGHBOURS
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InfoAEError, match=r"neighbours\.npz is damaged .*remove it"):
        make_trainer(run_config)


def test_a_run_takes_the_neighbours_of_one_beside_it_with_the_same_images_and_settings(
    make_trainer: Callable[..., Trainer], tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_config = with_neighbours(tiny_config, count=4)
    first, damaged = make_trainer(run_config, "first"), make_trainer(run_config, "damaged")
    (damaged.run.path / NEIGHBOURS).write_bytes(b"nothing")
    asked: list[int] = []

    def found_anew(images: NDArray[np.uint8], rule: Neighbours, *_: object, **__: object) -> NDArray[np.int32]:
        asked.append(rule.num_kept())
        return np.zeros((len(images), rule.num_kept()), np.int32)

    monkeypatch.setattr(pairs, "nearest_neighbours", found_anew)
    second = make_trainer(run_config, "second")
    assert first.partners.pairs is not None
    assert second.partners.pairs is not None
    np.testing.assert_array_equal(second.partners.pairs.nearest, first.partners.pairs.nearest)
    assert asked == []
    for key, value in {"count": 3, "blur": 0.5, "distortion": 1}.items():
        make_trainer(recipes.replaced(run_config, {f"neighbours.{key}": value}, "test"), key)
    make_trainer(recipes.replaced(run_config, {"augment.shear": 0.3}, "test"), "augment")
    other = make_trainer(tiny_config, "other").run
    reverse = first.images[np.arange(300)[::-1]]
    pairs.load(other, reverse, run_config, torch.device("cpu"))
    assert asked == [3, 4, 4, 4, 4]


def test_neighbours_are_shared_by_how_they_were_searched_not_by_what_it_is_called(
    tmp_path: Path, mnist: tuple[ImageSet, ImageSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 300 images, which are few at first and then many."""
    images, said = mnist[0].images[:300], list[str]()

    def sought(name: str, search: NeighbourSearch) -> bool:
        """Return whether the run `name` searched, rather than take what another has."""
        before = len(said)
        run = Run.create(tmp_path, name, "test", Config())
        pairs.find(run, images, Neighbours(search=search), Augment(), say=said.append)
        pairs.find(run, images, Neighbours(search=search), Augment(), say=said.append)  # there already
        return len(said) == before + 1

    assert [sought(f"few-{search}", search) for search in SEARCHES] == [True, False, False]
    monkeypatch.setattr(knn, "FEW", 100)
    assert [sought(f"fewer-{search}", search) for search in SEARCHES] == [False, False, True]
    monkeypatch.setattr(knn, "MANY", 200)
    assert [sought(f"many-{search}", search) for search in SEARCHES] == [False, False, False]
    assert said == [
        "nearest neighbours of 300 images by comparing all with all (up to 100,000)",
        "nearest neighbours of 300 images by faiss (neighbours.search approximate)",
    ]
    kept = [np.load(tmp_path / f"many-{search}" / NEIGHBOURS)["source"] for search in SEARCHES]
    assert kept[0] == kept[2] != kept[1]


def test_a_training_says_how_neighbours_are_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = ["objective.pairs=neighbours", "objective.weights.mutual_information=1"]
    plan = planning.planned("smoke", [*TINY, *wanted], tmp_path, "run")
    with planning.started(plan) as run:
        planning.find_neighbours(run, plan)
    assert f"nearest neighbours of {len(plan.train)} images by comparing all with all (up to 100,000)\n" in (
        capsys.readouterr().err
    )


def test_each_image_counts_once_in_the_progress(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> None:
    counts: list[int] = []
    run = Run.create(tmp_path, "run", "test", Config())
    for _ in range(2):
        pairs.find(run, mnist[0].images, Neighbours(), Augment(), counts.append)
        assert sum(counts) == len(mnist[0])  # the second time they are there


def test_ctrl_c_while_neighbours_are_sought_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    wanted = ["objective.pairs=neighbours", "objective.weights.mutual_information=1"]
    plan = planning.planned("smoke", [*TINY, *wanted], tmp_path, "run")
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "find", interrupted)
        with pytest.raises(KeyboardInterrupt):
            launch.run(plan, Executor())
    assert "go on with: infoae train --resume run" in capsys.readouterr().err
    assert launch.run(planning.resumed("run", tmp_path, None), Executor()).finished


def test_more_neighbours_than_images_are_one_clear_line(
    make_trainer: Callable[..., Trainer], tiny_config: Config
) -> None:
    with pytest.raises(UsageError, match=r"300 neighbours an image .* need more than 300 training images"):
        make_trainer(with_neighbours(tiny_config, count=300))
