"""Graphs in fewer bits: half precision, and static 8-bit quantisation."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import sys
import tempfile
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

CALIBRATION_IMAGES = 1024
_CALIBRATION_BATCH = 128
FLOAT = 1  # onnx.TensorProto.FLOAT


class Precision(StrEnum):
    """Number format of a bundle's graphs; inputs and outputs are the same in each."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def to_fp16(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` computing in half precision; its inputs and outputs keep their types.

    What an ArgMax decides by stays in full precision: rounded noise may choose another over-category.
    """
    with _quiet():
        from onnxruntime.quantization.onnx_model import ONNXModel
        from onnxruntime.transformers.float16 import convert_float_to_float16

        half: onnx.ModelProto = convert_float_to_float16(
            copy.deepcopy(model), keep_io_types=True, node_block_list=_deciding(model)
        )
        _take_inputs_unrounded(half)
        del half.graph.value_info[:]  # says half precision of weights that stay in full; it can be inferred anew
        converted = ONNXModel(half)
        converted.topological_sort()  # the casts at the inputs come last
        return half


def _deciding(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes that any ArgMax depends on."""
    producers = {output: node for node in model.graph.node for output in node.output}
    pending, names = [node for node in model.graph.node if node.op_type == "ArgMax"], []
    while pending:
        node = pending.pop()
        names.append(node.name)
        pending += [producers[name] for name in node.input if name in producers]
    return names


def _take_inputs_unrounded(half: onnx.ModelProto) -> None:
    """Let nodes kept in full precision take an input as it is, not cast to half precision and back."""
    inputs = {value.name for value in half.graph.input if value.type.tensor_type.elem_type == FLOAT}
    casts = {node.output[0]: node.input[0] for node in half.graph.node if node.op_type == "Cast"}
    there_and_back = {back: casts[there] for back, there in casts.items() if casts.get(there) in inputs}
    for node in half.graph.node:
        node.input[:] = [there_and_back.get(name, name) for name in node.input]
    for node in [node for node in half.graph.node if node.output[0] in there_and_back]:
        half.graph.node.remove(node)


def to_int8(model: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """Return the classifier `model` with 8-bit convolutions, their ranges taken from its run on `images`.

    Static QDQ: activations uint8, weights int8 per channel. Weights use 7 of their 8 bits, because CPUs without VNNI
    add pairs of products in 16 bits, which 8 bits can overflow: the answers would depend on the CPU. The first
    convolution and the linear layers stay in fp32: they are few of the operations and most of the error.
    """
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            CalibrationMethod,
            QuantFormat,
            QuantType,
            quantize_static,
        )
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Images(CalibrationDataReader):  # type: ignore[misc]
            def __init__(self) -> None:
                size = min(_CALIBRATION_BATCH, len(images))  # whole batches only: the calibrator takes no other
                starts = range(0, len(images) - size + 1, size)
                self._batches = iter([{"images": images[start : start + size]} for start in starts])

            def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
                return next(self._batches, None)

        plain, prepared, quantised = (str(Path(folder) / f"{name}.onnx") for name in ("plain", "prepared", "quantised"))
        onnx.save(model, plain)
        quant_pre_process(plain, prepared, skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(prepared).graph.node if node.op_type == "Conv"]
        quantize_static(
            prepared,
            quantised,
            Images(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=convolutions[:1] if len(convolutions) > 1 else [],
            calibrate_method=CalibrationMethod.Percentile,  # the largest value of all would stretch the scale
            extra_options={"CalibPercentile": 99.99},
        )
        return onnx.load(quantised)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's tools from printing, from logging advice, and from leaving their folder on the import path."""
    path, level = list(sys.path), logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
        sys.path[:] = path
