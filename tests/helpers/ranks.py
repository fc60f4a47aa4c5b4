"""One rank of a training by several processes, started by the fixture `start`: no Ray, over gloo."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from infoae import data, step
from infoae.category_model import CategoryModel
from infoae.config import Config, recipes
from infoae.data.sampler import batches
from infoae.distributed import collectives
from infoae.errors import InfoAEError
from infoae.methods.registry import method_of
from infoae.methods.schedules import schedule_of
from infoae.model import InfoAE
from infoae.runs.run import Run
from infoae.trainer import Trainer
from tests.helpers.settings import TINY

STEPS = 20  # unless a scenario says so
Start = Callable[..., list[Any]]
"""The fixture `start`: runs a scenario on so many processes and returns what each came to."""
SETTINGS = (
    *TINY,
    "data.limit=299",  # six batches of 50, the last of 49: shares are uneven
    "objective.weights.mutual_information=1",
    "optim.ema_decay=0.9",
    "model.channels=1",
    "model.image_size=28",
)
OVER = (
    "model.num_over_categories=20",
    "model.num_heads=3",
    "objective.weights.pseudo_label=1",
    "objective.pairs=neighbours",
    "stages.mutual_information_epochs=1",
    "objective.weights.latent_matching=1",
    "augment.elastic=1",
)
FEATURES = (
    "features.encoder=not-opened.onnx",
    "features.dim=12",
    "neighbours.source=given",
    "objective.weights.classification_encoded=0",
)


def main(scenario: str, folder: Path, rank: int, ranks: int, environment: dict[str, str]) -> None:
    """Run one rank of a scenario in a process of its own; what it came to is written into the folder."""
    os.environ.update(environment)
    np.random.seed(0)  # noqa: NPY002  the trainer must not depend on it
    if ranks > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    run_config = recipes.load(folder / "config.yaml")
    scenarios: dict[str, Callable[[Config, Path], Any]]
    scenarios = {
        "step": take_step,
        "few steps": take_few_steps,
        "steps": take_steps,
        "fail": fail,
        "run": complete_run,
        "precision": differ,
    }
    result = scenarios[scenario](run_config, folder)
    torch.save(result, folder / f"{rank}.pt")
    if ranks > 1:
        dist.destroy_process_group()


def take_step(run_config: Config, folder: Path) -> dict[str, Any]:
    return take_steps(run_config, folder, 1)


def take_few_steps(run_config: Config, folder: Path) -> dict[str, Any]:
    return take_steps(run_config, folder, 6)


def take_steps(run_config: Config, _folder: Path, num_steps: int = STEPS) -> dict[str, Any]:
    """Take steps on the device of the settings; return what this rank saw, computed and came to, on the CPU."""
    images = torch.tensor(data.load(run_config.data, "train").images)
    torch.manual_seed(0)
    model = method_of(run_config).build(run_config)
    sharpen(model)
    taken = step.Step(model, run_config, torch.device(run_config.train.device), torch.float32)
    schedule = schedule_of(run_config)
    losses, noise, seen, gradients, buffers, num_sums = [], [], [], [], [], []
    initial = on_cpu(taken.model)
    per_epoch = len(batches(run_config.seed, 0, len(images), run_config.train.batch_size))
    for index in range(num_steps):
        epoch, position = divmod(index, per_epoch)
        indices = batches(run_config.seed, epoch, len(images), run_config.train.batch_size)[position]
        share = collectives.share(len(indices))
        mine = indices[share.slice]
        partners = images[len(images) - 1 - mine] if run_config.objective.pairs == "neighbours" else None
        labels = (
            torch.from_numpy(np.stack([mine % 11 - 1, mine % 7 - 1])) if schedule.num_pseudo_labels(epoch) else None
        )
        stage = schedule.stage(epoch)
        features = None
        if run_config.features.encoder is not None:
            features = torch.stack([features_of(images[rows]) for rows in (mine, len(images) - 1 - mine)])
        batch = taken.draw(images[mine], index, stage, share, partners)
        noise.append([batch.x_twin, batch.u, batch.c])
        with counted() as calls:
            losses.append(taken(images[mine], index, stage, share.total, partners, labels, features).metrics())
        num_sums.append(len(calls))
        seen.append(mine)
        gradients.append(flat(p.grad for p in taken.model.parameters() if p.grad is not None))
        buffers.append(flat(taken.model.buffers()))
    return {
        "initial": initial,
        "losses": losses,
        "noise": [[None if n is None else n.cpu().contiguous().clone() for n in tensors] for tensors in noise],
        "seen": seen[:per_epoch],
        "gradients": gradients,
        "buffers": buffers,
        "collectives": num_sums,
        "model": on_cpu(taken.model),
        "average": None if taken.average is None else on_cpu(taken.average.module),
    }


def assert_follows(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Compare a few steps of several processes with those of one."""
    first = theirs["gradients"][0]
    assert (ours["gradients"][0] - first).norm() < 1e-3 * first.norm()
    for one, other in zip(ours["losses"], theirs["losses"], strict=True):
        for measured in (one, other):
            measured.pop("discriminator_accuracy", None)
        assert one == pytest.approx(other, rel=2e-3, abs=2e-3)


