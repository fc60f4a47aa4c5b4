"""The choice of a device, and whether there is an NVIDIA GPU: asked of the driver, without torch or onnxruntime."""

from __future__ import annotations

import ctypes
import sys
from enum import StrEnum


class Device(StrEnum):
    """Where to compute: `auto` is a GPU if there is one that can be used, else the CPU."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Provider(StrEnum):
    """How onnxruntime computes on a GPU: operation by operation, as one CUDA graph, or by TensorRT's engines."""

    CUDA = "cuda"
    CUDA_GRAPH = "cuda-graph"
    TENSORRT = "tensorrt"


def why_no_gpu() -> str | None:
    """Return why NVIDIA's driver has no GPU for this process, or None if it has.

    onnxruntime would not tell: its GPU build lists CUDA on every machine.
    """
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "this machine has no NVIDIA driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no usable GPU"
    return None
