"""The estimator is the verbs: the same trainings, the same answers, the same errors."""

from __future__ import annotations

import copy
import gc
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import infoae
from infoae import InfoAEClusterer, launch
from infoae.data import ImageSet
from infoae.errors import InfoAEError, UsageError
from infoae.planning import planned
from infoae.runs import checkpoint
from infoae.runs.run import ESTIMATOR, Run
from tests.estimator.settings import OF_PICTURES, on_pictures, on_rows
from tests.helpers.inputs import write_shards

ROWS = StandardScaler().fit_transform(make_blobs(60, 4, random_state=1)[0]).astype(np.float32)


@pytest.fixture(scope="module")
def pictures(mnist: tuple[ImageSet, ImageSet]) -> NDArray[np.uint8]:
    """200 digits (200, 1, 28, 28)."""
    return mnist[0].images[:200]


@pytest.fixture(scope="module")
def fitted(pictures: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> InfoAEClusterer:
    """An estimator of the digits; its run is kept."""
    return on_pictures(folder=tmp_path_factory.mktemp("runs")).fit(pictures)


@pytest.fixture(scope="module")
def of_rows() -> InfoAEClusterer:
    """An estimator of ROWS; its run goes with it."""
    return on_rows().fit(ROWS)


def test_it_trains_as_the_verb_does(fitted: InfoAEClusterer, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    write_shards(tmp_path / "data", pictures, 1, ImageSet(pictures[:50], None))
    settings = [*OF_PICTURES, "model.num_categories=4", "seed=0", "data.name=shards", f"data.root={tmp_path / 'data'}"]
    result = launch.run(planned("mnist", settings, tmp_path / "runs", "verb"), launch.Executor())
    expected, found = (checkpoint.weights(Run.open(run).checkpoint("best")) for run in (result.folder, fitted.run_))
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


def test_answers_are_those_of_the_run(fitted: InfoAEClusterer, pictures: NDArray[np.uint8]) -> None:
    model = infoae.load(fitted.run_)
    expected = model.classify(pictures).numpy()
    np.testing.assert_allclose(fitted.predict_proba(pictures), expected, atol=1e-6)
    np.testing.assert_array_equal(fitted.labels_, expected.argmax(1))
    assert len(set(fitted.labels_)) > 1
    np.testing.assert_array_equal(fitted.predict(pictures), fitted.labels_)
    np.testing.assert_allclose(fitted.transform(pictures), model.encode(pictures).numpy(), atol=1e-5)
    np.testing.assert_array_equal(fitted.sample(2, 3), model.generate(2, 3, seed=0).numpy())
    assert (fitted.n_clusters_, fitted.n_features_in_) == (4, 784)
    assert list(fitted.get_feature_names_out()) == [f"infoaeclusterer{i}" for i in range(8)]


def test_pictures_of_every_form_get_the_same_answers(fitted: InfoAEClusterer, pictures: NDArray[np.uint8]) -> None:
    expected = fitted.predict_proba(pictures)
    for given in (pictures[:, 0], pictures / 255, list(pictures[:, 0] / np.float32(255)), torch.tensor(pictures)):
        np.testing.assert_array_equal(fitted.predict_proba(given), expected)
    assert fitted.score(pictures[:, 0]) == fitted.score(pictures)


def test_the_score_of_rows_is_of_nearest_others(of_rows: InfoAEClusterer) -> None:
    answers = of_rows.predict_proba(ROWS).astype(np.float64)
    centred = ROWS - ROWS.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    nearest = (unit @ unit.T - 2 * np.eye(len(unit))).argmax(1)
    joint = answers.T @ answers[nearest] / len(answers)
    joint = (joint + joint.T) / 2
    expected = (joint * np.log(joint / joint.sum(0) / joint.sum(1)[:, None])).sum()
    assert of_rows.score(ROWS) == pytest.approx(expected, abs=1e-5)
    assert of_rows.n_features_in_ == 4


def test_rows_have_nothing_to_draw(of_rows: InfoAEClusterer) -> None:
    with pytest.raises(NotImplementedError, match="the samples of fit were rows"):
        of_rows.sample(0)


@pytest.fixture
def files(tmp_path: Path, pictures: NDArray[np.uint8]) -> Path:
    """Sixty digits as files, one of which is damaged, and a text."""
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures[:60, 0]):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number:02}.png")
    (tmp_path / "photos" / "07.png").write_bytes(b"\x89PNG no picture")
    (tmp_path / "photos" / "read.txt").write_text("no picture")
    return tmp_path / "photos"


