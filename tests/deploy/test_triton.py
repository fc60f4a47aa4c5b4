"""The Triton repository parses as Triton's own ModelConfig and serves the graphs of the bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from infoae.deploy.bundle import Bundle
from infoae.deploy.triton import MAX_BATCH, write_repository
from tests.helpers.bundles import make_bundle

INT, STRING, ENUM, MESSAGE = 3, 9, 14, 11
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
    "ModelDynamicBatching": [("max_queue_delay_microseconds", 2, INT, "", False)],
    "ModelConfig": [
        ("name", 1, STRING, "", False),
        ("backend", 17, STRING, "", False),
        ("max_batch_size", 4, INT, "", False),
        ("input", 5, MESSAGE, "ModelInput", True),
        ("output", 6, MESSAGE, "ModelOutput", True),
        ("dynamic_batching", 11, MESSAGE, "ModelDynamicBatching", False),
    ],
}
TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_INT64": 9, "TYPE_FP32": 11}


@pytest.fixture(scope="module")
def model_config() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="part_of_model_config.proto", package="inference", syntax="proto3")
    enum = file.enum_type.add(name="DataType")
    for name, number in TYPES.items():
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


def test_the_label_file_is_that_of_the_probabilities(tmp_path: Path, model_config: Any) -> None:
    manifest = Bundle.load(make_bundle(tmp_path / "bundle")).manifest
    write_repository(tmp_path / "bundle", manifest)
    folder = tmp_path / "bundle/triton/infoae_classifier"
    config = text_format.Parse((folder / "config.pbtxt").read_text(), model_config())
    files = {output.name: output.label_filename for output in config.output}
    assert files == {"probabilities": "labels.txt", "latent": ""}
    assert (folder / "labels.txt").read_text().splitlines() == list(manifest.category_names)
