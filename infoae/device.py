"""Which device and which number format: the choice of `auto`, and clear refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from infoae.cpus import FreeCpus, available_cpus
from infoae.errors import UsageError


def resolve_device(wanted: str) -> torch.device:
    """Return the device for auto, cpu or cuda. Raises UsageError if CUDA is asked for and absent."""
    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise UsageError("device cuda was asked for but PyTorch sees no GPU: use --device cpu, or see infoae doctor")
    return torch.device("cuda" if available and wanted != "cpu" else "cpu")


def resolve_precision(wanted: str, device: torch.device) -> torch.dtype:
    """Return the autocast dtype for auto, fp32, bf16 or fp16 (float32 means no autocast).

    auto takes bfloat16 only where the hardware multiplies it: emulated on a CPU it ran 20 times slower than float32.
    """
    if wanted == "auto":
        if device.type == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
        # An older PyTorch cannot tell; fp32 is then the safe choice.
        capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
        fast = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
        return torch.bfloat16 if fast else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[wanted]


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which nothing is cast; tensors of shapes alone, on `meta`, are not cast in any case."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


@contextmanager
def on_free_cpus() -> Iterator[None]:
    """Let as many threads compute as other programs leave CPUs free when it begins, and then as many as before.

    Threads wait for each other at every operation: beside another program, one alone is faster than two.
    """
    most = torch.get_num_threads()
    if most > 1:
        torch.set_num_threads(FreeCpus(available_cpus()).threads(most))
    try:
        yield
    finally:
        torch.set_num_threads(most)


@contextmanager
def without_denormals() -> Iterator[None]:
    """Let a CPU take numbers too small for the format's full precision as 0, in this thread.

    It computes with them ten times as long and more, and trained networks have many, as probabilities of what they are
    sure is not so.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
