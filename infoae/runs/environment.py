"""What a run ran on: versions, device, threads. Also what `infoae doctor` looks at."""

from __future__ import annotations

import datetime as dt
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = (
    "infoae",
    "torch",
    "torchvision",
    "numpy",
    "faiss-cpu",
    "onnx",
    "onnxruntime-gpu",
    "onnxruntime",
    "ray",
    "wandb",
)


def versions() -> dict[str, str | None]:
    """Return the installed version of each package that matters, None where there is none."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def describe(device: torch.device, precision: torch.dtype, seed: int, step: int) -> dict[str, object]:
    """Return one entry of environment.json: this start, at `step`, of a run."""
    return {
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "step": step,
        "seed": seed,
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"cpu {platform.processor()}".strip(),
        "threads": torch.get_num_threads(),
        "precision": str(precision).removeprefix("torch."),
        "platform": platform.platform(),
        "versions": versions(),
    }
