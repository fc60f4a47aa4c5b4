"""Small real encoders as ONNX files: a convolution of random weights, and what files have around it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def weights(channels: int = 3, dim: int = 12) -> NDArray[np.float32]:
    """Return the convolution's weights (dim, channels, 4, 4)."""
    return np.random.default_rng(0).normal(size=(dim, channels, 4, 4)).astype(np.float32)


def write_encoder(
    path: Path,
    shape: Sequence[int | str] = ("batch", 3, 32, 32),
    *,
    dim: int = 12,
    pooled: bool = True,
    stated: dict[str, Any] | None = None,
    kind: int = TensorProto.FLOAT,
    tail: Callable[[str], tuple[list[onnx.NodeProto], list[str]]] | None = None,
    extra: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Write relu(convolution) of pictures, averaged over the image where `pooled`: (N, dim), or else (N, dim, h, w).

    `tail` makes more nodes of the name of that and says which outputs there are; `stated` are preprocessing metadata,
    MEAN and STD if None, nothing if empty.
    """
    channels = shape[1] if isinstance(shape[1], int) else 3
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["relu"]),
    ]
    if kind != TensorProto.FLOAT:
        nodes[0].input[0] = "cast"
        nodes.insert(0, helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT))
    last = "relu"
    if pooled:
        nodes += [
            helper.make_node("GlobalAveragePool", ["relu"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["out"], axis=1),
        ]
        last = "out"
    more, outputs = ([], [last]) if tail is None else tail(last)
    graph = helper.make_graph(
        [*nodes, *more],
        "encoder",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(weights(channels, dim), "w"), *extra],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    stated = {"mean": MEAN, "std": STD} if stated is None else stated
    if stated:
        entry = model.metadata_props.add()
        entry.key, entry.value = "infoae.preprocessing", json.dumps(stated)
    onnx.save(model, path)
    return path


def by_hand(pictures: NDArray[np.uint8], dim: int = 12, mean: Any = MEAN, std: Any = STD) -> NDArray[np.float64]:
    """Return the features (N, dim) of pictures (N, C, H, W) of the encoder's own size, in loops."""
    kernel = weights(pictures.shape[1], dim).astype(np.float64)
    x = (pictures / 255 - np.reshape(mean, (1, -1, 1, 1))) / np.reshape(std, (1, -1, 1, 1))
    rows = range(0, x.shape[2] - 3, 4)
    columns = range(0, x.shape[3] - 3, 4)
    parts = [np.einsum("nchw,dchw->nd", x[:, :, i : i + 4, j : j + 4], kernel) for i in rows for j in columns]
    return np.asarray(np.mean([np.maximum(part, 0) for part in parts], axis=0))
