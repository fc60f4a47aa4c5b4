"""Neighbours that are sought in learned features, as often as the schedule says, and kept for whoever goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infoae.config import Config, Neighbours, recipes
from infoae.data import ImageSet
from infoae.errors import InfoAEError, UsageError
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.networks import Encoder
from infoae.pseudolabels import pairs
from infoae.pseudolabels.partners import learned_neighbours
from infoae.runs.run import NEIGHBOURS, Run
from infoae.trainer import Trainer
from tests.helpers.settings import WITH_HEADS

MakeTrainer = Callable[..., Trainer]
LEARNED = (
    *WITH_HEADS,
    "objective.weights.contrastive=1",
    "model.projection_dim=8",
    "stages.representation_epochs=1",
    "stages.mutual_information_epochs=3",
    "train.epochs=5",
    "objective.pairs=neighbours",
    "neighbours.source=learned",
    "neighbours.count=3",
)


def learned(*overrides: str) -> Config:
    return recipes.load("smoke", [*LEARNED, *overrides])


@given(st.integers(1, 4), st.integers(1, 6), st.one_of(st.none(), st.integers(1, 3)), st.integers(0, 14))
def test_neighbours_are_sought_after_the_representation_and_then_until_the_vote(
    representation: int, first: int, every: int | None, epochs_done: int
) -> None:
    config = recipes.replaced(
        learned(),
        {
            "stages.representation_epochs": representation,
            "stages.mutual_information_epochs": first,
            "neighbours.refresh_every": every,
            "train.epochs": 15,
        },
        "test",
    )
    searched = 0
    for epoch in range(1, epochs_done + 1):
        since = epoch - representation
        searched += since == 0 or (every is not None and 0 < since < first and since % every == 0)
    assert schedule_of(config).num_searches(epochs_done) == searched
    assert schedule_of(config).num_pseudo_labels(epochs_done) == (epochs_done >= representation + first)


def test_the_table_says_when() -> None:
    rows = list(schedule_of(learned("neighbours.refresh_every=2", "model.num_over_categories=20")).table())[1:]
    sought, merged = "seek neighbours in learned features", "merge over-categories"
    assert [(row[0], row[1], row[3]) for row in rows] == [
        ("1", "representation", f"{sought}, save"),
        ("2", "mutual_information", f"{merged}, save"),
        ("3", "mutual_information", f"{sought}, {merged}, save"),
        ("4", "mutual_information", f"{merged}, vote on pseudo-labels, save"),
        ("5", "adversarial", f"{merged}, score, save"),
    ]


def test_learned_neighbours_are_those_of_the_greatest_cosine(mnist: tuple[ImageSet, ImageSet]) -> None:
    torch.manual_seed(0)
    model, images = InfoAE(learned().model).eval(), mnist[0].images
    found, encoder = learned_neighbours(model, images, Neighbours(count=4)), model.encoder
    assert isinstance(encoder, Encoder)
    with torch.no_grad():
        features = encoder.features(torch.tensor(images).float() / 255).double().numpy()
    features -= features.mean(0)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T - 10 * np.eye(len(unit))
    expected = np.sort(cosines, 1)[:, ::-1][:, :4]
    np.testing.assert_allclose(np.take_along_axis(cosines, found.astype(np.int64), 1), expected, atol=1e-5)


def test_the_first_stage_moves_encoder_and_projector_alone(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(learned())
    before = {name: value.clone() for name, value in trainer.step.model.named_parameters()}
    trainer.fit([], should_stop=lambda: trainer.done == 6)
    moved = {
        name.partition(".")[0] for name, value in trainer.step.model.named_parameters() if (value != before[name]).any()
    }
    assert moved == {"encoder", "projector"}
    assert "evaluation/mutual_information" not in {key for line in trainer.run.metrics() for key in line}
    assert trainer.partners.pairs is not None  # sought at its end


@pytest.mark.parametrize("stop_after", [3, 13, 20])
def test_a_run_that_seeks_again_resumes_bit_equal(stop_after: int, make_trainer: MakeTrainer) -> None:
    config = learned("neighbours.refresh_every=1")
    unbroken, stopped = make_trainer(config, "unbroken"), make_trainer(config, "stopped")
    unbroken.fit([])
    assert unbroken.partners.searches == 3
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(config, "stopped")
    resumed.resume()
    resumed.fit([])
    expected, result = (trainer.step.model.state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], result[name])] == []


def test_a_kill_between_a_search_and_its_checkpoint_loses_nothing(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = learned("neighbours.refresh_every=1", "train.save_every=2")
    unbroken, killed = make_trainer(config, "unbroken"), make_trainer(config, "killed")
    unbroken.fit([])

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(killed, "_save", lambda *given: die() if killed.done == 12 else Trainer._save(killed, *given))
        with pytest.raises(KeyboardInterrupt):
            killed.fit([])
    assert killed.partners.searches == 2
    resumed = make_trainer(config, "killed")
    resumed.resume()
    assert resumed.done == 10
    resumed.fit([])
    expected, result = (trainer.step.model.state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], result[name])] == []


def test_the_last_two_searches_are_kept(tmp_path: Path) -> None:
    run, rule, device = Run(tmp_path), Neighbours(count=2), torch.device("cpu")
    found = [np.random.default_rng(seed).integers(0, 9, (9, 2)).astype(np.int32) for seed in range(3)]
    for search, neighbours in enumerate(found, 1):
        pairs.save_learned(run, neighbours, search)
        for kept in range(max(1, search - 1), search + 1):
            np.testing.assert_array_equal(pairs.load_learned(run, 9, rule, kept, device).nearest, found[kept - 1])
    with pytest.raises(InfoAEError, match=f"{NEIGHBOURS} is damaged .*train anew"):
        pairs.load_learned(run, 9, rule, 1, device)
    (tmp_path / NEIGHBOURS).write_bytes(b"PK")
    with pytest.raises(InfoAEError, match=f"{NEIGHBOURS} is damaged .*train anew"):
        pairs.load_learned(run, 9, rule, 3, device)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.representation_epochs=0", "neighbours.source learned needs stages.representation_epochs"),
        ("model.projection_dim=null", "objective.weights.contrastive needs model.projection_dim"),
        ("objective.weights.contrastive=0", "objective.weights.contrastive alone, which is 0"),
        ("stages.representation_epochs=2", "stages.representation_epochs 2, mutual_information_epochs 3 .* leave none"),
    ],
)
def test_what_cannot_be_learnt_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        learned(override)
