"""Classifier and Generator against NumPy, from threads, without torch, and with everything wrong that can be."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import infoae.sessions
from infoae.deploy import Classifier, Generator
from infoae.deploy.bundle import Bundle, write_checksums
from infoae.deploy.classifier import BATCH_SIZE
from infoae.deploy.per_process import PerProcess
from infoae.errors import InfoAEError
from tests.helpers.bundles import CATEGORIES, LATENT, make_bundle, reference
from tests.helpers.inputs import PIXELS


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def classifier(bundle: Path) -> Classifier:
    return Classifier(bundle, "cpu", batch_size=7)


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 100])
def test_answers_are_those_of_numpy_at_any_batch_size(bundle: Path, num_threads: int, count: int) -> None:
    classifier = Classifier(bundle, "cpu", batch_size=7, num_threads=num_threads)
    weights = {w.name: numpy_helper.to_array(w) for w in onnx.load(bundle / "classifier.onnx").graph.initializer}
    images = random_images(count)
    answers = classifier.classify(images)
    assert answers.probabilities.shape == (count, CATEGORIES)
    assert answers.latent.shape == (count, LATENT)
    if count:
        probabilities, latent = reference(weights["encode"], weights["categorize"], images)
        np.testing.assert_allclose(answers.probabilities, probabilities, atol=1e-5)
        np.testing.assert_allclose(answers.latent, latent, atol=1e-5)
        assert np.array_equal(answers.labels, probabilities.argmax(axis=1))


def test_a_gpu_is_given_batches_of_one_size(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched:
        """A session that tells of every batch."""

        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, outputs: list[str], inputs: dict[str, Any]) -> list[Any]:
            sizes.extend(map(len, inputs.values()))
            arrays: list[Any] = self.session.run(outputs, inputs)
            return arrays

    classifier = Classifier(bundle, "cpu", batch_size=7, num_threads=1)  # more threads share the images in other parts
    generator = Generator(bundle, "cpu")
    latent = np.random.default_rng(1).normal(size=(3, LATENT)).astype(np.float32)
    plain = classifier.classify(random_images(20)), generator.generate(3, 300, seed=5), generator.decode(latent)
    monkeypatch.setattr("infoae.sessions.device_of", lambda _: "cuda")
    watched = Watched(classifier._sessions.get())
    monkeypatch.setattr(classifier, "_sessions", PerProcess(lambda: watched))
    for role, sessions in generator._sessions.items():
        monkeypatch.setitem(generator._sessions, role, PerProcess(partial(Watched, sessions.get())))
    answers = classifier.classify(random_images(20))
    assert sizes == [7] * 3
    np.testing.assert_allclose(answers.probabilities, plain[0].probabilities, atol=1e-6)
    np.testing.assert_allclose(answers.latent, plain[0].latent, atol=1e-5)
    sizes.clear()
    np.testing.assert_allclose(generator.generate(3, 300, seed=5), plain[1], atol=1e-6)
    np.testing.assert_allclose(generator.decode(latent), plain[2], atol=1e-6)
    assert sizes == [BATCH_SIZE] * 5


def test_with_and_without_a_channel_axis_and_strided(classifier: Classifier) -> None:
    images = random_images(20)
    plain = classifier.classify(images)
    assert np.array_equal(classifier.classify(images[:, None]).latent, plain.latent)
    assert np.array_equal(classifier.classify(np.repeat(images, 2, axis=0)[::2]).latent, plain.latent)


def test_what_stops_one_thread_stops_all(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(bundle, "cpu", batch_size=7, num_threads=2)
    calls = itertools.count()

    def failing(*arguments: Any) -> Any:
        if next(calls) == 1:
            raise InfoAEError("out of memory")
        time.sleep(0.05)
        return run_session(*arguments)

    run_session = infoae.sessions.run_session
    monkeypatch.setattr("infoae.deploy.classifier.run_session", failing)
    with pytest.raises(InfoAEError, match="out of memory"):
        classifier.classify(random_images(700))
    assert next(calls) < 10  # of a hundred
    monkeypatch.undo()
    assert len(classifier.classify(random_images(700))) == 700


def test_many_threads_get_the_same_answers(classifier: Classifier) -> None:
    batches = [random_images(count) for count in range(1, 40)]
    expected = [classifier.classify(images).probabilities for images in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda images: classifier.classify(images).probabilities, batches))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 1, 32, 32), np.uint8), r"images of shape \(2, 1, 32, 32\): this model takes \(N, 1, 28, 28\)"),
        (np.zeros((2, 3, 28, 28), np.uint8), r"takes \(N, 1, 28, 28\)"),
        (np.zeros((28, 28), np.uint8), r"takes \(N, 1, 28, 28\)"),
        (np.zeros((2, 28, 28), np.float32), "images of type float32: this model takes uint8"),
    ],
)
def test_wrong_arrays_are_refused(classifier: Classifier, images: np.ndarray, message: str) -> None:
    with pytest.raises(InfoAEError, match=message):
        classifier.classify(images)


def test_a_caller_computes_itself_while_another_has_the_pool(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = Classifier(bundle, "cpu", batch_size=7, num_threads=2)
    run_session, begun, go_on = infoae.sessions.run_session, threading.Event(), threading.Event()
    names: list[str] = []

    def run(*given: Any) -> list[Any]:
        names.append(threading.current_thread().name)
        if names[-1].startswith("infoae-classifier"):
            begun.set()
            assert go_on.wait(60)
        return run_session(*given)

    monkeypatch.setattr("infoae.deploy.classifier.run_session", run)
    images = np.random.default_rng(3).integers(0, 256, (50, 1, 28, 28), np.uint8)
    with ThreadPoolExecutor(1, "first") as first, ThreadPoolExecutor(1, "second") as second:
        slow = first.submit(classifier.classify, images)
        assert begun.wait(60)
        try:
            answers = second.submit(classifier.classify, images[:20]).result(timeout=30)
        finally:
            go_on.set()
        assert "second_0" in names
        np.testing.assert_array_equal(answers.probabilities, slow.result().probabilities[:20])
    names.clear()
    classifier.classify(images)  # the pool is free again
    assert all(name.startswith("infoae-classifier") for name in names)


def test_wrong_answers_on_the_sample_are_refused(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    model = onnx.load(bundle / "classifier.onnx")
    weight = next(w for w in model.graph.initializer if w.name == "categorize")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), "categorize"))
    onnx.save(model, bundle / "classifier.onnx")
    write_checksums(bundle)
    with pytest.raises(InfoAEError, match=r"probabilities on cpu differ by .* from those at export"):
        Classifier(bundle, "cpu")


def test_graphs_that_are_not_what_the_manifest_says(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "classifier.onnx").write_bytes((bundle / "decoder.onnx").read_bytes())
    write_checksums(bundle)
    with pytest.raises(InfoAEError, match=r"the inputs of classifier\.onnx are not those in bundle\.json"):
        Classifier(bundle, "cpu")
    (bundle / "classifier.onnx").write_bytes(b"not onnx")
    write_checksums(bundle)
    with pytest.raises(InfoAEError, match="onnxruntime cannot load") as caught:
        Classifier(bundle, "cpu")
    assert "\n" not in str(caught.value)


def test_a_damaged_sample(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (bundle / "sample_io.npz").write_bytes(b"PK")
    write_checksums(bundle)
    with pytest.raises(InfoAEError, match=r"sample_io\.npz is not as export writes it"):
        Classifier(bundle, "cpu")


@pytest.mark.parametrize("changed", [{"images": PIXELS[:0, None]}, {"latent": np.array(["x"])}, {"tolerance": [1, 2]}])
def test_a_sample_of_something_else(changed: dict[str, Any], tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    with np.load(bundle / "sample_io.npz") as sample:
        content = dict(sample)
    np.savez(bundle / "sample_io.npz", **(content | changed))
    write_checksums(bundle)
    with pytest.raises(InfoAEError, match=r"sample_io\.npz is not as export writes it"):
        Classifier(bundle, "cpu")


def test_a_failure_in_onnxruntime_is_one_line(bundle: Path) -> None:
    classifier = Classifier(bundle, "cpu")
    classifier.manifest = classifier.manifest.model_copy(
        update={"image": classifier.manifest.image.model_copy(update={"height": 14})}
    )
    with pytest.raises(InfoAEError, match="onnxruntime failed: ") as caught:
        classifier.classify(np.zeros((2, 1, 14, 28), np.uint8))
    assert "\n" not in str(caught.value)


def test_an_unknown_device(bundle: Path) -> None:
    with pytest.raises(InfoAEError, match="no device 'tpu'"):
        Classifier(bundle, "tpu")


def test_cuda_is_given_or_refused_and_never_replaced(bundle: Path) -> None:
    if Classifier(bundle, "auto").device == "cuda":
        assert Classifier(bundle, "cuda").device == "cuda"
    else:
        with pytest.raises(InfoAEError, match="device cuda: "):
            Classifier(bundle, "cuda")


def test_start_to_first_label_is_fast_and_silent_and_without_torch(bundle: Path) -> None:
    """In seconds of the processor: those of the clock are other tests' too."""
    program = (
        "import sys, time, numpy\n"
        "from infoae.deploy import Classifier\n"
        f"label = Classifier({str(bundle)!r}).classify(numpy.zeros((1, 28, 28), numpy.uint8)).labels[0]\n"
        "heavy = {'torch', 'torchvision', 'ray', 'pandas', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "print(time.process_time(), heavy or 'none')"
    )
    fastest = 10.0
    for _ in range(3):  # the first start may read everything from disk
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        seconds, heavy = done.stdout.split()
        assert heavy == "none"
        assert done.stderr == ""
        fastest = min(fastest, float(seconds))
    assert fastest < 1.0


