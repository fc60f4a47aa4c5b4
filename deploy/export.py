"""From a run to a bundle: its ONNX graphs, verified before the folder appears."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from infoae import data
from infoae.category_model import CategoryModel
from infoae.data import sound
from infoae.data.image_spec import ImageSpec
from infoae.deploy import any_size, compose
from infoae.deploy.bundle import (
    SAMPLE,
    Bundle,
    Correction,
    GraphSpec,
    Manifest,
    RunSpec,
    TensorSpec,
    write_checksums,
    write_manifest,
)
from infoae.deploy.classifier import Answers, Classifier
from infoae.deploy.graphs import Role, build_graphs, describe, missing
from infoae.deploy.precision import CALIBRATION_IMAGES, Precision, to_fp16, to_int8
from infoae.deploy.reference import Reference
from infoae.deploy.triton import write_repository
from infoae.deploy.verify import SAMPLE_IMAGES, Verification, accuracy_of, seen_by, verify
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import atomic_folder
from infoae.inputs.cache import ready
from infoae.loading import load_tests
from infoae.methods.registry import model_of
from infoae.model import InfoAE
from infoae.runs import checkpoint
from infoae.runs.names import display
from infoae.runs.run import CORRECTED, Run
from infoae.version import __version__

OPSET = 20


@dataclass(frozen=True)
class Exported:
    """A finished bundle: its folder, its manifest, and what verification measured."""

    path: Path
    manifest: Manifest
    verification: Verification
    classifier_bytes: dict[Precision, int]
    """Size of classifier.onnx, in fp32 and as exported."""


def export_run(
    run: Run,
    out: Path | None = None,
    *,
    precision: Precision = Precision.FP32,
    names: Sequence[str] | None = None,
    which: str = "best",
    data_root: Path | None = None,
    triton: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> Exported:
    """Write the bundle of a run's checkpoint `which` ("best" or "newest") to the new folder `out`.

    `out` defaults to `bundle` (or `bundle-<precision>`) in the run's folder. `names` are those of the K categories, by
    default "category 0", …; `data_root` is where the run's data lies if it has moved; `say` is told of each stage.
    Raises InfoAEError, leaving nothing, if `out` exists or the graphs do not give the answers of PyTorch.
    """
    out = out or run.path / ("bundle" if precision is Precision.FP32 else f"bundle-{precision}")
    if out.exists() or out.is_symlink():
        raise InfoAEError(f"{out} exists already: delete it, or give another --out")
    config = run.config()
    step = checkpoint.read(run.checkpoint(which)).step
    model = model_of(run, which)
    _check_one_graph(model, precision)
    test = load_tests(run, data_root)
    specs = describe(model)
    say(f"exporting {run.name}, step {step}, as {precision}")
    for role, reason in missing(model).items():
        say(f"no {role}: {reason}")
    plain = {role: _plain(model, role, graph, specs[role]) for role, graph in build_graphs(model).items()}
    int8 = precision is Precision.INT8
    calibration = data.load_training(ready(config, data_root)).images[:CALIBRATION_IMAGES] if int8 else None
    graphs = {role: _reduce(role, graph, precision, calibration) for role, graph in plain.items()}
    manifest = Manifest(
        infoae_version=__version__,
        image=_image(model.seen_shape),
        drawn=None if model.seen_shape == model.image_shape else _image(model.image_shape),
        sound=sound.described(ready(config, data_root).place),
        reduced_jpeg=bool(config.data.reduced_jpeg),
        num_categories=model.num_categories,
        latent_dim=model.latent_dim,
        noise_dim=model.noise_dim,
        category_names=tuple(names or display([None] * model.num_categories)),
        precision=precision.value,
        opset=OPSET,
        files={role: specs[role] for role in graphs},
        pixels_any=any_size.describe(_image(model.seen_shape)),
        missing=dict(missing(model)),
        run=RunSpec(name=run.name, step=step, config=config.settings()),
        corrected=_correction(run),
    )
    try:
        with atomic_folder(out) as folder:
            for role, graph in graphs.items():
                (folder / specs[role].file).write_bytes(_bytes(graph))
            (folder / any_size.FILE).write_bytes(_bytes(any_size.build(manifest.image)))
            write_manifest(folder, manifest)
            write_checksums(folder)
            shown = seen_by(model, test)
            say(f"verifying against PyTorch on {len(shown)} test images")
            found = verify(Bundle.load(folder), model, shown, _bytes(plain["classifier"]))
            if test.features is not None:
                # The graph is verified; what it is good for shows on the pictures' own features.
                answers = Answers(model.classify(test.features).numpy(), model.encode(test.features).numpy())
                accuracy = accuracy_of(answers.probabilities, test, model.num_categories)
                found = replace(found, accuracy=accuracy, torch_accuracy=accuracy, answers=answers)
            _write_sample(folder, model, shown.images[:SAMPLE_IMAGES], found.sample_tolerance)
            measured = {
                "accuracy": found.accuracy,
                "parity": found.to_dict(),
                "reference": Reference.of(found.answers.probabilities, found.answers.latent),
            }
            manifest = manifest.model_copy(update=measured)
            write_manifest(folder, manifest)
            if triton:
                write_repository(folder, manifest)
            write_checksums(folder)
            Classifier(folder, "cpu")  # the run-time half takes it: hashes, names and shapes, and the sample
    except OSError as error:
        raise InfoAEError(f"cannot write {out}: {one_line(error)}") from error
    sizes = {kind: len(_bytes(models["classifier"])) for kind, models in ((Precision.FP32, plain), (precision, graphs))}
    return Exported(out, manifest, found, sizes)


def to_onnx(graph: nn.Module, spec: GraphSpec) -> onnx.ModelProto:
    """Return `graph` as ONNX with the names and shapes of `spec`, weights inside.

    The bytes depend on nothing but graph and versions: no time, no path.
    """
    # Not 1, which the exporter would take for a constant.
    example = {
        name: torch.zeros([3 if size == "batch" else int(size) for size in tensor.shape], dtype=_dtype(tensor.dtype))
        for name, tensor in spec.inputs.items()
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own insides
        program = torch.onnx.export(
            graph,
            tuple(example.values()),
            input_names=list(spec.inputs),
            output_names=list(spec.outputs),
            dynamic_shapes=tuple({0: "batch"} for _ in example),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _clear_metadata(model)
    return model


def _correction(run: Run) -> Correction | None:
    """Return how a person corrected the run, if one did. Raises InfoAEError if the file that says so is damaged."""
    path = run.path / CORRECTED
    try:
        return Correction.model_validate_json(path.read_bytes()) if path.exists() else None
    except ValueError as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): correct the run again") from None


def _check_one_graph(model: CategoryModel, precision: Precision) -> None:
    """Raise InfoAEError where the classifier, with a frozen encoder if it has one, cannot be one graph."""
    if not isinstance(model, InfoAE) or model.features_dim is None:
        return
    if not model.encodes_images:
        raise InfoAEError(
            f"features.encoder {model.features.encoder} holds features of the images trained on: there is no encoder "
            "to export, and no bundle"
        )
    if model.frozen().batch is not None:
        raise InfoAEError(
            f"features.encoder {model.features.encoder} takes exactly {model.frozen().batch} images at a time, and a "
            "bundle any number: export it to ONNX with a dynamic batch"
        )
    if precision is not Precision.FP32:
        raise UsageError(f"--precision {precision}: a frozen encoder is exported as it is, with --precision fp32")


def _plain(model: CategoryModel, role: Role, graph: nn.Module, spec: GraphSpec) -> onnx.ModelProto:
    """Return a graph of a bundle at full precision, of the classifier with the frozen encoder that it has, if any."""
    if role != "classifier" or not isinstance(model, InfoAE) or model.features_dim is None:
        return to_onnx(graph, spec)
    features = TensorSpec(dtype="float32", shape=("batch", model.features_dim))
    head = to_onnx(graph, spec.model_copy(update={"inputs": {"features": features}}))
    composed = compose.composed(model.frozen().model, head, "images", str(model.features.encoder))
    _clear_metadata(composed)
    return composed


def _reduce(
    role: Role, graph: onnx.ModelProto, precision: Precision, calibration: NDArray[np.uint8] | None
) -> onnx.ModelProto:
    if precision is Precision.FP16:
        graph = to_fp16(graph)
    # onnxruntime has no 8-bit transposed convolution: decoder and generator would lose accuracy and gain nothing.
    elif calibration is not None and role == "classifier":
        graph = to_int8(graph, calibration)
    _clear_metadata(graph)
    return graph


def _clear_metadata(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes beside each node: source paths, module names, stack traces."""
    graph: Any = model.graph
    for item in (model, graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")


def _bytes(model: onnx.ModelProto) -> bytes:
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _write_sample(folder: Path, model: CategoryModel, images: NDArray[np.uint8], tolerance: float) -> None:
    with (folder / SAMPLE).open("wb") as file:
        np.savez(
            file,
            images=images,
            probabilities=model.classify(images).numpy(),
            latent=model.encode(images).numpy(),
            tolerance=np.float32(tolerance),
        )


def _image(shape: tuple[int, int, int]) -> ImageSpec:
    channels, height, width = shape
    if channels not in (1, 3):
        raise InfoAEError(f"images of {channels} channels: a bundle takes grey (1) or RGB (3)")
    return ImageSpec(channels=1 if channels == 1 else 3, height=height, width=width)


def _dtype(name: str) -> torch.dtype:
    return {"uint8": torch.uint8, "float32": torch.float32, "int64": torch.int64}[name]
