"""An onnxruntime session with buffers of its own on a device, which a CUDA graph needs: it is replayed on them."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_GRAPH_ID = "gpu_graph_id"
"""Run option: which CUDA graph is captured, or replayed. Providers without graphs pass it over."""


class BoundSession:
    """A session whose inputs are copied to the same place each time, and whose outputs are copied from the same.

    Each number of rows has a place of its own, and is a graph of its own. Callers take turns.
    """

    def __init__(self, session: Any, device: Literal["cuda", "cpu"]) -> None:
        self._session, self._device = session, device
        self._bound: dict[tuple[tuple[int, ...], ...], _Bound] = {}
        self._turn = Lock()

    def get_inputs(self) -> Any:
        """As of the session."""
        return self._session.get_inputs()

    def get_outputs(self) -> Any:
        """As of the session."""
        return self._session.get_outputs()

    def get_providers(self) -> Any:
        """As of the session."""
        return self._session.get_providers()

    def run(self, outputs: Sequence[str], inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the arrays `outputs` for `inputs`, both by name."""
        shapes = tuple(inputs[name].shape for name in sorted(inputs))
        with self._turn:
            if shapes not in self._bound:
                self._bound[shapes] = _Bound(self._session, self._device, inputs, len(self._bound))
            return self._bound[shapes].run(outputs, inputs)


class _Bound:
    """The place of inputs of one shape, and of what comes out for them."""

    def __init__(self, session: Any, device: str, inputs: dict[str, NDArray[Any]], number: int) -> None:
        import numpy as np
        import onnxruntime

        self._session, self._binding = session, session.io_binding()
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry(_GRAPH_ID, str(number))
        # Of a CPU an array is taken as the place itself: the caller's must stay as it is.
        self._inputs = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(np.array(array), device, 0) for name, array in inputs.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        count = len(next(iter(inputs.values())))
        self._outputs = {}
        for node in session.get_outputs():
            shape = [size if isinstance(size, int) else count for size in node.shape]
            value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, _dtype(node.type), device, 0)
            self._outputs[node.name] = value
            self._binding.bind_ortvalue_output(node.name, value)

    def run(self, outputs: Sequence[str], inputs: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        import numpy as np

        for name, array in inputs.items():
            self._inputs[name].update_inplace(np.ascontiguousarray(array))
        self._session.run_with_iobinding(self._binding, self._options)
        # Of a CPU it is the place itself, which the next caller fills.
        return [np.array(self._outputs[name].numpy()) for name in outputs]


def _dtype(named: str) -> np.dtype[Any]:
    import numpy as np

    return np.dtype({"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int64)": "int64"}[named])
