"""A bundle as a model repository of Triton Inference Server."""

from __future__ import annotations

import shutil
from pathlib import Path

from infoae.deploy.bundle import GraphSpec, Manifest, TensorSpec

MAX_BATCH = 256
QUEUE_MICROSECONDS = 2000
"""How long a request may wait for others to share its batch."""
INSTANCES = 2
"""Of a model on each GPU, or on the CPU where there is none: one copies while the other computes."""
_TYPES = {"uint8": "TYPE_UINT8", "float32": "TYPE_FP32", "int64": "TYPE_INT64"}


def write_repository(bundle: Path, manifest: Manifest) -> None:
    """Write `triton/` into the folder `bundle`: a model `infoae_<graph>` for each graph.

    Each has config.pbtxt and version 1 of the graph; the classifier has labels.txt, the category names by line. A model
    is ready only once each instance has run the smallest and the largest batch (fields: model_config.proto of Triton).
    """
    for role, graph in manifest.files.items():
        folder = bundle / "triton" / f"infoae_{role}"
        (folder / "1").mkdir(parents=True)
        shutil.copyfile(bundle / graph.file, folder / "1" / "model.onnx")
        (folder / "config.pbtxt").write_text(_config(folder.name, graph), encoding="utf-8", newline="\n")
        if role == "classifier":
            names = "".join(f"{name}\n" for name in manifest.category_names)
            (folder / "labels.txt").write_text(names, encoding="utf-8", newline="\n")


def _config(name: str, graph: GraphSpec) -> str:
    tensors = [_tensor("input", *item) for item in graph.inputs.items()]
    tensors += [_tensor("output", *item) for item in graph.outputs.items()]
    return (
        f'name: "{name}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        f"{''.join(tensors)}"
        f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_MICROSECONDS} }}\n"
        f"instance_group [ {{ count: {INSTANCES} kind: KIND_AUTO }} ]\n"
        f"{''.join(_warm_up(graph, size) for size in (1, MAX_BATCH))}"
    )


def _warm_up(graph: GraphSpec, batch_size: int) -> str:
    # Zeros, as they are a category, too; random numbers would be none.
    values = (
        f'  inputs {{ key: "{name}" value {{ data_type: {_TYPES[tensor.dtype]} {_dims(tensor)} zero_data: true }} }}\n'
        for name, tensor in graph.inputs.items()
    )
    return f'model_warmup {{\n  name: "batch of {batch_size}"\n  batch_size: {batch_size}\n{"".join(values)}}}\n'


def _dims(tensor: TensorSpec) -> str:
    sizes = [str(size) for size in tensor.shape[1:]]  # Triton adds the batch
    return f"dims: [ {', '.join(sizes or ['1'])} ]"


def _tensor(kind: str, name: str, tensor: TensorSpec) -> str:
    dims = _dims(tensor)
    if not tensor.shape[1:]:  # one number an image: Triton has no empty dims, so it is told to drop the 1
        dims += " reshape { shape: [ ] }"
    if name == "probabilities":
        dims += ' label_filename: "labels.txt"'
    return f'{kind} [ {{ name: "{name}" data_type: {_TYPES[tensor.dtype]} {dims} }} ]\n'
