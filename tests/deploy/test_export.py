"""Export: graphs that say what PyTorch says, verification that catches what does not, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from infoae import config, data
from infoae.cli.app import app
from infoae.data import ImageSet
from infoae.deploy import Classifier, Generator, drift, export, graphs, verify
from infoae.deploy.bundle import Bundle, write_checksums
from infoae.deploy.export import Exported, export_run
from infoae.deploy.precision import Precision
from infoae.errors import InfoAEError
from infoae.model import InfoAE
from infoae.runs import names
from infoae.runs.run import Run
from tests.helpers.bundles import make_bundle
from tests.helpers.models import lively

pytestmark = pytest.mark.xdist_group("export")  # of one run, exported once
ROLES = ("classifier", "decoder", "generator")


@pytest.fixture(scope="module")
def test_images() -> ImageSet:
    return data.load(config.Data(), "test")


@pytest.fixture(scope="module")
def exported(lively_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_run(lively_run, tmp_path_factory.mktemp("export") / "bundle", triton=True)


@pytest.fixture
def fast(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the graphs that were exported already: exporting takes seconds, and what comes after it is tested."""
    monkeypatch.setattr(export, "to_onnx", lambda _, spec: onnx.load(exported.path / spec.file))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("encoder_kind", ["strided", "residual"])
@pytest.mark.parametrize(("channels", "image_size"), [(1, 28), (3, 9), (1, 64)])
def test_folding_keeps_the_answers_and_the_model(channels: int, image_size: int, encoder_kind: str) -> None:
    model = lively(channels, image_size, encoder=encoder_kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x, z = torch.rand(5, channels, image_size, image_size), torch.randn(5, 8)
    encoder, decoder = graphs.fold_batch_norm(model.encoder), graphs.fold_batch_norm(model.decoder)
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), model.encoder(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(decoder(z), model.decoder(z), rtol=1e-4, atol=1e-5)
    assert not any(isinstance(part, nn.BatchNorm2d) for net in (encoder, decoder) for part in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("encoder", ["strided", "residual"])
def test_colour_images_of_another_size_at_any_batch(encoder: str) -> None:
    model = lively(3, 9, encoder=encoder)
    spec = graphs.describe(model)["classifier"]
    graph = export.to_onnx(graphs.build_graphs(model)["classifier"], spec)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (11, 3, 9, 9), np.uint8)
    for size in (1, 2, 11):
        probabilities, latent = session.run(["probabilities", "latent"], {"images": images[:size]})
        np.testing.assert_allclose(probabilities, model.classify(images[:size]), atol=1e-5)
        np.testing.assert_allclose(latent, model.encode(images[:size]), atol=1e-4)


def test_the_bundle_says_what_the_run_says(exported: Exported, lively_run: Run, test_images: ImageSet) -> None:
    model = InfoAE.of_run(lively_run)
    answers = Classifier(exported.path).classify(test_images.images)
    assert (answers.labels == model.classify(test_images.images).argmax(1).numpy()).all()
    np.testing.assert_allclose(answers.latent, model.encode(test_images.images), atol=1e-4)
    evaluation = json.loads((lively_run.path / "evaluation.json").read_text())
    manifest = Bundle.load(exported.path).manifest
    assert manifest.reference is not None
    assert manifest.accuracy == evaluation["accuracy"]
    assert (manifest.run.name, manifest.run.step) == ("lively", evaluation["checkpoint_step"])
    assert manifest.run.config == lively_run.config().settings()
    assert manifest.parity["labels_different"] == 0
    assert len(manifest.parity["largest_difference"]) == 4
    assert max(manifest.parity["largest_difference"].values()) < 1e-4
    assert drift.counted(manifest, answers) == manifest.reference.counts
    assert manifest.reference.counts.occupancy == tuple(np.bincount(answers.labels, minlength=10))
    assert Generator(exported.path).generate(3, 5, seed=0).shape == (5, 1, 28, 28)


def test_the_graphs_are_as_the_contract_says(exported: Exported) -> None:
    for role in ROLES:
        content = (exported.path / f"{role}.onnx").read_bytes()
        graph = onnx.load_from_string(content)
        assert {entry.domain: entry.version for entry in graph.opset_import} == {"": 20}
        assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}
        assert not any("Random" in node.op_type for node in graph.graph.node)
        assert not any(tensor.external_data for tensor in graph.graph.initializer)
        for tensor in graph.graph.initializer:
            tensor.ClearField("raw_data")  # among the bytes of weights any three letters may come up
        content = graph.SerializeToString()
        for trace in (b".py", b"site-packages", b"stack_trace", b"/home", b"infoae"):
            assert trace not in content
    shape = onnx.load(exported.path / "classifier.onnx").graph.input[0].type.tensor_type.shape
    assert [size.dim_param or size.dim_value for size in shape.dim] == ["batch", 1, 28, 28]


