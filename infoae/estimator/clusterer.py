"""`InfoAEClusterer`: the verbs train, classify and generate as one scikit-learn estimator."""

from __future__ import annotations

import contextlib
import io
import math
import shutil
import sys
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from infoae import choosing, launch
from infoae.category_model import CategoryModel
from infoae.config import recipes
from infoae.device import resolve_device
from infoae.estimator import page, saved
from infoae.estimator.samples import PICTURES, Files, Inputs, Pictures, Rows, Samples, files_of, pictures_of
from infoae.evaluation import evaluate
from infoae.methods.registry import model_of
from infoae.model import InfoAE
from infoae.planning import Plan, planned
from infoae.runs.run import Run

AUTO = "auto"

Floats = NDArray[np.float32]


class InfoAEClusterer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Categories of unlabelled pictures, or of rows of features, with scikit-learn's methods and names.

    X is one of these, and has N samples:

    - pictures: an array (N, H, W), or (N, C, H, W) of 1 or 3 channels; uint8 in 0..255, or floats in [0, 1];
    - files: a path as `infoae train --data PATH` takes it (a folder and all below, a pattern, list, archive, table or
      array), or a list of paths of picture files. Samples are in the order in which infoae lists them;
    - rows: an array (N, D) of numbers, taken as features of a frozen encoder, near where the angle between them, from
      their mean, is small. They have no pictures: `sample` is not there.

    Args:
        n_clusters: K, number of categories; "auto" finds it.
        recipe: A recipe's name or a YAML file. "auto" tries those for strokes, things, textures and sound on pictures,
            and is photos-features for rows.
        settings: What `--set` would be given, as ("model.width=16",).
        epochs: Passes over the samples; the recipe's if None.
        n_init: Runs to train, of consecutive seeds; the one of the highest score counts.
        random_state: Seed, RandomState, or None for another one at each fit.
        device: auto, cpu or cuda.
        folder: Where runs are kept, as `--runs`, and under `arrays` the arrays trained on. A temporary one if None,
            which goes with the estimator: `save` keeps its run.
        verbose: Whether progress goes to stderr.

    Attributes:
        labels_: Category of each sample of fit (N,) in 0..K-1; -1 where a file cannot be read.
        n_clusters_: K, also where it was found.
        n_features_in_: Values of a sample: D of rows, pixels times channels of pictures.
        model_: The trained `infoae.category_model.CategoryModel`.
        run_: The run's folder.
        category_names_: Names of the categories, from `infoae name`; None for each that has none.

    Bad X raises ValueError, and what the verbs refuse an `infoae.errors.InfoAEError`, as one line.
    """

    labels_: NDArray[np.int64]
    n_clusters_: int
    n_features_in_: int
    model_: CategoryModel
    run_: Path
    category_names_: list[str | None]

    def __init__(
        self,
        n_clusters: int | str = 10,
        *,
        recipe: str = AUTO,
        settings: Sequence[str] = (),
        epochs: int | None = None,
        n_init: int = 1,
        random_state: int | np.random.RandomState | None = None,
        device: str = AUTO,
        folder: str | Path | None = None,
        verbose: bool = False,
    ) -> None:
        self.n_clusters = n_clusters
        self.recipe = recipe
        self.settings = settings
        self.epochs = epochs
        self.n_init = n_init
        self.random_state = random_state
        self.device = device
        self.folder = folder
        self.verbose = verbose

    def fit(self, X: Any, y: object = None) -> Self:  # noqa: ARG002  scikit-learn's signature
        """Train on X without labels, as `infoae train` does; y is not looked at.

        Of files a tenth is kept for the tests of `infoae evaluate`; arrays are trained on whole. Raises ValueError for
        an X of another kind, InfoAEError as `infoae train`, KeyboardInterrupt where it was stopped.
        """
        samples = self._read(X, fits=True)
        root = Path(tempfile.mkdtemp(prefix="infoae-")) if self.folder is None else Path(self.folder)
        try:
            with contextlib.nullcontext() if self.verbose else contextlib.redirect_stderr(io.StringIO()):
                plan, executor = self._plan(samples, root), launch.Executor()
                if self.n_init == 1:
                    result = launch.run(plan, executor)
                else:
                    result = launch.run_restarts(plan, self.n_init, executor, _say)
            if not result.finished:
                raise KeyboardInterrupt(f"stopped and saved after step {result.step}: {result.folder}")
            self._take(Run(Path(result.folder)), root if self.folder is None else None)
        except BaseException:
            if self.folder is None:
                shutil.rmtree(root, ignore_errors=True)
            raise
        self.labels_, self._examples = self._label(samples)
        return self

    def predict(self, X: Any) -> NDArray[np.int64]:
        """Return the category (N,) of each sample, in 0..K-1; -1 where a file cannot be read."""
        return _labels(self.predict_proba(X))

    def predict_proba(self, X: Any) -> Floats:
        """Return the probability of each category (N, K), float32; NaN where a file cannot be read."""
        samples = self._read(X)
        return self._answers(samples, self.model_.classify, self.n_clusters_)

    def transform(self, X: Any) -> Floats:
        """Return the latents (N, Z), float32; NaN where a file cannot be read."""
        samples = self._read(X)
        return self._answers(samples, self.model_.encode, self.model_.latent_dim)

    def score(self, X: Any, y: object = None) -> float:  # noqa: ARG002  scikit-learn's signature
        """Return the label-free score in nats, at most log K; y is not looked at.

        It is the mutual information between the answers for the samples and for what is like them: an augmented twin
        of each picture, the nearest other of each row (`infoae.evaluation.evaluate.LabelFree`). It is of all samples
        together, not a mean over them: of few it is too high. Scores of different K, or of rows and pictures, cannot be
        compared. Files that cannot be read are left out.
        """
        samples = self._read(X)
        inputs = np.concatenate([self._seen(inputs) for inputs, _ in samples.blocks(self.model_)])
        partners = evaluate.partners_of(inputs)
        return evaluate.label_free(self.model_, inputs, partners).mutual_information

    def sample(self, category: int, n: int = 1) -> Floats:
        """Draw n pictures (n, C, H, W) of a category, floats in [0, 1]: the same for the same `random_state`.

        Raises NotImplementedError with the reason where none can be drawn: of rows, or by the method.
        """
        check_is_fitted(self)
        if self._on_rows:
            raise NotImplementedError("the samples of fit were rows: nothing has learnt to draw a picture")
        return np.asarray(self.model_.generate(category, n, _seed(self.random_state)).numpy())

    def save(self, folder: str | Path) -> Path:
        """Write the run, with parameters and labels, to a new folder; returns it. Nothing is pickled.

        It is a run as any other: `infoae name`, `infoae export` and `infoae.load` take it. Raises InfoAEError if there
        is something already, or it cannot be written.
        """
        check_is_fitted(self)
        tensors: saved.Arrays = {"examples": self._examples[0], "examples_of": self._examples[1]}
        if hasattr(self, "labels_"):
            tensors["labels"] = self.labels_
        return saved.write(Path(folder), self.run_, self.get_params(deep=False), tensors)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Return the estimator that was saved in a folder, or that of any run, which has no `labels_`.

        Raises InfoAEError if there is no run, or it is damaged. Nothing is unpickled.
        """
        run = Run.open(folder)
        kept = saved.read(run, cls._get_param_names())
        found = cls(**kept.parameters)
        found._take(run, None)
        if "labels" in kept.tensors:
            found.labels_ = kept.tensors["labels"]
            found._examples = kept.tensors["examples"], kept.tensors["examples_of"]
        return found

    def _plan(self, samples: Samples, root: Path) -> Plan:
        """Return what is about to be trained, checked. Raises InfoAEError."""
        own = samples.settings(root)
        number = str(self.n_clusters)
        given = [f"model.num_categories={number}", f"seed={_seed(self.random_state)}", f"train.device={self.device}"]
        given += [] if self.epochs is None else [f"train.epochs={self.epochs}"]

        def plan_of(recipe: str, kind: Sequence[str] = ()) -> Plan:
            settings = [*kind, *self.settings]
            settings += [*recipes.over_categories(recipe, settings, number), *given, *own]
            if not isinstance(samples, Files):
                settings += _fewer_neighbours(recipe, settings, len(samples))
            return planned(recipe, settings, root, None)

        if self.recipe != AUTO:
            return plan_of(self.recipe)
        plan = plan_of(samples.recipe or PICTURES)
        if samples.recipe is not None:
            return plan
        found = choosing.chosen(plan)
        return plan_of(found.recipe, found.settings)

    def _take(self, run: Run, temporary: Path | None) -> None:
        """Become the estimator of a finished run; `temporary` is a folder that goes with it."""
        model = model_of(run).to(resolve_device(self.device))
        if finalizer := getattr(self, "_finalizer", None):
            finalizer()
        self._finalizer = None if temporary is None else weakref.finalize(self, shutil.rmtree, temporary, True)
        self._reduced_jpeg = bool(run.config().data.reduced_jpeg)
        self.run_, self.model_, self.n_clusters_ = run.path, model, model.num_categories
        self.n_features_in_ = _values(model)
        self.category_names_ = saved.names(run, model.num_categories)
        self._examples = page.Surest(model).examples()

    def _read(self, X: Any, *, fits: bool = False) -> Samples:
        """Return what X is. Raises ValueError if it is nothing that can be trained on, or that this was trained for."""
        if not fits:
            check_is_fitted(self)
        samples: Samples = files_of(X) or self._array(X, fits=fits)
        if isinstance(samples, Files) and not fits:
            samples = replace(samples, reduced_jpeg=self._reduced_jpeg)
        if not fits and self._on_rows and not isinstance(samples, Rows):
            raise ValueError(f"X: {type(self).__name__} was fitted on rows (N, {self.n_features_in_})")
        return samples

    def _array(self, X: Any, *, fits: bool) -> Rows | Pictures:
        least = 2 if fits else 1
        if (X if hasattr(X, "ndim") else np.asarray(X)).ndim in (3, 4):
            return pictures_of(np.asarray(X), least)
        if not fits and not self._on_rows:
            raise ValueError(f"X: {type(self).__name__} was fitted on pictures (N, H, W) or (N, C, H, W), or files")
        return Rows(validate_data(self, X, reset=fits, dtype=np.float32, ensure_min_samples=least))

    @property
    def _on_rows(self) -> bool:
        return not self.model_.encodes_images

    def _answers(self, samples: Samples, function: Callable[[Inputs], torch.Tensor], width: int) -> Floats:
        """Return what `function` gives for each sample (N, width); NaN for those that cannot be read."""
        parts = [np.empty((0, width), np.float32)]
        for inputs, readable in samples.blocks(self.model_):
            part = np.full((len(readable), width), np.nan, np.float32)
            part[readable] = function(inputs).numpy()
            parts.append(part)
        return np.concatenate(parts)

    def _label(self, samples: Samples) -> tuple[NDArray[np.int64], page.Examples]:
        """Return the category of each sample (N,), and pictures of which the model is surest."""
        surest = page.Surest(self.model_)

        def classify(inputs: Inputs) -> torch.Tensor:
            probabilities = self.model_.classify(inputs)
            if inputs.dtype == np.uint8:
                surest.add(inputs, probabilities.numpy())
            return probabilities

        return _labels(self._answers(samples, classify, self.n_clusters_)), surest.examples()

    def _seen(self, inputs: Inputs) -> Inputs:
        """Return what the model's own encoder sees of samples: of a frozen encoder's pictures their features."""
        if isinstance(self.model_, InfoAE) and self.model_.features_dim is not None and inputs.ndim == 4:
            return self.model_.to_encoder(inputs).numpy()
        return inputs

    @property
    def _n_features_out(self) -> int:
        return self.model_.latent_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = []  # networks compute in float32
        return tags

    def _html_repr(self) -> str:
        """Return what notebooks show: scikit-learn's diagram, and the categories below it."""
        shown: str = super()._html_repr()
        if not hasattr(self, "model_"):
            return shown
        return shown + page.categories(getattr(self, "labels_", None), self.category_names_, *self._examples)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies and other processes; the run goes with it, as its files."""
        state: dict[str, Any] = super().__getstate__()
        if "run_" in state:
            state = {key: value for key, value in state.items() if key not in ("model_", "_finalizer")}
            state["run_"] = saved.packed(Run(self.run_))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        files = state.get("run_")
        super().__setstate__({key: value for key, value in state.items() if key != "run_"})
        if files is not None:
            folder = Path(tempfile.mkdtemp(prefix="infoae-"))
            examples = self._examples
            self._take(saved.unpacked(files, folder), folder)
            self._examples = examples


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """Return a whole number as it is, so that it is the seed of `--seed`; another one is drawn."""
    return int(random_state if isinstance(random_state, Integral) else check_random_state(random_state).randint(2**31))


def _labels(probabilities: Floats) -> NDArray[np.int64]:
    """Probabilities (N, K) -> categories (N,), -1 where these are not known."""
    unknown = np.isnan(probabilities[:, 0])
    return np.where(unknown, -1, np.where(unknown[:, None], 0, probabilities).argmax(1)).astype(np.int64)


def _values(model: CategoryModel) -> int:
    """Return the number of values of a sample."""
    return math.prod(model.image_shape) if model.encodes_images else model.features_dim or 0


def _fewer_neighbours(recipe: str, settings: Sequence[str], num_samples: int) -> list[str]:
    """Return what `--set` would be given so that each of a few samples has no more neighbours than there are others."""
    rule, others = recipes.load(recipe, settings).neighbours, num_samples - 1
    counts = {"count": rule.count, "merging_count": rule.merging_count}
    return [f"neighbours.{name}={others}" for name, count in counts.items() if count is not None and count > others]


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
