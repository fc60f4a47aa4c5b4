"""What infoae runs on here: versions, devices, onnxruntime's providers, Ray, and what is wrong with them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

from infoae.data import bundled_mnist
from infoae.device import resolve_precision
from infoae.errors import InfoAEError, one_line
from infoae.gpu import why_no_gpu
from infoae.runs import environment

MINIMUM_DISK_GB = 1.0


def examine() -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what was found by section, and a line for each problem with how to mend it."""
    problems: list[str] = []
    versions = environment.versions()
    found = {
        "versions": versions,
        "devices": _devices(),
        "onnxruntime": _onnxruntime(versions, problems),
        "ray": _ray(versions, problems),
        "data": _data(problems),
        "disk": _disk(problems),
    }
    return found, problems


def _devices() -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "cpu_threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda_driver": why_no_gpu() is None,
        "auto_precision": str(resolve_precision("auto", device)).removeprefix("torch."),
    }


def _onnxruntime(versions: dict[str, str | None], problems: list[str]) -> dict[str, Any]:
    if versions["onnxruntime"] and versions["onnxruntime-gpu"]:
        problems.append(
            "onnxruntime and onnxruntime-gpu are both installed and break each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install onnxruntime-gpu"
        )
    try:
        import onnxruntime
    except ImportError as error:
        problems.append(
            f"onnxruntime cannot be imported ({one_line(error)}): "
            "pip install onnxruntime-gpu, or onnxruntime without a GPU"
        )
        return {"usable_providers": []}
    # onnxruntime-gpu lists CUDA on machines that have none
    listed = onnxruntime.get_available_providers()
    usable = [name for name in listed if name == "CPUExecutionProvider" or why_no_gpu() is None]
    return {"usable_providers": usable}


def _ray(versions: dict[str, str | None], problems: list[str]) -> dict[str, Any]:
    if versions["ray"] is None:
        problems.append("ray is not installed: pip install 'ray[default,train,tune]'")
    return {"version": versions["ray"], "address": os.environ.get("RAY_ADDRESS", "none set: one machine")}


def _data(problems: list[str]) -> dict[str, Any]:
    try:
        for name in bundled_mnist.MD5:
            bundled_mnist.read(name)
    except InfoAEError as error:
        problems.append(str(error))
        return {"mnist": "damaged"}
    return {"mnist": "verified"}


def _disk(problems: list[str]) -> dict[str, Any]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / 1e9
    if free < MINIMUM_DISK_GB:
        problems.append(f"{here} has {free:.2f} GB free: a run needs room for its checkpoints")
    if not os.access(here, os.W_OK):
        problems.append(f"{here} is not writable: run from another folder, or give --runs")
    return {"free_gb": round(free, 1), "writable": os.access(here, os.W_OK)}