def test_a_category_that_does_not_exist_is_an_error(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.path / "generator.onnx", providers=["CPUExecutionProvider"])
    noise = np.zeros((1, 100), np.float32)
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(["images"], {"noise": noise, "category": np.array([10])}, options)


def test_two_exports_are_byte_identical(exported: Exported, lively_run: Run, tmp_path: Path) -> None:
    again = export_run(lively_run, tmp_path / "again", triton=True)
    files = sorted(path.relative_to(exported.path) for path in exported.path.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again.path) for path in again.path.rglob("*") if path.is_file())
    assert len(files) == 7 + 7
    for file in files:
        assert (exported.path / file).read_bytes() == (again.path / file).read_bytes(), file


def test_sha256sum_agrees(exported: Exported) -> None:
    command = ["sha256sum", "--check", "--quiet", "--strict", "SHA256SUMS"]
    subprocess.run(command, cwd=exported.path, check=True)
    listed = {line.split(maxsplit=1)[1] for line in (exported.path / "SHA256SUMS").read_text().splitlines()}
    assert "triton/infoae_classifier/1/model.onnx" in listed
    assert "SHA256SUMS" not in listed


def scaled(graph: onnx.ModelProto, factor: float) -> onnx.ModelProto:
    """The same graph with every value of its largest weight multiplied."""
    weight = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values: Any = onnx.numpy_helper.to_array(weight) * np.float32(factor)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    return graph