def features_of(images: Tensor) -> Tensor:
    """Return features (B, 12) of images (B, 1, 28, 28), the same of the same image."""
    return torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, (3, 4)).flatten(1)


@contextmanager
def counted() -> Iterator[list[str]]:
    """Give the names of the collectives called within."""
    calls: list[str] = []

    def counting(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return original(*arguments, **options)

        return call

    with ExitStack() as stack:
        for name in ("all_reduce", "all_gather", "broadcast"):
            stack.enter_context(mock.patch.object(dist, name, counting(name, getattr(dist, name))))
        yield calls


def on_cpu(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def sharpen(model: CategoryModel) -> None:
    """Let the classifier answer differently for different images: untrained, its gradient would be all rounding."""
    with torch.no_grad():
        *_, last = [p for p in (*model.encoder.parameters(), *model.classifier.parameters()) if p.ndim == 2]
        if last.std() < last.shape[1] ** -0.5:  # heads on features begin larger
            last.mul_(30)


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().cpu().double().reshape(-1) for tensor in tensors])


def fail(run_config: Config, _folder: Path) -> str:
    """Take a step in which one rank alone has a loss that is no number; return the error this rank raises."""
    images = torch.tensor(data.load(run_config.data, "train").images)
    taken = step.Step(InfoAE(run_config.model), run_config, torch.device("cpu"), torch.float32)
    if collectives.is_main():  # behind the last normalisation, which would spread it to the others
        *_, bias = taken.model.classifier.parameters()
        bias.data.fill_(float("nan"))
    before = flat(taken.model.parameters()).nan_to_num()
    try:
        taken(images[:50][collectives.share(50).slice], 0, schedule_of(run_config).stage(0), 50)
    except InfoAEError as error:
        assert torch.equal(before, flat(taken.model.parameters()).nan_to_num())
        return str(error)
    return "no error"


def differ(_run_config: Config, _folder: Path) -> str:
    """Resolve a precision that only the main rank has; return the error this rank raises."""
    from infoae.cluster import worker  # imports Ray, which takes seconds

    formats = torch.bfloat16 if collectives.is_main() else torch.float32
    worker.resolve_precision = lambda *_: formats  # type: ignore[attr-defined]
    try:
        worker.common_precision("auto", torch.device("cpu"))
    except InfoAEError as error:
        return str(error)
    return "no error"


def complete_run(run_config: Config, folder: Path) -> dict[str, Any]:
    """Train until a stop that one rank alone asks for, then resume to the end from the files."""
    train = data.load_training(run_config.data)

    def trainer() -> Trainer:
        return Trainer(Run(folder), run_config, train, torch.device("cpu"), torch.float32)

    first = trainer()
    sharpen(first.step.model)
    last = collectives.size() - 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    finished = first.fit([], lambda: rank == last and first.done == 4)
    if dist.is_initialized():
        dist.barrier()  # the main rank writes its checkpoint after the last collective
    second = trainer()
    second.resume()
    resumed_at = second.done
    return {
        "finished": [finished, second.fit([])],
        "steps": [first.done, resumed_at, second.done],
        "model": second.step.model.state_dict(),
    }
