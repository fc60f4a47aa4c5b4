"""Checkpoints: a folder for each kept step, safetensors and JSON, written whole or not at all, never unpickled.

    step-00001407/  model.safetensors      every weight and buffer of the six networks
                    average.safetensors    their running average, where one is kept
                    optimizer.safetensors  Adam's moments, by parameter name
                    checkpoint.json        step, epoch, seconds trained, score, SHA-256 of the files and of itself

Random state needs no file: order, noise and augmentation follow from the seed and the step (see `random_streams`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, TypeAdapter
from safetensors import SafetensorError

from infoae import metrics
from infoae.errors import InfoAEError, one_line
from infoae.files import atomic_folder, remove, remove_leftovers, write_json

if TYPE_CHECKING:
    from torch import Tensor

FORMAT = 2
"""Of format 1, of version 0.1, checkpoint.json has no digest of itself."""

Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Checkpoint:
    """What checkpoint.json says about a saved step."""

    __pydantic_config__: ClassVar = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    step: Count
    """Steps done."""
    epoch: Count
    """Whole epochs done."""
    seconds: Annotated[float, Field(ge=0)]
    """Time spent training so far."""
    score: float | None
    """The mutual information in nats that chooses the best; None where it was saved between evaluations, or before
    everything was trained."""
    scaler: dict[str, float] = field(default_factory=dict)
    """State of the fp16 gradient scaler; empty otherwise."""
    sha256: dict[Annotated[str, Field(pattern=r"^[a-z]+\.safetensors$")], str] = field(default_factory=dict)
    format: int = FORMAT


_CHECKPOINT = TypeAdapter(Checkpoint)


@dataclass(frozen=True)
class State:
    """What training goes on from, as whoever trains gives and takes it."""

    tensors: Mapping[str, Mapping[str, Tensor]]
    """A file of tensors by name for each key: model, optimizer, and average where one is kept."""
    scaler: dict[str, float] = field(default_factory=dict)
    """State of the fp16 gradient scaler; empty otherwise."""


def save(folder: Path, checkpoint: Checkpoint, state: State) -> Path:
    """Write a checkpoint under `folder`, then remove what neither is nor decides the newest or best. Returns it."""
    from safetensors.torch import save as to_bytes  # PyTorch, without which the rest of this module is read

    path = folder / _name(checkpoint.step)
    if not path.exists():
        with atomic_folder(path) as temporary:
            hashes = {}
            for name, values in state.tensors.items():
                file = temporary / f"{name}.safetensors"
                # Not save_file: what a disk says is an error of safetensors' own there, which names no file.
                content = to_bytes({key: value.detach().cpu().contiguous() for key, value in values.items()})
                file.write_bytes(content)
                hashes[file.name] = hashlib.sha256(content).hexdigest()
            described = asdict(checkpoint) | {"sha256": hashes, "scaler": state.scaler}
            write_json(temporary / "checkpoint.json", described | {"digest": _digest(described)})
    prune(folder)
    return path


def load(path: Path) -> tuple[Checkpoint, State]:
    """Read a checkpoint whole. Raises InfoAEError naming the damaged file."""
    checkpoint = read(path)
    tensors = {name: _tensors(path, name, checkpoint) for name in _names(checkpoint)}
    return checkpoint, State(tensors, checkpoint.scaler)


def weights(path: Path) -> dict[str, Tensor]:
    """Return the weights to evaluate: the average where one is kept. Raises InfoAEError if damaged."""
    checkpoint = read(path)
    tensors = _tensors(path, "average" if "average" in _names(checkpoint) else "model", checkpoint)
    tensors.pop("n_averaged", None)
    return tensors


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turn what networks raise when a checkpoint is not theirs into an InfoAEError that names it."""
    try:
        yield
    except (RuntimeError, KeyError):
        raise InfoAEError(f"checkpoint {path} does not fit the run's config.yaml: one of them was changed") from None


def _names(checkpoint: Checkpoint) -> list[str]:
    return [Path(file).stem for file in checkpoint.sha256]


def read(path: Path) -> Checkpoint:
    """Return what checkpoint.json says. Raises InfoAEError if it is missing, damaged, or of a newer infoae."""
    try:
        content = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        made_in = content["format"]
        if type(made_in) is int and made_in > FORMAT:
            raise InfoAEError(f"checkpoint {path} has format {made_in}, this infoae reads {FORMAT}: upgrade")
        if made_in != 1 and content.pop("digest") != _digest(content):
            raise ValueError("checkpoint.json was changed")
        checkpoint = _CHECKPOINT.validate_json(json.dumps(content))  # Python's own objects are no strict dataclass
        if path.name != _name(checkpoint.step):
            raise ValueError(f"checkpoint.json is of step {checkpoint.step}")
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InfoAEError(
            f"checkpoint {path} is damaged ({one_line(error)}): remove that folder to use an older one"
        ) from None
    return checkpoint


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def newest(folder: Path) -> Path | None:
    """Return the folder of the last saved step, if there is one."""
    return max(_all(folder), default=None)


def best(folder: Path) -> Path | None:
    """Return the folder of the last checkpoint whose score is as good as the highest (`metrics.choose`).

    The newest if none was scored.
    """
    scored = _scored(folder)
    return scored[metrics.choose([score for score, _ in scored])][1] if scored else newest(folder)


def epochs_since_best(folder: Path) -> int:
    """Return how many whole epochs were done since the score was highest, 0 if none was scored."""
    scored, at_last = _scored(folder), newest(folder)
    if not scored or at_last is None:
        return 0
    return read(at_last).epoch - read(max(scored)[1]).epoch


def _scored(folder: Path) -> list[tuple[float, Path]]:
    """Return the score and folder of each checkpoint that has a score, oldest first."""
    scores = ((read(path).score, path) for path in _all(folder))
    return [(score, path) for score, path in scores if score is not None]


def _all(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*"))


def prune(folder: Path) -> None:
    """Remove checkpoints that neither are nor decide the newest or best, and unfinished ones. Raises InfoAEError."""
    highest = max(_scored(folder), default=(0.0, None))[1]  # what later scores are compared with
    keep = {newest(folder), best(folder), highest}
    for path in set(_all(folder)) - keep:
        remove(path)
    remove_leftovers(folder)


def _tensors(path: Path, name: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    from safetensors.torch import load as parse_tensors

    file = path / f"{name}.safetensors"
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != checkpoint.sha256[file.name]:
            raise InfoAEError(f"checkpoint file {file} is damaged (SHA-256 differs): remove {path} to use an older one")
        return parse_tensors(content)
    except (OSError, KeyError, SafetensorError) as error:
        raise InfoAEError(
            f"checkpoint file {file} cannot be read ({one_line(error)}): remove {path} to use an older one"
        ) from None
