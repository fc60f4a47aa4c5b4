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
from infoae.errors import InfoAEError, UsageError
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.networks import Encoder
from infoae.pseudolabels import pairs
from infoae.pseudolabels.partners import half_whitened
from infoae.runs.run import NEIGHBOUR_SEARCH, NEIGHBOURS, Run
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
    "objective.weights.classification_encoded=0",
    "objective.self_critic_fakes=reconstructed",
)

SOUGHT_AGAIN = (
    "stages.representation_epochs=2",
    "stages.mutual_information_epochs=1",
    "train.epochs=4",
    "neighbours.refresh_every=1",
)


def learned(*overrides: str) -> Config:
    return recipes.load("smoke", [*LEARNED, *overrides])


@given(st.integers(1, 6), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 3)), st.integers(0, 14))
def test_neighbours_are_sought_while_features_are_learnt_and_last_when_they_are(
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
        searched += epoch == representation or (every is not None and epoch < representation and epoch % every == 0)
    assert schedule_of(config).num_searches(epochs_done) == searched
    assert schedule_of(config).num_pseudo_labels(epochs_done) == (epochs_done >= representation + first)


def test_the_table_says_when() -> None:
    config = learned(*SOUGHT_AGAIN, "model.num_over_categories=20", "optim.decay_epochs=1")
    sought, merged = "seek neighbours in learned features", "merge over-categories"
    assert list(schedule_of(config).table())[1:] == [
        ("1", "representation", "constant", f"{sought}, save"),
        ("2", "representation", "falling to 0", f"{sought}, save"),
        ("3", "mutual_information", "constant", f"{merged}, vote on pseudo-labels, save"),
        ("4", "adversarial", "falling to 0", f"{merged}, score, save"),
    ]


@pytest.mark.parametrize("memory", ["null", "0.000001"])
def test_learned_neighbours_are_those_of_the_greatest_cosine(memory: str, make_trainer: MakeTrainer) -> None:
    """Also where features and search are more than memory may hold."""
    trainer = make_trainer(learned("neighbours.count=4", f"neighbours.memory={memory}"))
    trainer.fit([], should_stop=lambda: trainer.done == 6)
    assert trainer.partners.pairs is not None
    found, images = trainer.partners.pairs.nearest, trainer.images[:]
    model = trainer.step.evaluated_model()
    assert isinstance(model, InfoAE)
    encoder = model.eval().encoder
    assert isinstance(encoder, Encoder)
    with torch.no_grad():
        features = half_whitened(encoder.features(torch.tensor(images).float() / 255).numpy()).astype(np.float64)
    features -= features.mean(0)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = unit @ unit.T - 10 * np.eye(len(unit))
    expected = np.sort(cosines, 1)[:, ::-1][:, :4]
    np.testing.assert_allclose(np.take_along_axis(cosines, found.astype(np.int64), 1), expected, atol=1e-5)
    learnt = trainer.partners.features
    assert learnt is not None
    assert isinstance(learnt, np.memmap) == (memory != "null")
    np.testing.assert_allclose(learnt, model.represent(images), atol=1e-6)
    assert not (trainer.run.path / NEIGHBOUR_SEARCH).exists()


def test_all_after_the_representation_is_learnt_on_features_as_they_are(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(learned())
    trainer.fit([], should_stop=lambda: trainer.done == 6)
    model, images, features = trainer.step.evaluated_model(), trainer.images[:], trainer.partners.features
    assert features is not None
    assert isinstance(model, InfoAE)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    np.testing.assert_allclose(model.classify(features), model.classify(images), atol=1e-6)
    trainer.fit([])
    moved = {name for name, value in model.state_dict().items() if (value != before[name]).any()}
    assert {name.partition(".")[0] for name in moved} >= {"encoder", "classifier", "other_heads", "decoder"}
    assert [name for name in moved if name.startswith(("encoder.features", "projector"))] == []
    np.testing.assert_allclose(features, model.represent(images), atol=1e-6)


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


@pytest.mark.parametrize("stop_after", [3, 9, 21])
def test_a_run_that_seeks_again_resumes_bit_equal(stop_after: int, make_trainer: MakeTrainer) -> None:
    config = learned(*SOUGHT_AGAIN)
    unbroken, stopped = make_trainer(config, "unbroken"), make_trainer(config, "stopped")
    unbroken.fit([])
    assert unbroken.partners.searches == 2
    stopped.fit([], should_stop=lambda: stopped.done == stop_after)
    resumed = make_trainer(config, "stopped")
    resumed.resume()
    resumed.fit([])
    expected, result = (trainer.step.model.state_dict() for trainer in (unbroken, resumed))
    assert [name for name in expected if not torch.equal(expected[name], result[name])] == []


def test_a_kill_between_a_search_and_its_checkpoint_loses_nothing(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = learned(*SOUGHT_AGAIN, "train.save_every=2")
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
        ("objective.weights.classification_encoded=1", "a gradient through the encoder, which neighbours.source"),
        ("objective.pairs=twins", "neighbours.source learned needs objective.pairs neighbours.*recipe photos has"),
        ("stages.representation_epochs=2", "stages.representation_epochs 2, mutual_information_epochs 3 .* leave none"),
    ],
)
def test_what_cannot_be_learnt_is_refused(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        learned(override)


def test_half_whitened_features_keep_their_axes_and_have_the_roots_of_their_deviations() -> None:
    random = np.random.default_rng(0)
    turn = np.linalg.qr(random.normal(size=(5, 5)))[0]
    features = ((random.normal(size=(400, 5)) * [9, 3, 1, 0.2, 0]) @ turn + 4).astype(np.float32)
    found = half_whitened(features)
    covariance, wanted = np.cov(found.T, bias=True), np.sort(np.linalg.eigvalsh(np.cov(features.T, bias=True)))
    np.testing.assert_allclose(np.diag(covariance)[1:], wanted[1:] ** 0.5, rtol=1e-3)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-3)
    assert np.isfinite(found).all()