def test_generate_is_reproducible_and_depends_on_category_and_seed(bundle: Path) -> None:
    generator = Generator(bundle, "cpu")
    images = generator.generate(3, 300, seed=5)
    assert images.shape == (300, 1, 28, 28)
    assert 0 <= images.min() <= images.max() <= 1
    assert np.array_equal(images, generator.generate(3, 300, seed=5))
    assert not np.array_equal(images, generator.generate(3, 300, seed=6))
    assert not np.array_equal(images, generator.generate(4, 300, seed=5))
    assert len(np.unique(images.reshape(300, -1), axis=0)) == 300
    with pytest.raises(InfoAEError, match="no category 10"):
        generator.generate(10, 1, seed=0)


def test_interpolation_meets_both_ends(bundle: Path) -> None:
    generator = Generator(bundle, "cpu")
    first, second = np.random.default_rng(0).normal(size=(2, 5, LATENT)).astype(np.float32)
    at = [generator.interpolate(first, second, np.full(5, weight, np.float32)) for weight in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(at[0], generator.decode(first), atol=1e-6)
    np.testing.assert_allclose(at[1], generator.decode((first + second) / 2), atol=1e-6)
    np.testing.assert_allclose(at[2], generator.decode(second), atol=1e-6)


def test_a_loaded_bundle_serves_both(bundle: Path) -> None:
    loaded = Bundle.load(bundle)
    assert Classifier(loaded, "cpu").manifest is Generator(loaded, "cpu").manifest
