"""Opening a graph in onnxruntime: the right provider, the right number of threads, and no noise."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any, Literal

from infoae.errors import InfoAEError, one_line
from infoae.gpu import Device, why_no_gpu
from infoae.inputs.cpus import available_cpus

if TYPE_CHECKING:
    from infoae.deploy.bundle import Bundle, TensorSpec

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}
_FATAL = 4  # onnxruntime's log severity: failures come as exceptions, everything below is noise


def open_session(
    bundle: Bundle,
    role: Literal["classifier", "decoder", "generator"],
    device: str = Device.AUTO,
    num_threads: int | None = None,
) -> Any:
    """Return an onnxruntime session over the bundle's graph `role`, loaded from the very bytes that were checked.

    `num_threads` defaults to the CPUs this process may use. Raises InfoAEError if the graph is not what the bundle says
    or if `device` is "cuda" and the session did not get it.
    """
    if device not in list(Device):
        raise InfoAEError(f"no device {device!r}: choose auto, cpu or cuda")
    spec = bundle.graph(role)
    content = bundle.read(spec.file)
    session = session_of(content, str(bundle.path / spec.file), device, num_threads)
    for kind, found, promised in (
        ("input", session.get_inputs(), spec.inputs),
        ("output", session.get_outputs(), spec.outputs),
    ):
        if {node.name: (_TYPES.get(node.type, node.type), tuple(node.shape)) for node in found} != _signature(promised):
            raise InfoAEError(f"bundle {bundle.path}: the {kind}s of {spec.file} are not those in bundle.json")
    return session


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


def _signature(promised: dict[str, TensorSpec]) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in promised.items()}
