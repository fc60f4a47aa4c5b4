"""An encoder's ONNX graph with what comes before and after it: pictures uint8 in, features float32 out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from infoae.errors import InfoAEError, UsageError, one_line
from infoae.features.preprocessing import Preprocessing

PICTURES, FEATURES = "infoae_pictures", "infoae_features"
"""Names of the graph's input and output."""
PREFERRED = ("image_embeds", "pooler_output")
"""Outputs that hold the features, where there are several."""
MAX_ONNX_BYTES = 2**31 - 1
"""What one ONNX graph can hold with its weights inside."""


@dataclass(frozen=True)
class Signature:
    """What goes in and out of an encoder's own graph; None is a size that it leaves open."""

    input: str
    input_type: int
    batch: int | None
    channels: int
    height: int | None
    width: int | None
    output: str


def read(path: Path) -> onnx.ModelProto:
    """Return the graph in an ONNX file, all weights inside. Raises InfoAEError."""
    try:
        model = onnx.load(path, load_external_data=False)
        outside = {
            entry.value
            for tensor in model.graph.initializer
            for entry in tensor.external_data
            if entry.key == "location"
        }
        size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in outside)
        if size > MAX_ONNX_BYTES:
            raise InfoAEError(f"{path} has {size:,} bytes of weights: one ONNX graph holds at most {MAX_ONNX_BYTES:,}")
        if outside:
            onnx.load_external_data_for_model(model, str(path.parent))
    except InfoAEError:
        raise
    except Exception as error:  # protobuf's errors share no base, and files are as they are
        raise InfoAEError(f"{path} cannot be read as ONNX: {one_line(error)}") from None
    if not model.graph.node:
        raise InfoAEError(f"{path} cannot be read as ONNX: it holds no graph")
    return model


def signature(model: onnx.ModelProto, path: Path, output: str | None) -> Signature:
    """Return the one input and the chosen output of an encoder. Raises InfoAEError, naming what infoae cannot feed."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in weights]
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise InfoAEError(f"{path} has {len(inputs)} inputs ({names}): an encoder of images alone has one")
    tensor = inputs[0].type.tensor_type
    sizes = [each.dim_value or None for each in tensor.shape.dim]
    if tensor.elem_type not in (TensorProto.FLOAT, TensorProto.UINT8) or len(sizes) != 4:
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        raise InfoAEError(
            f"{path}: input {inputs[0].name} is {kind} {_shown(sizes)}; infoae feeds float or uint8 (N, C, H, W)"
        )
    batch, channels, height, width = sizes
    if channels not in (1, 3, None):
        raise InfoAEError(f"{path}: input {inputs[0].name} is {_shown(sizes)}; infoae feeds 1 or 3 channels")
    return Signature(
        inputs[0].name, tensor.elem_type, batch, channels or 3, height, width, _output(model, path, output)
    )


def _output(model: onnx.ModelProto, path: Path, wanted: str | None) -> str:
    names = [each.name for each in model.graph.output]
    if wanted is not None:
        if wanted not in names:
            raise UsageError(f"features.output {wanted}: {path} has {', '.join(names)}")
        return wanted
    preferred = [name for name in PREFERRED if name in names]
    if len(names) > 1 and not preferred:
        raise UsageError(
            f"{path} has outputs {', '.join(names)}: say with features.output which of them holds features"
        )
    return str([*preferred, *names][0])


def with_open_batch(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose input takes any number of images, as far as its nodes do."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    weights = {tensor.name for tensor in model.graph.initializer}
    del copied.graph.value_info[:]  # what follows from the batch that was
    for each in (*copied.graph.input, *copied.graph.output):
        if each.name not in weights and each.type.tensor_type.shape.dim:
            each.type.tensor_type.shape.dim[0].Clear()
            each.type.tensor_type.shape.dim[0].dim_param = "batch"
    return copied


def from_pictures(
    model: onnx.ModelProto,
    of: Signature,
    shape: tuple[int, int, int],
    preprocessing: Preprocessing,
    answered: Sequence[int],
    batch: int | None,
) -> onnx.ModelProto:
    """Return `model` from pictures uint8 (N, *shape) to features float32 (N, D).

    `answered` is the shape of the chosen output: (N, D); (N, D, h, w), which is averaged over the image; or
    (N, tokens, D), of which the first token is taken. N is open unless `batch` says otherwise.
    """
    built = onnx.ModelProto()
    built.CopyFrom(model)
    weights = {tensor.name for tensor in built.graph.initializer}
    if of.input_type == TensorProto.UINT8:
        before = [helper.make_node("Identity", [PICTURES], [of.input])]
    else:
        mean, std = preprocessing.of_channels(shape[0])
        constants = {"infoae_mean": 255 * np.array(mean), "infoae_scale": 1 / (255 * np.array(std))}
        built.graph.initializer.extend(
            numpy_helper.from_array(value.astype(np.float32).reshape(1, -1, 1, 1), name)
            for name, value in constants.items()
        )
        before = [
            helper.make_node("Cast", [PICTURES], ["infoae_float"], to=TensorProto.FLOAT),
            helper.make_node("Sub", ["infoae_float", "infoae_mean"], ["infoae_centred"]),
            helper.make_node("Mul", ["infoae_centred", "infoae_scale"], [of.input]),
        ]
    if len(answered) == 4:
        after = [
            helper.make_node("GlobalAveragePool", [of.output], ["infoae_pooled"]),
            helper.make_node("Flatten", ["infoae_pooled"], [FEATURES], axis=1),
        ]
    elif len(answered) == 3:
        built.graph.initializer.append(numpy_helper.from_array(np.array(0, np.int64), "infoae_first"))
        after = [helper.make_node("Gather", [of.output, "infoae_first"], [FEATURES], axis=1)]
    else:
        after = [helper.make_node("Identity", [of.output], [FEATURES])]
    nodes = [*before, *built.graph.node, *after]
    kept = [each for each in built.graph.input if each.name in weights]
    size: Any = batch or "batch"
    pictures = helper.make_tensor_value_info(PICTURES, TensorProto.UINT8, [size, *shape])
    features = helper.make_tensor_value_info(
        FEATURES, TensorProto.FLOAT, [size, answered[1 if len(answered) != 3 else 2]]
    )
    for field, values in (("node", nodes), ("input", [pictures, *kept]), ("output", [features])):
        values = [type(each).FromString(each.SerializeToString()) for each in values]  # not those that are deleted
        del getattr(built.graph, field)[:]
        getattr(built.graph, field).extend(values)
    return built


def dim_of(answered: Sequence[int]) -> int:
    """Return D of an output's shape: (N, D), (N, D, h, w) or (N, tokens, D)."""
    return answered[2 if len(answered) == 3 else 1]


def _shown(sizes: Sequence[int | None]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in sizes)})"