@pytest.mark.filterwarnings("ignore::infoae.errors.Notice")
def test_files_are_labelled_in_order_and_damaged_ones_have_none(files: Path, pictures: NDArray[np.uint8]) -> None:
    found = on_pictures().fit(files)
    expected = infoae.load(found.run_).classify(pictures[:60]).argmax(1).numpy()
    expected[7] = -1
    np.testing.assert_array_equal(found.labels_, expected)
    assert np.isnan(found.predict_proba(str(files))[7]).all()
    paths = sorted(files.glob("*.png"))
    listed = on_pictures().fit(paths)
    np.testing.assert_array_equal(listed.labels_, listed.predict(str(files)))
    np.testing.assert_array_equal(listed.predict(paths[5:9]), listed.labels_[5:9])
    np.testing.assert_array_equal(listed.predict([str(paths[3]), "nowhere.png"]), [listed.labels_[3], -1])
    assert np.isfinite(listed.score(paths))


def test_it_is_saved_without_pickle_and_loads_the_same(
    fitted: InfoAEClusterer, pictures: NDArray[np.uint8], tmp_path: Path
) -> None:
    folder = fitted.save(tmp_path / "saved")
    kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert kinds <= {".safetensors", ".json", ".jsonl", ".yaml", ".npy", ".npz"}
    assert not any(path.read_bytes().startswith(b"\x80") for path in folder.rglob("*") if path.is_file())
    loaded = InfoAEClusterer.load(folder)
    assert loaded.get_params() == fitted.get_params() | {"folder": str(fitted.folder)}
    np.testing.assert_array_equal(loaded.labels_, fitted.labels_)
    np.testing.assert_array_equal(loaded.predict_proba(pictures), fitted.predict_proba(pictures))
    shown = [each._repr_mimebundle_()["text/html"].partition('<table class="infoae')[2] for each in (fitted, loaded)]
    assert shown[0] == shown[1] != ""
    with pytest.raises(UsageError, match="saved exists already"):
        fitted.save(folder)
    (folder / ESTIMATOR).write_bytes((folder / ESTIMATOR).read_bytes()[:100])
    with pytest.raises(InfoAEError, match=r"estimator.safetensors is damaged .*: remove it"):
        InfoAEClusterer.load(folder)


def test_any_run_is_an_estimator(finished_run: Run, pictures: NDArray[np.uint8]) -> None:
    found = InfoAEClusterer.load(finished_run.path)
    np.testing.assert_array_equal(found.predict(pictures), infoae.load(finished_run.path).classify(pictures).argmax(1))
    assert not hasattr(found, "labels_")
    with pytest.raises(InfoAEError, match="no run 'nowhere'"):
        InfoAEClusterer.load("nowhere")


def test_a_copy_outlives_the_folder_of_its_original(of_rows: InfoAEClusterer) -> None:
    original = copy.deepcopy(of_rows)
    expected, folder = original.predict_proba(ROWS), original.run_
    content = pickle.dumps(original)
    del original
    gc.collect()
    assert not folder.exists()
    found = pickle.loads(content)  # noqa: S301  our own
    np.testing.assert_array_equal(found.predict_proba(ROWS), expected)
    assert found.run_.exists()


def test_it_fits_into_a_pipeline_and_a_grid_search(tmp_path: Path) -> None:
    pipeline = make_pipeline(StandardScaler(), on_rows())
    assert set(pipeline.fit_predict(ROWS * 100)) == {0, 1, 2}
    assert pipeline.transform(ROWS * 100).shape == (60, 8)
    search = GridSearchCV(on_rows(folder=tmp_path), {"n_clusters": [2, 3]}, cv=2).fit(ROWS)
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_["n_clusters"] == [2, 3][int(scores.argmax())]
    assert 0 < scores[0] <= np.log(2)
    assert len(list(tmp_path.glob("photos-features-*"))) == 5
    assert clone(search.best_estimator_).get_params() == search.best_estimator_.get_params()


