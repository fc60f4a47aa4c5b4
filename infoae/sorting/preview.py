"""`infoae sort --dry-run`: what would be done, how long and in how much memory. Nothing is written."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae import memory
from infoae.config import recipes
from infoae.cpus import available_cpus
from infoae.data import ImageSet
from infoae.deploy.bundle import Bundle
from infoae.device import resolve_device, resolve_precision
from infoae.inputs.decoding import decode
from infoae.planning import Plan, with_image_shape
from infoae.sorting import inventory, labelling, pace, sort, training
from infoae.sorting.inventory import Inventory
from infoae.sorting.state import BUNDLE, Asked, Progress

SAMPLE = 200
"""Pictures that are decoded, to see how long that takes; training is rehearsed on them."""


def preview(photos: Path, out: Path, asked: Asked, *, again: bool) -> dict[str, Any]:
    """Return in words, by name, what `sort` would do with the same arguments. Raises InfoAEError as it would."""
    progress = sort.begun(photos, out, asked, again)
    found = inventory.take(photos, progress.image)
    told = {"pictures": found.num_pictures(), "image_shape": list(progress.image.shape), "out": str(out)}
    if progress.exported:
        work = labelling.compared(out, Bundle.load(out / BUNDLE), found, first=progress.likeness is None)
        return told | {"new": work.new, "changed": work.changed, "gone": work.gone, "train": "no: it is done"}
    sort.check_enough(photos, found)
    started = time.perf_counter()
    pictures = _sample(found, progress)
    reading = (time.perf_counter() - started) / len(pictures) / available_cpus()
    count = found.num_pictures() or len(pictures)
    sources = [progress.asked.config] if progress.asked.config else training.candidates()
    return told | {
        "goes_on": out.exists(),
        "recipe": progress.asked.config or f"one of {', '.join(sources)}, tried on some of the pictures first",
        "prepare_seconds": _round(count * reading),
        "training": {source: _training(source, progress, pictures, count, out) for source in sources},
        "label_seconds": _round(count * reading),
    }


def _sample(found: Inventory, progress: Progress) -> NDArray[np.uint8]:
    """Return some readable pictures as they would be trained on, (N, C, H, W)."""
    plain = [number for number in range(len(found)) if number not in found.containers]
    if plain:
        chosen = [plain[row] for row in np.unique(np.linspace(0, len(plain) - 1, SAMPLE).astype(int))]
        block = next(found.source(chosen).blocks(SAMPLE))
    else:
        block = next(found.container(min(found.containers)).blocks(SAMPLE))
    return decode(block, progress.image).images


def _training(
    source: str, progress: Progress, pictures: NDArray[np.uint8], count: int, out: Path
) -> dict[str, float | int | str]:
    """Return epochs, minutes and memory of a training, by a rehearsal on the pictures, repeated as need be."""
    train = ImageSet(np.resize(pictures, (min(count, pace.PICTURES), *pictures.shape[1:])), None)
    settings = training.settings_of(source, [], progress.asked)
    config = with_image_shape(recipes.load(source, settings), train)
    device = resolve_device(config.train.device)
    precision = resolve_precision(config.train.precision, device)
    found = pace.measured(Plan(config, train, train, device, precision, out, source, None, None))
    if progress.asked.minutes is not None:
        shorter, _ = pace.fitted(config, count, found, 60 * progress.asked.minutes)
        config = recipes.load(source, [*settings, *shorter])
        config = with_image_shape(config, train)
    return {
        "categories": str(config.model.num_categories),
        "epochs": config.train.epochs,
        "minutes": _round(found.seconds(config, count) / 60),
        "memory_gb": memory.of_training(config, precision).gigabytes,
        "device": str(device),
    }


def _round(value: float) -> float:
    return float(f"{value:.2g}")
