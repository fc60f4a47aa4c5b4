"""Whether there is an NVIDIA GPU, asked of the driver itself: no torch here, and onnxruntime lists CUDA regardless."""

from __future__ import annotations

import ctypes
import sys


def why_no_gpu() -> str | None:
    """Return why NVIDIA's driver has no GPU for this process, or None if it has."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "this machine has no NVIDIA driver"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return "the NVIDIA driver finds no usable GPU"
    return None