def test_several_runs_and_the_best_counts(tmp_path: Path) -> None:
    found = on_rows(n_init=2, folder=tmp_path, random_state=5).fit(ROWS)
    runs = {path.name[-2:]: path for path in tmp_path.glob("photos-features-*")}
    assert set(runs) == {"-5", "-6"}
    score = {path: checkpoint.read(Run(path).checkpoint("best")).score or 0.0 for path in runs.values()}
    assert found.run_ == max(score, key=lambda path: score[path])


def test_another_fit_without_a_seed_is_another(of_rows: InfoAEClusterer) -> None:
    np.random.seed(0)  # noqa: NPY002  what scikit-learn draws from where random_state is None
    found = [on_rows(random_state=None).fit(ROWS) for _ in range(2)]
    assert Run(found[0].run_).config().seed != Run(found[1].run_).config().seed
    assert Run(of_rows.run_).config().seed == 0


def test_a_run_goes_with_its_estimator_or_is_kept(fitted: InfoAEClusterer) -> None:
    found = on_rows().fit(ROWS)
    first = found.run_
    found.fit(ROWS)
    assert not first.exists()
    second = found.run_
    del found
    gc.collect()
    assert not second.exists()
    assert Run.open(fitted.run_.name, Path(str(fitted.folder))).path == fitted.run_


def test_it_can_be_fitted_in_a_thread() -> None:
    found: list[InfoAEClusterer] = []
    thread = threading.Thread(target=lambda: found.append(on_rows().fit(ROWS)))
    thread.start()
    thread.join()
    assert len(found[0].labels_) == 60


def test_a_stopped_training_is_no_fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("infoae.trainer.Trainer.fit", lambda self, *_: self._save(None, []) or False)
    with pytest.raises(KeyboardInterrupt, match="stopped and saved after step 0"):
        on_rows(folder=tmp_path).fit(ROWS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((5, 8, 8, 3), np.uint8), r"\(5, 8, 8, 3\): .*give X.transpose\(0, 3, 1, 2\)"),
        (np.zeros((5, 2, 8, 8), np.uint8), "1 or 3 channels"),
        (np.zeros((5, 8, 8), int), "uint8 in 0..255, or floats"),
        (np.full((5, 8, 8), 2.0), r"must lie in \[0, 1\]"),
        (np.full((5, 8, 8), np.nan), r"must lie in \[0, 1\]"),
        (np.zeros((1, 8, 8)), r"1 sample\(s\): at least 2"),
        (np.zeros((1, 8)), "1 sample"),
    ],
)
def test_what_is_no_sample_is_refused(given: NDArray[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_pictures().fit(given)


@pytest.mark.parametrize(
    ("parameters", "given", "message"),
    [
        ({"settings": ("model.widht=4",)}, ROWS, "model.width"),
        ({"recipe": "nowhere"}, ROWS, "no recipe or readable file 'nowhere'"),
        ({"n_clusters": 0}, ROWS, "num_categories"),
        ({}, "/nowhere/at/all", "no input /nowhere/at/all"),
        ({"recipe": "mnist"}, ["a\nb.png"], "is a name of several lines"),
        ({"recipe": "mnist"}, np.zeros((20, 8, 9), np.uint8), "8 x 9 pixels; the networks need square ones"),
    ],
)
def test_what_verbs_refuse_is_refused_in_their_words(parameters: dict[str, Any], given: Any, message: str) -> None:
    with pytest.raises(InfoAEError, match=message):
        on_rows(**parameters).fit(given)


def test_samples_of_another_kind_are_refused(
    fitted: InfoAEClusterer, of_rows: InfoAEClusterer, pictures: NDArray[np.uint8]
) -> None:
    for method in ("predict", "predict_proba", "transform", "score"):
        with pytest.raises(ValueError, match=r"was fitted on rows \(N, 4\)"):
            getattr(of_rows, method)(pictures)
        with pytest.raises(ValueError, match="was fitted on pictures"):
            getattr(fitted, method)(ROWS)
        with pytest.raises(NotFittedError):
            getattr(on_rows(), method)(ROWS)
    with pytest.raises(ValueError, match="is expecting 4 features"):
        of_rows.predict(ROWS[:, :3])
    with pytest.raises(ValueError, match=r"images must be \(B, 1, 28, 28\)"):
        fitted.predict(pictures[:, :, :20, :20])


def test_it_is_imported_only_when_asked_for() -> None:
    code = "import sys, infoae; print({'torch', 'sklearn', 'numpy'} & set(sys.modules)); infoae.InfoAEClusterer"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
