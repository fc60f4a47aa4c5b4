"""--ray without a cluster: shards as an actor finds them, what killed actors leave, and clusters that are not there."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from pyarrow import parquet

from infoae.deploy import ray_batch
from infoae.deploy.bundle import Bundle, write_checksums, write_manifest
from infoae.deploy.drift import LARGE
from infoae.deploy.job import classify_files
from infoae.errors import InfoAEError
from tests.helpers.bundles import add_reference, make_bundle
from tests.helpers.inputs import PIXELS, png, write_tar


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Inputs of each kind by relative names; actors are played here, in another folder, and do not see the bundle."""
    (tmp_path / "images").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in ("images/1.png", "listed.png"):
        (tmp_path / name).write_bytes(png(1))
    np.save(tmp_path / "x.npy", PIXELS[:2])
    write_tar(tmp_path / "x.tar", {"2.png": png(2)})
    (tmp_path / "broken.npz").write_bytes(b"")
    make_bundle(tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"listed.png\n")))

    def pipeline(work: Any, todo: list[dict[str, Any]], _: int) -> Generator[dict[str, Any]]:
        (tmp_path / "bundle").rename(tmp_path / "out of sight")
        try:
            actor = ray_batch._ShardClassifier(work)
            for item in todo:
                with contextlib.chdir(tmp_path / "elsewhere"):
                    answer = actor({name: [value] for name, value in item.items()})
                assert answer["error"] == [""]
                yield json.loads(answer["done"][0])
        finally:
            (tmp_path / "out of sight").rename(tmp_path / "bundle")

    monkeypatch.setattr(ray_batch, "_pipeline", pipeline)
    return ["images", "-", "x.npy", "./x.tar", "broken.npz"]


def run(inputs: list[str], **options: Any) -> Any:
    return ray_batch.classify_on_ray(inputs, Path("bundle"), Path("out"), **options)


def test_relative_names_are_found_from_another_folder_and_kept_as_given(inputs: list[str]) -> None:
    summary = run(inputs, columns="path,error")
    assert (summary.num_rows, summary.num_failed) == (6, 1)
    files = sorted(Path("out").glob("*.parquet"))
    rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
    keys = ["images/1.png", "listed.png", "x.npy#0", "x.npy#1", "./x.tar#2.png", "broken.npz"]
    assert [row["path"] for row in rows] == keys
    assert [row["error"] for row in rows[:-1]] == [None] * 5
    assert "cannot be opened" in rows[-1]["error"]


def test_what_killed_actors_left_is_no_part_of_the_result(inputs: list[str]) -> None:
    partial = Path(".out.partial")
    partial.mkdir()
    (partial / "_job.json").write_text("{}")  # of another job, which has stored nothing
    (partial / ".part-000000.parquet.abc.parquet").write_bytes(b"half")
    finish = ray_batch._pipeline

    def killed(work: Any, todo: list[dict[str, Any]], resumed: int) -> Generator[dict[str, Any]]:
        assert not list(partial.glob(".part-*"))
        yield from finish(work, todo, resumed)
        (partial / ".part-000001.parquet.def.parquet").write_bytes(b"half")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_batch, "_pipeline", killed)
        run([inputs[0], inputs[2]])
    names = sorted(file.name for file in Path("out").iterdir())
    assert names == ["_job.json", "part-000000.parquet", "part-000001.parquet"]


def test_a_resumed_job_keeps_its_limit_and_its_names(inputs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfoAEError, match="1 of 1 inputs are unreadable, more than 0; stopped"):
        run(["broken.npz", *inputs[2:4]], max_errors=0)
    monkeypatch.setattr(ray_batch, "_pipeline", None)  # nothing more may be done
    with pytest.raises(InfoAEError, match="1 of 1 inputs are unreadable, more than 0; stopped"):
        run(["broken.npz", *inputs[2:4]], max_errors=0, resume=True)
    manifest = Bundle.load("bundle").manifest
    write_manifest(Path("bundle"), manifest.model_copy(update={"category_names": tuple("abcdefghij")}))
    write_checksums(Path("bundle"))
    with pytest.raises(InfoAEError, match="another model, names, columns, --column or inputs"):
        run(["broken.npz", *inputs[2:4]], resume=True)


@pytest.mark.usefixtures("inputs")
def test_drift_counts_each_shard_once_however_often_the_job_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = add_reference(Path("bundle"), PIXELS)
    dark = np.zeros((200, 28, 28), np.uint8)
    for name in ("a.npy", "b.npy", "c.npy"):
        np.save(name, dark)
    given = ["a.npy", "b.npy", "c.npy", "x.npy"]
    finish = ray_batch._pipeline

    def stopped(work: Any, todo: list[dict[str, Any]], resumed: int) -> Generator[dict[str, Any]]:
        yield from finish(work, todo[:2], resumed)
        raise InfoAEError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(ray_batch, "_pipeline", stopped)
        with pytest.raises(InfoAEError, match="stopped"):
            run(given)
    summary = run(given, resume=True)
    assert (summary.num_rows, summary.num_resumed) == (602, 400)
    whole = classify_files(given, bundle, Path("whole.csv")).drift
    assert summary.drift == whole
    assert whole is not None
    assert whole.distance > LARGE
    assert json.loads(Path("out/_drift.json").read_text()) == whole.to_dict()


@pytest.mark.usefixtures("inputs")
def test_the_same_names_in_another_folder_are_other_inputs(
    tmp_path: Path,
) -> None:
    with pytest.raises(InfoAEError, match="stopped"):
        run(["broken.npz", "images"], max_errors=0)
    other = tmp_path / "elsewhere"
    for name in ("images", "bundle", "broken.npz"):
        (other / name).symlink_to(tmp_path / name)
    with contextlib.chdir(other), pytest.raises(InfoAEError, match="or inputs"):
        ray_batch.classify_on_ray(["broken.npz", "images"], tmp_path / "bundle", tmp_path / "out", resume=True)


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InfoAEError, match=r"no Ray cluster at 127\.0\.0\.1:1") as caught:
        ray_batch.classify_on_ray([str(tmp_path / "1.png")], make_bundle(tmp_path / "bundle"), tmp_path / "out")
    assert "\n" not in str(caught.value)
