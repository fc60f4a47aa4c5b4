"""How a GPU computes: what is bound is what is run, and what a provider cannot do is refused. No GPU is needed here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from infoae.bound_session import BoundSession
from infoae.deploy import Classifier
from infoae.errors import InfoAEError, UsageError
from infoae.gpu import Provider, why_no_gpu
from infoae.sessions import _assigned, _refuse_others, run_session
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import call

NAMES = ["latent", "probabilities"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture(scope="module")
def session(bundle: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return onnxruntime.InferenceSession(bundle / "classifier.onnx", options, providers=["CPUExecutionProvider"])


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, 28, 28), np.uint8)


def test_answers_in_a_place_of_their_own_are_those_without(session: Any) -> None:
    bound = BoundSession(session, "cpu")
    given = [images(count, seed) for seed, count in enumerate([4, 4, 1, 7, 4])]
    answers = [run_session(bound, NAMES, {"images": each}) for each in given]  # kept while others are computed
    for each, answer in zip(given, answers, strict=True):
        for found, expected in zip(answer, session.run(NAMES, {"images": each}), strict=True):
            np.testing.assert_array_equal(found, expected)
    (strided,) = bound.run(["latent"], {"images": np.repeat(given[0], 2, axis=0)[::2]})
    np.testing.assert_array_equal(strided, answers[0][0])


def test_callers_of_many_threads_get_their_own_answers(session: Any) -> None:
    bound = BoundSession(session, "cpu")
    given = [images(3, seed) for seed in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda each: bound.run(["latent"], {"images": each})[0], given))
    for each, answer in zip(given, answers, strict=True):
        np.testing.assert_array_equal(answer, session.run(["latent"], {"images": each})[0])


def test_operations_that_another_provider_would_do_are_named(session: Any) -> None:
    assigned = _assigned(session)
    assert set(assigned) == {"CPUExecutionProvider"}
    count = assigned["CPUExecutionProvider"].total()
    assert assigned["CPUExecutionProvider"]["MatMul"] == 2
    _refuse_others(assigned, "CPUExecutionProvider", "cpu")
    told = rf"provider cuda-graph: {count} of {count} operations would be done by CPUExecutionProvider \(Cast, "
    with pytest.raises(InfoAEError, match=told):
        _refuse_others(assigned, "CUDAExecutionProvider", Provider.CUDA_GRAPH)


def test_a_provider_that_cannot_be_had_is_one_line(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="provider tensorrt is of GPUs: use --device cuda"):
        Classifier(bundle, "cpu", provider="tensorrt")
    with pytest.raises(InfoAEError, match="no provider 'rocm': choose cuda, cuda-graph, tensorrt"):
        Classifier(bundle, "cpu", provider="rocm")
    np.savez(tmp_path / "images.npz", images=images(3))
    given = ["classify", str(tmp_path / "images.npz"), "--model", str(bundle), "--provider", "cuda-graph"]
    if why_no_gpu() is not None:
        done = call(*given, cwd=tmp_path)
        assert done.returncode == 1
        assert "error: provider cuda-graph: " in done.stderr
        assert done.stderr.strip().endswith("use --provider cuda, or --device cpu")
    done = call(*given, "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: provider cuda-graph is of GPUs: use --device cuda\n"
