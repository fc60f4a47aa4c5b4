"""Checkpoints: a folder for each kept step, safetensors and JSON, written whole or not at all, never unpickled.

    step-00001407/  model.safetensors      every weight and buffer of the six networks
                    average.safetensors    their running average, where one is kept
                    optimizer.safetensors  Adam's moments, by parameter name
                    checkpoint.json        step, epoch, seconds trained, label-free score, SHA-256 of the files

Random state needs no file: order, noise and augmentation follow from the seed and the step (see `seeds`).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor, nn

from infoae import metrics
from infoae.errors import InfoAEError
from infoae.files import atomic_folder, write_json
from infoae.step import Step

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What checkpoint.json says about a saved step."""

    step: int
    """Steps done."""
    epoch: int
    """Whole epochs done."""
    seconds: float
    """Time spent training so far."""
    score: float | None
    """The label-free score in nats measured at this step; None where it was saved between evaluations, or before
    everything was trained."""
    scaler: dict[str, float] = field(default_factory=dict)
    """State of the fp16 gradient scaler; empty otherwise."""
    sha256: dict[str, str] = field(default_factory=dict)
    format: int = FORMAT


def save(folder: Path, checkpoint: Checkpoint, step: Step) -> Path:
    """Write a checkpoint under `folder`, then remove what neither is nor decides the newest or best. Returns it."""
    path = folder / f"step-{checkpoint.step:08d}"
    if not path.exists():
        with atomic_folder(path) as temporary:
            tensors = {"model": step.model.state_dict(), "optimizer": _optimizer_state(step)}
            if step.average is not None:
                tensors["average"] = step.average.module.state_dict() | {"n_averaged": step.average.n_averaged}
            hashes = {}
            for name, values in tensors.items():
                file = temporary / f"{name}.safetensors"
                save_file({key: value.detach().cpu().contiguous() for key, value in values.items()}, file)
                hashes[file.name] = hashlib.sha256(file.read_bytes()).hexdigest()
            content = asdict(checkpoint) | {"sha256": hashes, "scaler": step.scaler.state_dict()}
            write_json(temporary / "checkpoint.json", content)
    _prune(folder)
    return path


def restore(path: Path, step: Step) -> Checkpoint:
    """Put a checkpoint's state into `step`. Raises InfoAEError naming the damaged file."""
    checkpoint = read(path)
    _load_module(step.model, _tensors(path, "model", checkpoint), path)
    if step.average is not None:
        average = _tensors(path, "average", checkpoint)
        step.average.n_averaged.copy_(average.pop("n_averaged"))
        _load_module(step.average.module, average, path)
    _set_optimizer_state(step, _tensors(path, "optimizer", checkpoint))
    if checkpoint.scaler:
        step.scaler.load_state_dict(checkpoint.scaler)
    return checkpoint


def load_weights(path: Path, model: nn.Module) -> None:
    """Put the weights to evaluate into `model`: the average where one is kept. Raises InfoAEError if damaged."""
    checkpoint = read(path)
    name = "average" if "average.safetensors" in checkpoint.sha256 else "model"
    tensors = _tensors(path, name, checkpoint)
    tensors.pop("n_averaged", None)
    _load_module(model, tensors, path)


def read(path: Path) -> Checkpoint:
    """Return what checkpoint.json says. Raises InfoAEError if it is missing, damaged, or of a newer infoae."""
    try:
        content = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        checkpoint = Checkpoint(**content)
    except (OSError, ValueError, TypeError) as error:
        raise InfoAEError(f"checkpoint {path} is damaged ({error}): remove that folder to use an older one") from None
    if checkpoint.format > FORMAT:
        raise InfoAEError(f"checkpoint {path} has format {checkpoint.format}, this infoae reads {FORMAT}: upgrade")
    return checkpoint


def newest(folder: Path) -> Path | None:
    """Return the folder of the last saved step, if there is one."""
    return max(_all(folder), default=None)


def best(folder: Path) -> Path | None:
    """Return the folder of the last checkpoint whose label-free score is as good as the highest (`metrics.choose`).

    The newest if none was scored.
    """
    scored = _scored(folder)
    return scored[metrics.choose([score for score, _ in scored])][1] if scored else newest(folder)


def epochs_since_best(folder: Path) -> int:
    """Return how many whole epochs were done since the label-free score was highest, 0 if none was scored."""
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


def _prune(folder: Path) -> None:
    highest = max(_scored(folder), default=(0.0, None))[1]  # what later scores are compared with
    keep = {newest(folder), best(folder), highest}
    unfinished = set(folder.glob(".step-*"))  # of a process that died while it wrote
    for path in {*_all(folder), *unfinished} - keep:
        shutil.rmtree(path)


def _tensors(path: Path, name: str, checkpoint: Checkpoint) -> dict[str, Tensor]:
    file = path / f"{name}.safetensors"
    try:
        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != checkpoint.sha256[file.name]:
            raise InfoAEError(f"checkpoint file {file} is damaged (SHA-256 differs): remove {path} to use an older one")
        return load(content)
    except (OSError, KeyError, SafetensorError) as error:
        raise InfoAEError(
            f"checkpoint file {file} cannot be read ({error}): remove {path} to use an older one"
        ) from None


def _load_module(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        raise InfoAEError(f"checkpoint {path} does not fit the run's config.yaml: one of them was changed") from None


def _parameters(step: Step) -> dict[str, tuple[torch.optim.Optimizer, nn.Parameter]]:
    optimizers = {
        parameter: optimizer
        for optimizer in (step.model_optimizer, step.critic_optimizer)
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {name: (optimizers[parameter], parameter) for name, parameter in step.model.named_parameters()}


def _optimizer_state(step: Step) -> dict[str, Tensor]:
    return {
        f"{name}:{key}": value
        for name, (optimizer, parameter) in _parameters(step).items()
        for key, value in optimizer.state[parameter].items()
    }


def _set_optimizer_state(step: Step, tensors: dict[str, Tensor]) -> None:
    parameters = _parameters(step)
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(":")
        optimizer, parameter = parameters[name]
        # Keep the parameter's memory layout: the update runs over both side by side.
        state: Any = torch.empty_like(parameter) if value.shape == parameter.shape else value.to(parameter.device)
        optimizer.state[parameter][key] = state.copy_(value) if value.shape == parameter.shape else state
