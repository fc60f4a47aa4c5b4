"""How far a batch is from what a bundle knows: bins, the index, and what chance makes of few pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from infoae import config, data
from infoae.data import ImageSet
from infoae.deploy import drift
from infoae.deploy.batch import classify_sources
from infoae.deploy.bundle import Bundle, Manifest, write_checksums, write_manifest
from infoae.deploy.classifier import Answers, Classifier
from infoae.deploy.drift import LARGE, Drift
from infoae.deploy.reference import Counts, Reference
from infoae.deploy.rows import RowFormat
from infoae.errors import InfoAEError
from infoae.inputs.sources import open_sources
from tests.deploy.test_batch import Rows
from tests.helpers.bundles import add_reference, make_bundle


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    found = data.load(config.Data(), "test")
    assert found.labels is not None
    return ImageSet(found.images[:2000], found.labels[:2000])


@pytest.fixture(scope="module")
def classifier(digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = make_bundle(tmp_path_factory.mktemp("model") / "bundle")
    return Classifier(add_reference(folder, digits.images), "cpu", num_threads=1)


def measured(classifier: Classifier, images: NDArray[np.uint8]) -> Drift:
    found = drift.measured(classifier.manifest, drift.counted(classifier.manifest, classifier.classify(images)))
    assert found is not None
    return found


def test_bins_hold_what_lies_between_their_edges(digits: ImageSet, classifier: Classifier) -> None:
    known = classifier.manifest.reference
    assert known is not None
    answers = classifier.classify(digits.images[:300])
    confidences, norms = [0] * len(known.counts.confidence), [0] * len(known.counts.latent)
    for probabilities, latent in zip(answers.probabilities.tolist(), answers.latent.tolist(), strict=True):
        confidences[sum(edge < max(probabilities) for edge in known.confidence_edges)] += 1
        norms[sum(edge < math.hypot(*latent) for edge in known.latent_edges)] += 1
    counts = known.counted(answers.probabilities, answers.latent)
    assert counts.confidence == tuple(confidences)
    assert counts.latent == tuple(norms)
    assert counts.occupancy == tuple(answers.labels.tolist().count(category) for category in range(10))
    nothing = known.counted(answers.probabilities[:0], answers.latent[:0])
    assert nothing + counts == counts + Counts() == counts
    assert (counts + counts).num_images == 600
    for each in (known.counts.confidence, known.counts.latent):
        assert len(each) == 10
        np.testing.assert_allclose(each, 200, atol=5)


def test_the_last_bit_of_what_many_have_changes_no_bin() -> None:
    one = np.float32(1)
    probabilities = np.array([[one, 0]] * 95 + [[0.6, 0.4]] * 5, np.float32)
    latent = np.array([[one, 0, 0]] * 100, np.float32)
    known = Reference.of(probabilities, latent)
    for other in (np.nextafter(one, np.float32(2)), np.nextafter(one, np.float32(0))):
        assert known.counted(probabilities * other, latent * other) == known.counts
    assert known.counts.confidence == (5, 95)
    assert known.counted(probabilities - np.array([0.01, 0], np.float32), latent * 0).confidence == (100, 0)


def test_the_index_is_the_sum_over_bins() -> None:
    counts, known = [3, 0, 7], [200, 300, 500]
    p, q = [3.5 / 11.5, 0.5 / 11.5, 7.5 / 11.5], [200.5 / 1001.5, 300.5 / 1001.5, 500.5 / 1001.5]
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert drift.stability_index(np.array(counts), np.array(known)) == pytest.approx(expected)


def test_the_same_pictures_have_not_drifted_and_others_have(digits: ImageSet, classifier: Classifier) -> None:
    same = measured(classifier, digits.images)
    assert (same.distance, same.quantity) == (0.0, None)
    assert str(same).endswith(": like the 2,000 test images at export")
    assert digits.labels is not None
    for others in (255 - digits.images, digits.images[digits.labels == 1], digits.images[digits.labels == 1][:50]):
        found = measured(classifier, others)
        assert found.distance > LARGE
        assert found.distance == max(found.occupancy, found.confidence, found.latent)
        assert found.quantity is not None
        assert getattr(found, found.quantity) == found.distance
        assert f"drift {found.distance:.2f} in {found.quantity} (" in str(found)


def test_few_pictures_raise_no_false_alarm(digits: ImageSet, classifier: Classifier) -> None:
    answers, known = classifier.classify(digits.images), classifier.manifest.reference
    assert known is not None
    random = np.random.default_rng(0)
    far, plain = [], []
    for _ in range(1000):
        rows = random.integers(0, len(answers), 50)
        counts = drift.counted(classifier.manifest, Answers(answers.probabilities[rows], answers.latent[rows]))
        found = drift.measured(classifier.manifest, counts)
        assert found is not None
        far.append(found.distance)
        plain.append(drift.stability_index(np.array(counts.latent), np.array(known.counts.latent)))
    # Three quantities alarm once in 1,000 times each: more than 10 of 1,000 come once in 4,000 times.
    assert np.sum(np.array(far) > 0) <= 10
    assert np.sum(np.array(plain) > LARGE) > 100  # without what chance makes of 50


def test_a_distance_does_not_depend_on_how_many_pictures_there_are() -> None:
    known, now, random = (100_000,) * 10, np.array([4, 16] * 5) / 100, np.random.default_rng(0)
    expected = sum((share - 0.1) * math.log(share / 0.1) for share in now)
    for count in (200, 2000):
        far = [drift.beyond_chance(tuple(random.multinomial(count, now)), known) for _ in range(100)]
        assert np.mean(far) == pytest.approx(expected, rel=0.06)  # not corrected it is 10 % more of 200 pictures


def test_many_categories_are_drawn_a_few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    known, now = tuple(range(1, 41)), tuple(range(40, 0, -1))
    whole = drift.beyond_chance(now, known)
    monkeypatch.setattr(drift, "_AT_ONCE", 100)
    assert drift.beyond_chance(now, known) == pytest.approx(whole, rel=0.02)


def test_a_bundle_of_an_earlier_infoae_classifies_and_tells_nothing(tmp_path: Path, digits: ImageSet) -> None:
    np.save(tmp_path / "x.npy", digits.images[:20])
    classifier = Classifier(make_bundle(tmp_path / "bundle"), "cpu", num_threads=1)
    content = (tmp_path / "bundle/bundle.json").read_text()
    assert Manifest.model_validate_json(content.replace('"reference": null', '"unknown": null')).reference is None
    rows, sources = (
        RowFormat.parse(classifier.manifest, None, latent=False),
        open_sources([str(tmp_path / "x.npy")], classifier.manifest.image),
    )
    summary = classify_sources(sources, classifier, rows, Rows())
    assert (summary.num_rows, summary.drift) == (20, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"latent_edges": [2.0, 1.0]}, "latent_edges must rise"),
        ({"confidence_edges": [0.5]}, "confidence must be counts of the same images"),
        ({"counts": {"occupancy": [0, 0], "confidence": [0], "latent": [0, 0, 0]}}, "there must be counts of images"),
        ({"counts": {"occupancy": [3, -1], "confidence": [2], "latent": [1, 1, 0]}}, "greater than or equal to 0"),
    ],
)
def test_a_reference_that_is_none_is_refused(wrong: dict[str, Any], message: str) -> None:
    right = {
        "confidence_edges": [],
        "latent_edges": [1.0, 2.0],
        "counts": {"occupancy": [2, 0], "confidence": [2], "latent": [1, 1, 0]},
    }
    Reference.model_validate(right)
    with pytest.raises(ValidationError, match=message):
        Reference.model_validate(right | wrong)


def test_a_reference_of_other_categories_is_refused(tmp_path: Path) -> None:
    folder = make_bundle(tmp_path / "bundle")
    known = Reference.of(np.full((5, 3), 1 / 3, np.float32), np.ones((5, 2), np.float32))
    write_manifest(folder, Bundle.load(folder).manifest.model_copy(update={"reference": known}))
    write_checksums(folder)
    with pytest.raises(InfoAEError, match="the reference must have 10 categories"):
        Bundle.load(folder)
