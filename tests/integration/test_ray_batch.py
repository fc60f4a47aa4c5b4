"""--ray on a simulated cluster: the same rows as on one machine, each once, also after an interruption."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from pyarrow import parquet
from typer.testing import CliRunner

from infoae.cli.classify import classify
from infoae.cluster import placement
from infoae.deploy import ray_batch
from infoae.deploy.job import classify_files
from infoae.errors import InfoAEError
from tests.helpers.bundles import add_reference, make_bundle

pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_bundle(tmp_path_factory.mktemp("model") / "bundle")
    return add_reference(folder, np.random.default_rng(1).integers(0, 256, (300, 28, 28), np.uint8))


@pytest.fixture
def inputs(tmp_path: Path) -> list[str]:
    """A folder with two damaged images, a tar and an array: 60 + 5 + 500 inputs."""
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for index in range(65):
            buffer = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(buffer, "PNG")
            if index < 60:
                (folder / f"{index:02d}.png").write_bytes(buffer.getvalue() if index not in (7, 50) else b"")
            else:
                member = tarfile.TarInfo(f"{index}.png")
                member.size = buffer.tell()
                archive.addfile(member, io.BytesIO(buffer.getvalue()))
    np.save(tmp_path / "array.npy", random.integers(0, 256, (500, 28, 28), np.uint8))
    return [str(folder), str(tmp_path / "shard.tar"), str(tmp_path / "array.npy")]


def rows_of(path: Path) -> list[dict[str, Any]]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in parquet.ParquetFile(file).read().to_pylist()]


@pytest.mark.usefixtures("cluster")
def test_the_rows_of_one_machine_also_after_an_interruption(
    model: Path, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_batch, "SHARD_ROWS", 8)
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    with pytest.raises(InfoAEError, match="inputs are unreadable, more than 0; stopped"):
        ray_batch.classify_on_ray(inputs, model, out, max_errors=0, columns="path,label,confidence,error")
    assert not out.exists()
    done = {file.name: file.stat().st_mtime_ns for file in partial.glob("part-*.parquet")}
    assert done
    with pytest.raises(InfoAEError, match="continue it with --resume"):
        ray_batch.classify_on_ray(inputs, model, out, columns="path,label,confidence,error")
    with pytest.raises(InfoAEError, match="another model, names, columns, --column or inputs"):
        ray_batch.classify_on_ray(inputs[1:], model, out, columns="path,label,confidence,error", resume=True)
    summary = ray_batch.classify_on_ray(inputs, model, out, columns="path,label,confidence,error", resume=True)
    assert (summary.num_rows, summary.num_failed) == (565, 2)
    assert summary.num_resumed >= 8 * min(len(done), 7)
    assert done.items() <= {file.name: file.stat().st_mtime_ns for file in out.glob("part-*.parquet")}.items()
    plain = tmp_path / "plain.parquet"
    whole = classify_files(inputs, model, plain, columns="path,label,confidence,error").drift
    assert whole is not None
    assert whole.num_images == 563
    assert summary.drift == whole
    found, expected = rows_of(out), rows_of(plain)
    assert [row["path"] for row in found] == [row["path"] for row in expected]
    assert [row["label"] for row in found] == [row["label"] for row in expected]
    assert [row["error"] for row in found] == [row["error"] for row in expected]
    with pytest.raises(InfoAEError, match="exists already"):
        ray_batch.classify_on_ray(inputs, model, out)


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_cannot_start_is_one_line(inputs: list[str], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    make_bundle(damaged)
    (damaged / "classifier.onnx").write_bytes(b"")
    with pytest.raises(InfoAEError, match=r"classifier\.onnx is not the file") as caught:
        ray_batch.classify_on_ray(inputs, damaged, tmp_path / "out")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_the_command(model: Path, inputs: list[str], tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(classify)
    options = [*inputs, "--model", str(model), "--out", str(tmp_path / "out"), "--ray", "--json", "--columns", "path"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 3, result.stderr
    assert json.loads(result.stdout)["num_rows"] == len(rows_of(tmp_path / "out")) == 565


@pytest.mark.slow
def test_labelled_nodes_alone_classify(
    cluster: Any, model: Path, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.data import ActorPoolStrategy

    class Telling:
        def __init__(self, work: Any) -> None:
            from infoae.deploy.ray_batch import _ShardClassifier  # in the actor, where it is not replaced

            self._classifier = _ShardClassifier(work)
            (tmp_path / ray.get_runtime_context().get_node_id()).touch()

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            time.sleep(0.3)  # or the first actor would do all while others start
            return self._classifier(batch)

    monkeypatch.setattr(ray_batch, "_ShardClassifier", Telling)
    # As many as all nodes have room for: two wait in vain where one node is labelled.
    monkeypatch.setattr(ray_batch, "ActorPoolStrategy", lambda **_: ActorPoolStrategy(size=3))
    monkeypatch.setattr(ray_batch, "SHARD_ROWS", 4)
    node = cluster.add_node(num_cpus=1, labels=placement.CLASSIFIES)
    try:
        cluster.wait_for_nodes()
        assert placement.classifiers("auto") == placement.Classifiers(1, placement.CLASSIFIES)
        assert placement.classifiers("cuda") == placement.Classifiers(3, {})
        ray_batch.classify_on_ray(inputs, model, tmp_path / "out")
        assert [path.name for path in tmp_path.iterdir() if len(path.name) == 56] == [node.node_id]
    finally:
        cluster.remove_node(node)
    assert placement.classifiers("auto") == placement.Classifiers(2, {})


@pytest.mark.long
def test_a_lost_node_loses_and_repeats_nothing(
    cluster: Any, model: Path, inputs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_batch, "SHARD_ROWS", 1)
    node = cluster.add_node(num_cpus=1)
    out, partial = tmp_path / "out", tmp_path / ".out.partial"

    def lose() -> None:
        while len(list(partial.glob("*.parquet"))) < 10:
            time.sleep(0.01)
        cluster.remove_node(node, allow_graceful=False)

    thread = threading.Thread(target=lose, daemon=True)
    thread.start()
    ray_batch.classify_on_ray(inputs, model, out)
    thread.join(timeout=10)
    assert not thread.is_alive()  # the node was lost before the end
    plain = tmp_path / "plain.parquet"
    classify_files(inputs, model, plain)
    assert [row["path"] for row in rows_of(out)] == [row["path"] for row in rows_of(plain)]
