"""Opening a graph of a bundle in onnxruntime, once it is seen to be what the bundle says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from infoae.errors import InfoAEError
from infoae.gpu import Device, Provider
from infoae.sessions import session_of

if TYPE_CHECKING:
    from infoae.deploy.bundle import Bundle, TensorSpec

_TYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int64)": "int64"}


def open_session(
    bundle: Bundle,
    role: Literal["classifier", "decoder", "generator"],
    device: str = Device.AUTO,
    num_threads: int | None = None,
    provider: str = Provider.CUDA,
) -> Any:
    """Return an onnxruntime session over the bundle's graph `role`, loaded from the very bytes that were checked.

    `num_threads` defaults to the CPUs this process may use; `provider` is how a GPU computes. Raises InfoAEError if the
    graph is not what the bundle says, or if `device` is "cuda", or `provider` other than "cuda", and the session did
    not get it, or not for every operation.
    """
    if device not in list(Device):
        raise InfoAEError(f"no device {device!r}: choose auto, cpu or cuda")
    if provider not in list(Provider):
        raise InfoAEError(f"no provider {provider!r}: choose {', '.join(Provider)}")
    spec = bundle.graph(role)
    content = bundle.read(spec.file)
    session = session_of(content, str(bundle.path / spec.file), device, num_threads, provider)
    for kind, found, promised in (
        ("input", session.get_inputs(), spec.inputs),
        ("output", session.get_outputs(), spec.outputs),
    ):
        if {node.name: (_TYPES.get(node.type, node.type), tuple(node.shape)) for node in found} != _signature(promised):
            raise InfoAEError(f"bundle {bundle.path}: the {kind}s of {spec.file} are not those in bundle.json")
    return session


def _signature(promised: dict[str, TensorSpec]) -> dict[str, tuple[str, tuple[int | str, ...]]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in promised.items()}
