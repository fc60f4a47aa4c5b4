"""Opening a graph in onnxruntime, and running it: the right provider, the right number of threads, and no noise."""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from typing import Any, Literal

from infoae.bound_session import BoundSession
from infoae.cpus import available_cpus
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import user_cache
from infoae.gpu import Device, Provider, why_no_gpu

_TENSORRT, _CUDA, _CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
_LACKING = {
    _CUDA: "CUDA provider (are CUDA and cuDNN",
    _TENSORRT: "TensorRT provider (are TensorRT, as `pip install tensorrt` has it, CUDA and cuDNN",
}
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
    return "cpu" if session.get_providers()[0] == _CPU else "cuda"


def session_of(
    content: bytes, name: str, device: str, num_threads: int | None = None, provider: str = Provider.CUDA
) -> Any:
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
            wanted = _providers(provider)
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
            try:
                session = onnxruntime.InferenceSession(content, options, providers=wanted, enable_fallback=0)
            except Exception as error:  # onnxruntime's exceptions share no base of their own
                reason = one_line(error)
            else:
                asked = wanted[0][0]
                if session.get_providers()[0] == asked:
                    if provider == Provider.CUDA:
                        return session
                    _refuse_others(_assigned(session), asked, provider)
                    return BoundSession(session, "cuda")
                reason = f"onnxruntime could not load its {_LACKING[asked]} of its version installed?)"
        if device == Device.CUDA or provider != Provider.CUDA:
            hint = "use --device cpu" if provider == Provider.CUDA else "use --provider cuda, or --device cpu"
            raise InfoAEError(f"{'device' if provider == Provider.CUDA else 'provider'} {provider}: {reason}; {hint}")
    elif provider != Provider.CUDA:
        raise UsageError(f"provider {provider} is of GPUs: use --device cuda")
    try:
        return onnxruntime.InferenceSession(content, options, providers=[_CPU], enable_fallback=0)
    except Exception as error:
        raise InfoAEError(f"onnxruntime cannot load {name}: {one_line(error)}") from error


def _providers(provider: str) -> list[Any]:
    """Return what onnxruntime is asked for, the first first, with its options."""
    # TF32 would move the answers away from those that export verified; trying every algorithm out takes longer and
    # found slower ones.
    cuda = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    if provider == Provider.CUDA_GRAPH:
        return [(_CUDA, cuda | {"enable_cuda_graph": "1"}), _CPU]
    if provider == Provider.TENSORRT:
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # it has no option for it
        try:
            folder = user_cache("tensorrt")
        except ModuleNotFoundError as error:
            raise UsageError(f"provider {provider} keeps its engines: set INFOAE_CACHE to a folder for them") from error
        folder.mkdir(parents=True, exist_ok=True)
        kept = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder)}
        kept |= {"trt_timing_cache_enable": "1", "trt_timing_cache_path": str(folder)}
        return [(_TENSORRT, kept), (_CUDA, cuda), _CPU]
    return [(_CUDA, cuda), _CPU]


def _assigned(session: Any) -> dict[str, Counter[str]]:
    """Return how many nodes of each operator onnxruntime gave to each provider."""
    found: dict[str, Counter[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def _refuse_others(assigned: dict[str, Counter[str]], asked: str, provider: str) -> None:
    """Raise InfoAEError if any node is not computed by the provider that was asked for: it would be slow unnoticed."""
    for other, nodes in assigned.items():
        if other != asked:
            of_all = sum(count for each in assigned.values() for count in each.values())
            named = ", ".join(sorted(nodes))
            raise InfoAEError(
                f"provider {provider}: {nodes.total()} of {of_all} operations would be done by {other} ({named}); "
                "use --provider cuda"
            )


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
