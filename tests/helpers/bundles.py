"""A tiny but real bundle, made with ONNX alone: linear encoder, softmax classifier, linear decoder and generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from infoae.data.image_spec import ImageSpec
from infoae.deploy import any_size
from infoae.deploy.bundle import (
    SAMPLE,
    Bundle,
    GraphSpec,
    Manifest,
    RunSpec,
    TensorSpec,
    write_checksums,
    write_manifest,
)
from infoae.deploy.classifier import Classifier
from infoae.deploy.reference import Reference
from infoae.version import __version__

CATEGORIES, LATENT, NOISE = 10, 8, 6
Tensor = tuple[TensorProto.DataType, tuple[int | str, ...]]
_DTYPES = {TensorProto.UINT8: "uint8", TensorProto.FLOAT: "float32", TensorProto.INT64: "int64"}


def make_bundle(folder: Path, shape: tuple[int, int, int] = (1, 28, 28)) -> Path:
    """Write a bundle for images of `shape` (C, H, W) into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    pixels = int(np.prod(shape))
    weights = {
        "encode": random.normal(size=(pixels, LATENT)).astype(np.float32) / np.sqrt(pixels).astype(np.float32),
        "categorize": 3 * random.normal(size=(LATENT, CATEGORIES)).astype(np.float32),
        "decode": random.normal(size=(LATENT, pixels)).astype(np.float32),
        "noise_to_latent": random.normal(size=(NOISE, LATENT)).astype(np.float32),
        "category_to_latent": 3 * random.normal(size=(CATEGORIES, LATENT)).astype(np.float32),
        "scale": np.float32(1 / 255),
        "image_shape": np.array([-1, *shape], np.int64),
    }
    drawn, latent = ("batch", *shape), ("batch", LATENT)
    decode_nodes = [
        helper.make_node("MatMul", ["z", "decode"], ["flat"]),
        helper.make_node("Sigmoid", ["flat"], ["squashed"]),
        helper.make_node("Reshape", ["squashed", "image_shape"], ["images"]),
    ]
    graphs = {
        "classifier": _write(
            folder / "classifier.onnx",
            [
                helper.make_node("Cast", ["images"], ["raw"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["raw", "scale"], ["scaled"]),
                helper.make_node("Flatten", ["scaled"], ["flat"]),
                helper.make_node("MatMul", ["flat", "encode"], ["latent"]),
                helper.make_node("MatMul", ["latent", "categorize"], ["logits"]),
                helper.make_node("Softmax", ["logits"], ["probabilities"]),
            ],
            {"images": (TensorProto.UINT8, drawn)},
            {
                "probabilities": (TensorProto.FLOAT, ("batch", CATEGORIES)),
                "latent": (TensorProto.FLOAT, latent),
            },
            weights,
        ),
        "decoder": _write(
            folder / "decoder.onnx",
            [helper.make_node("Identity", ["latent"], ["z"]), *decode_nodes],
            {"latent": (TensorProto.FLOAT, latent)},
            {"images": (TensorProto.FLOAT, drawn)},
            weights,
        ),
        "generator": _write(
            folder / "generator.onnx",
            [
                helper.make_node("MatMul", ["noise", "noise_to_latent"], ["from_noise"]),
                helper.make_node("Gather", ["category_to_latent", "category"], ["from_category"]),
                helper.make_node("Add", ["from_noise", "from_category"], ["z"]),
                *decode_nodes,
            ],
            {"noise": (TensorProto.FLOAT, ("batch", NOISE)), "category": (TensorProto.INT64, ("batch",))},
            {"images": (TensorProto.FLOAT, drawn)},
            weights,
        ),
    }
    images = random.integers(0, 256, (16, *shape), np.uint8)
    probabilities, answers_latent = reference(weights["encode"], weights["categorize"], images)
    with (folder / SAMPLE).open("wb") as file:
        np.savez(file, images=images, probabilities=probabilities, latent=answers_latent, tolerance=np.float32(1e-4))
    channels, height, width = shape
    assert channels in (1, 3)
    image = ImageSpec(channels=1 if channels == 1 else 3, height=height, width=width)
    onnx.save(any_size.build(image), folder / any_size.FILE)
    manifest = Manifest(
        infoae_version=__version__,
        image=image,
        num_categories=CATEGORIES,
        latent_dim=LATENT,
        noise_dim=NOISE,
        category_names=tuple(f"kind {number}" for number in range(CATEGORIES)),
        precision="fp32",
        opset=20,
        files={"classifier": graphs["classifier"], "decoder": graphs["decoder"], "generator": graphs["generator"]},
        pixels_any=any_size.describe(image),
        run=RunSpec(name="tiny", step=1, config={"data": "mnist"}),
    )
    write_manifest(folder, manifest)
    write_checksums(folder)
    return folder


def reference(
    encode: NDArray[np.float32], categorize: NDArray[np.float32], images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The classifier in NumPy: probabilities (N, K) and latent (N, Z)."""
    latent = (images.reshape(len(images), -1).astype(np.float32) / np.float32(255)) @ encode
    logits = latent @ categorize
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (exponentials / exponentials.sum(axis=1, keepdims=True)).astype(np.float32), latent.astype(np.float32)


def _write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, Tensor],
    outputs: dict[str, Tensor],
    weights: dict[str, NDArray[np.float32]],
) -> GraphSpec:
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return GraphSpec(
        file=path.name,
        inputs={name: TensorSpec(dtype=_DTYPES[kind], shape=shape) for name, (kind, shape) in inputs.items()},
        outputs={name: TensorSpec(dtype=_DTYPES[kind], shape=shape) for name, (kind, shape) in outputs.items()},
    )


def add_reference(folder: Path, images: NDArray[np.uint8]) -> Path:
    """Let the bundle in `folder` know `images` (N, C, H, W), as if they had been the test images at export."""
    answers = Classifier(folder, "cpu", num_threads=1).classify(images)
    known = Reference.of(answers.probabilities, answers.latent)
    write_manifest(folder, Bundle.load(folder).manifest.model_copy(update={"reference": known}))
    write_checksums(folder)
    return folder
