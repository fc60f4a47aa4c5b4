"""The Triton repository parses as Triton's own ModelConfig and serves the graphs of the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from infoae.deploy.bundle import Bundle
from infoae.deploy.triton import MAX_BATCH, write_repository
from tests.helpers.bundles import make_bundle

INT, BOOL, STRING, ENUM, MESSAGE = 3, 8, 9, 14, 11
# The part of Triton's model_config.proto that is used here: field name, number, type, message or enum, repeated.
MESSAGES: dict[str, list[tuple[str, int, int, str, bool]]] = {
    "ModelTensorReshape": [("shape", 1, INT, "", True)],
    "ModelInput": [
        ("name", 1, STRING, "", False),
        ("data_type", 2, ENUM, "DataType", False),
        ("dims", 4, INT, "", True),
        ("reshape", 5, MESSAGE, "ModelTensorReshape", False),
    ],
    "ModelOutput": [
        ("name", 1, STRING, "", False),
        ("data_type", 2, ENUM, "DataType", False),
        ("dims", 3, INT, "", True),
        ("reshape", 5, MESSAGE, "ModelTensorReshape", False),
        ("label_filename", 4, STRING, "", False),
    ],
    "ModelInstanceGroup": [("count", 2, INT, "", False), ("kind", 4, ENUM, "Kind", False)],
    "WarmupInput": [
        ("data_type", 1, ENUM, "DataType", False),
        ("dims", 2, INT, "", True),
        ("zero_data", 3, BOOL, "", False),
    ],
    "WarmupInputs": [("key", 1, STRING, "", False), ("value", 2, MESSAGE, "WarmupInput", False)],  # a map's entries
    "ModelWarmup": [
        ("name", 1, STRING, "", False),
        ("batch_size", 2, INT, "", False),
        ("inputs", 3, MESSAGE, "WarmupInputs", True),
    ],
    "ModelDynamicBatching": [("max_queue_delay_microseconds", 2, INT, "", False)],
    "ModelConfig": [
        ("name", 1, STRING, "", False),
        ("backend", 17, STRING, "", False),
        ("max_batch_size", 4, INT, "", False),
        ("input", 5, MESSAGE, "ModelInput", True),
        ("output", 6, MESSAGE, "ModelOutput", True),
        ("instance_group", 7, MESSAGE, "ModelInstanceGroup", True),
        ("dynamic_batching", 11, MESSAGE, "ModelDynamicBatching", False),
        ("model_warmup", 16, MESSAGE, "ModelWarmup", True),
    ],
}
ENUMS = {
    "DataType": {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT64": 9, "TYPE_FP32": 11},
    "Kind": {"KIND_AUTO": 0, "KIND_GPU": 1, "KIND_CPU": 2, "KIND_MODEL": 3},
}


@pytest.fixture(scope="module")
def model_config() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="part_of_model_config.proto", package="inference", syntax="proto3")
    for of, values in ENUMS.items():
        enum = file.enum_type.add(name=of)
        for name, number in values.items():
            enum.value.add(name=name, number=number)
    for message, fields in MESSAGES.items():
        part = file.message_type.add(name=message)
        for name, number, kind, of, repeated in fields:
            field = part.field.add(name=name, number=number, label=3 if repeated else 1)
            field.type = kind
            if of:
                field.type_name = f".inference.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def test_every_model_parses_and_fits_its_graph(tmp_path: Path, model_config: Any) -> None:
    manifest = Bundle.load(make_bundle(tmp_path / "bundle")).manifest
    write_repository(tmp_path / "bundle", manifest)
    repository = tmp_path / "bundle" / "triton"
    assert {path.name for path in repository.iterdir()} == {f"infoae_{role}" for role in manifest.files}
    for role, graph in manifest.files.items():
        folder = repository / f"infoae_{role}"
        config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
        assert (config.name, config.backend) == (folder.name, "onnxruntime")
        assert config.max_batch_size == MAX_BATCH > 1
        assert config.dynamic_batching.max_queue_delay_microseconds > 0
        assert (folder / "1/model.onnx").read_bytes() == (tmp_path / "bundle" / graph.file).read_bytes()
        for tensors, promised in ((config.input, graph.inputs), (config.output, graph.outputs)):
            assert [tensor.name for tensor in tensors] == list(promised)
            for tensor, spec in zip(tensors, promised.values(), strict=True):
                shape = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
                assert ("batch", *shape) == spec.shape
                assert {2: "uint8", 9: "int64", 11: "float32"}[tensor.data_type] == spec.dtype


def test_every_instance_is_warmed_up_with_what_its_model_takes(tmp_path: Path, model_config: Any) -> None:
    manifest = Bundle.load(make_bundle(tmp_path / "bundle")).manifest
    write_repository(tmp_path / "bundle", manifest)
    for role in manifest.files:
        path = tmp_path / f"bundle/triton/infoae_{role}/config.pbtxt"
        config = text_format.Parse(path.read_text(), model_config())
        (group,) = config.instance_group
        assert (group.count, group.kind) == (2, ENUMS["Kind"]["KIND_AUTO"])
        assert [warm.batch_size for warm in config.model_warmup] == [1, config.max_batch_size]
        declared = {tensor.name: (tensor.data_type, list(tensor.dims)) for tensor in config.input}
        for warm in config.model_warmup:
            assert warm.name
            assert all(entry.value.zero_data for entry in warm.inputs)
            given = {entry.key: (entry.value.data_type, list(entry.value.dims)) for entry in warm.inputs}
            assert given == declared


def test_the_label_file_is_that_of_the_probabilities(tmp_path: Path, model_config: Any) -> None:
    manifest = Bundle.load(make_bundle(tmp_path / "bundle")).manifest
    write_repository(tmp_path / "bundle", manifest)
    folder = tmp_path / "bundle/triton/infoae_classifier"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    files = {output.name: output.label_filename for output in config.output}
    assert files == {"probabilities": "labels.txt", "latent": ""}
    assert (folder / "labels.txt").read_text().splitlines() == list(manifest.category_names)
