"""Opening a graph in onnxruntime, and running it: the right provider, the right number of threads, and no noise."""

from __future__ import annotations

import contextlib
import io
from typing import Any, Literal

from infoae.cpus import available_cpus
from infoae.errors import InfoAEError, one_line
from infoae.gpu import Device, why_no_gpu

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_FATAL = 4  # onnxruntime's log severity: failures come as exceptions, everything below is noise


def run_session(session: Any, outputs: list[str], inputs: dict[str, Any], batch_size: int = 0) -> list[Any]:
    """Return the arrays `outputs` for `inputs` of N rows each, both by name.

    A GPU gets `batch_size` rows where N is less: for each other number onnxruntime plans every convolution anew.
    Raises InfoAEError if onnxruntime cannot compute them.
    """
    count = len(next(iter(inputs.values())))
    missing = batch_size - count
    if missing > 0 and device_of(session) == "cuda":
        import numpy as np

        inputs = {
            name: np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])
            for name, rows in inputs.items()
        }
    try:
        arrays: list[Any] = session.run(outputs, inputs)
    except Exception as error:  # out of GPU memory, say
        raise InfoAEError(f"onnxruntime failed: {one_line(error)}; try a smaller batch") from error
    return [array[:count] for array in arrays]


def device_of(session: Any) -> Literal["cuda", "cpu"]:
    """Return the device that the session really got."""
    return "cuda" if session.get_providers()[0] == _CUDA else "cpu"


def session_of(content: bytes, name: str, device: str, num_threads: int | None = None) -> Any:
    """Return a session over an ONNX file's `content`; `name` is for errors, all else as in open_session."""
    _refuse_two_runtimes()
    import onnxruntime

    onnxruntime.set_default_logger_severity(_FATAL)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or available_cpus()
    options.log_severity_level = _FATAL
    # Threads that spin while they wait take the CPUs from those that decode, and from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if device != Device.CPU:
        reason = _why_no_cuda(onnxruntime)
        if reason is None:
            with contextlib.redirect_stdout(io.StringIO()):  # preload_dlls prints what it does not find
                onnxruntime.preload_dlls()
            # TF32 would move the answers away from those that export verified; trying every algorithm out takes longer
            # and found slower ones.
            cuda = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
            try:
                session = onnxruntime.InferenceSession(
                    content, options, providers=[(_CUDA, cuda), _CPU], enable_fallback=0
                )
            except Exception as error:  # onnxruntime's exceptions share no base of their own
                reason = one_line(error)
            else:
                if device_of(session) == "cuda":
                    return session
                reason = "onnxruntime could not load its CUDA provider (are CUDA and cuDNN of its version installed?)"
        if device == Device.CUDA:
            raise InfoAEError(f"device cuda: {reason}; use --device cpu")
    try:
        return onnxruntime.InferenceSession(content, options, providers=[_CPU], enable_fallback=0)
    except Exception as error:
        raise InfoAEError(f"onnxruntime cannot load {name}: {one_line(error)}") from error


def _why_no_cuda(onnxruntime: Any) -> str | None:
    """Why CUDA cannot be asked for, or None. onnxruntime lists CUDA with no GPU about, and then complains at length."""
    reason = why_no_gpu()
    if reason is None and _CUDA not in onnxruntime.get_available_providers():
        return "the installed onnxruntime has no CUDA; install onnxruntime-gpu in its place"
    return reason


def _refuse_two_runtimes() -> None:
    from importlib import metadata

    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed.append(f"{name} {metadata.version(name)}")
    if len(installed) > 1:
        raise InfoAEError(
            f"{' and '.join(installed)} are both installed and break each other: uninstall both, then install one"
        )
