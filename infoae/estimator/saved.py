"""What is kept of a fitted estimator: the run's own files, and one of parameters, labels and examples beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import atomic_folder
from infoae.runs import checkpoint
from infoae.runs import names as run_names
from infoae.runs.run import CONFIG, ESTIMATOR, LOCK, NAMES, Run

PARAMETERS = "parameters"

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Saved:
    """What lies beside a run's own files: parameters by name, and arrays; none of a run that no estimator saved."""

    parameters: dict[str, Any]
    tensors: Arrays


def write(folder: Path, run: Path, parameters: Mapping[str, Any], tensors: Arrays) -> Path:
    """Write a run and what lies beside its files to the new `folder`; returns it. Raises InfoAEError."""
    seed, kept = parameters["random_state"], dict(parameters)
    kept["random_state"] = int(seed) if isinstance(seed, Integral) else None  # a generator's state is no parameter
    kept["settings"] = list(parameters["settings"])
    kept["folder"] = None if parameters["folder"] is None else str(parameters["folder"])
    content = save(tensors, {PARAMETERS: json.dumps(kept, default=int)})
    path = folder.absolute()
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UsageError(f"{folder} exists already: delete it, or give another folder")
    try:
        with atomic_folder(path) as made:
            shutil.copytree(run, made, dirs_exist_ok=True, ignore=shutil.ignore_patterns(LOCK))
            (made / ESTIMATOR).write_bytes(content)
    except OSError as error:
        raise InfoAEError(f"cannot write {folder}: {one_line(error)}") from error
    return path


def read(run: Run, names: Collection[str]) -> Saved:
    """Return what lies beside a run's own files, its parameters being `names`. Raises InfoAEError if it is damaged.

    Of a run that no estimator saved the parameters are those of its configuration.
    """
    path = run.path / ESTIMATOR
    if not path.exists():
        config = run.config()
        return Saved({"n_clusters": config.model.num_categories, "random_state": config.seed}, {})
    try:
        with safe_open(path, "np") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dictionary
            parameters = json.loads(file.metadata()[PARAMETERS])
        if set(parameters) != set(names) or not {"examples", "examples_of"} <= set(tensors):
            raise ValueError("parameters or arrays are not those of an InfoAEClusterer")
        parameters["settings"] = tuple(parameters["settings"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InfoAEError(
            f"{path} is damaged ({one_line(error)}): remove it, only parameters and labels are lost"
        ) from None
    return Saved(parameters, tensors)


def names(run: Run, num_categories: int) -> list[str | None]:
    """Return the names of the categories, None for each that has none. Raises InfoAEError as `runs.names.stored`."""
    step = checkpoint.read(run.checkpoint("best")).step
    return run_names.stored(run, num_categories, step) or [None] * num_categories


def packed(run: Run) -> dict[str, bytes]:
    """Return the files that a trained model is loaded from, by their path in the run's folder."""
    paths = [run.path / CONFIG, run.path / NAMES, *sorted(run.checkpoint("best").iterdir())]
    return {str(path.relative_to(run.path)): path.read_bytes() for path in paths if path.exists()}


def unpacked(files: Mapping[str, bytes], folder: Path) -> Run:
    """Write such files to a run's folder in `folder`; returns the run."""
    for name, content in files.items():
        path = folder / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return Run(folder / "run")