@pytest.mark.parametrize("role", ROLES)
def test_verification_finds_a_graph_that_is_a_little_wrong(
    exported: Exported, lively_run: Run, test_images: ImageSet, tmp_path: Path, role: str
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(exported.path, folder)
    fp32 = (folder / "classifier.onnx").read_bytes()
    model = InfoAE.of_run(lively_run)
    verify.verify(Bundle.load(folder), model, test_images, fp32)
    onnx.save(scaled(onnx.load(folder / f"{role}.onnx"), 1.01), folder / f"{role}.onnx")
    write_checksums(folder)
    with pytest.raises(InfoAEError, match=rf"fp32 is refused: {role}\.\w+ differs from PyTorch by"):
        verify.verify(Bundle.load(folder), model, test_images, fp32)


def test_a_few_test_images_fill_a_batch_by_repeating_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def reference(_role: str, _model: Any, images: Any) -> Any:
        tried.append(images[:, 0, 0, 0].tolist())
        return {"images": images}, {"latent": np.zeros(len(images))}

    monkeypatch.setattr(verify, "_reference", reference)
    monkeypatch.setattr(
        verify, "run_session", lambda _, names, inputs: [np.zeros(len(inputs["images"])) for _ in names]
    )
    few = np.array([5, 6, 7], np.uint8).reshape(3, 1, 1, 1)
    model: Any = None
    assert [each.difference for each in verify._compare("classifier", None, model, few, Precision.FP32)] == [0]
    assert [len(values) for values in tried] == [1, 7, 256]
    assert tried[1] == [5, 6, 7, 5, 6, 7, 5]


def test_an_empty_test_set_is_one_clear_line(tmp_path: Path) -> None:
    model: Any = None
    empty = ImageSet(np.empty((0, 1, 28, 28), np.uint8), None)
    with pytest.raises(InfoAEError, match="the test set holds no images"):
        verify.verify(Bundle.load(make_bundle(tmp_path)), model, empty, b"")


def test_a_label_that_differs_fails_and_a_tie_does_not() -> None:
    expected = np.array([[0.6, 0.4], [0.50001, 0.49999]], np.float32)
    assert verify._count_different(expected, expected[:, ::-1], Precision.FP32) == (2, 1)
    assert verify._count_different(expected, expected[:, ::-1], Precision.INT8) == (2, 0)


def test_a_failing_export_leaves_nothing(
    exported: Exported, lively_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: nn.Module, spec: Any) -> onnx.ModelProto:
        return scaled(onnx.load(exported.path / spec.file), 2)

    monkeypatch.setattr(export, "to_onnx", wrong)
    with pytest.raises(InfoAEError, match="is refused"):
        export_run(lively_run, tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(lively_run: Run, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("mine")
    result = invoke("export", lively_run.path, "--onnx", "--out", tmp_path / "kept")
    assert isinstance(result.exception, InfoAEError)
    assert "exists already: delete it, or give another --out" in str(result.exception)
    assert (tmp_path / "kept" / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "infoae export --onnx"),
        (["--onnx", "--labels", "absent.txt"], "cannot read absent.txt"),
        (["--onnx", "--out", "/proc/none/bundle"], "cannot write /proc/none/bundle"),
    ],
)
@pytest.mark.usefixtures("fast")
def test_bad_input_is_one_clear_line(lively_run: Run, arguments: list[str], message: str) -> None:
    result = invoke("export", lively_run.path, *arguments)
    assert isinstance(result.exception, InfoAEError)
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.usefixtures("fast")
def test_names_travel_from_the_run_to_the_bundle(lively_run: Run, exported: Exported, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(lively_run.path, run)
    assert Bundle.load(exported.path).manifest.category_names[3] == "category 3"
    names.store(Run.open(run), ["zero", None, *[f"digit {k}" for k in range(2, 10)]], exported.manifest.run.step)
    result = invoke("export", run, "--onnx", "--triton", "--json")
    assert result.exit_code == 0, result.exception
    content = json.loads(result.stdout)
    assert content["out"] == str(run / "bundle")
    assert Bundle.load(run / "bundle").manifest.category_names[:3] == ("zero", "category 1", "digit 2")
    assert (run / "bundle/triton/infoae_classifier/labels.txt").read_text().splitlines()[1] == "category 1"

    (tmp_path / "labels.txt").write_text("".join(f"kind {k}\n" for k in range(10)))
    options = ("--onnx", "--labels", tmp_path / "labels.txt", "--out", tmp_path / "other")
    assert invoke("export", run, *options).exit_code == 0
    assert Bundle.load(tmp_path / "other").manifest.category_names[9] == "kind 9"


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("precision", [Precision.FP16, Precision.INT8])
def test_a_smaller_precision_is_good_and_says_its_cost_or_is_refused(
    exported: Exported, lively_run: Run, test_images: ImageSet, tmp_path: Path, precision: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # A network trained for seconds leaves many images between two categories: allow for that here.
    monkeypatch.setitem(verify.DISAGREEMENT, precision, 0.03)
    result = invoke("export", lively_run.path, "--onnx", "--precision", precision, "--out", tmp_path / "bundle")
    assert result.exit_code == 0, result.exception
    assert f"{precision} costs" in result.stdout
    assert "of the labels change, accuracy" in result.stdout
    manifest = Bundle.load(tmp_path / "bundle").manifest
    assert manifest.precision == precision
    labels = Classifier(tmp_path / "bundle").classify(test_images.images).labels
    full = Classifier(exported.path).classify(test_images.images).labels
    assert (labels != full).sum() == manifest.parity["labels_different"]
    graph = onnx.load(tmp_path / "bundle/classifier.onnx")
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    assert (onnx.TensorProto.FLOAT16 if precision is Precision.FP16 else onnx.TensorProto.INT8) in kinds
    assert [value.type.tensor_type.elem_type for value in graph.graph.output] == [onnx.TensorProto.FLOAT] * 2
    sizes = [(folder / "classifier.onnx").stat().st_size for folder in (tmp_path / "bundle", exported.path)]
    assert sizes[0] < 0.9 * sizes[1]

    monkeypatch.setitem(verify.DISAGREEMENT, precision, -1.0)
    refused = invoke("export", lively_run.path, "--onnx", "--precision", precision, "--out", tmp_path / "no")
    assert f"{precision} is refused: the labels of" in str(refused.exception)
    assert "export fp32" in str(refused.exception)
    assert not (tmp_path / "no").exists()
