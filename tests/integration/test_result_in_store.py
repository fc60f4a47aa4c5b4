"""Results of classify in an object store, a real server: one file, and the folder of --ray, whose actors are played."""

from __future__ import annotations

import json
import pickle
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from infoae.data import object_store
from infoae.deploy import ray_batch
from infoae.errors import InfoAEError
from infoae.files import user_cache
from tests.helpers.bundles import add_reference
from tests.helpers.commands import call
from tests.helpers.inputs import PIXELS
from tests.helpers.rows import fetched, labels, put_shards, rows_of
from tests.helpers.s3 import S3Server

OUT = "s3://bucket/results/labels"


def names(address: str) -> set[str]:
    return {file.name for file in object_store.below(address)[1]}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_there_is_the_file_that_it_is_here(ending: str, server: S3Server, model: Path, tmp_path: Path) -> None:
    address, _ = put_shards(server, tmp_path / "shards", 3, 20)
    given = ("classify", address, "--model", str(model), "--column", "image", "--out")
    assert call(*given, f"here.{ending}", cwd=tmp_path).returncode == 0
    for _ in range(2):  # a second one takes the place of the first
        there = call(*given, f"{OUT}.{ending}", "--json", cwd=tmp_path)
        assert there.returncode == 0, there.stderr
    assert json.loads(there.stdout)["out"] == f"{OUT}.{ending}"
    result = fetched("s3://bucket/results", tmp_path / "fetched")
    assert [file.name for file in result.iterdir()] == [f"labels.{ending}"]
    assert (result / f"labels.{ending}").read_bytes() == (tmp_path / f"here.{ending}").read_bytes()
    assert list(user_cache("results").iterdir()) == []


def test_a_file_that_was_interrupted_goes_on_and_one_that_cannot_be_copied_stays(
    server: S3Server, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, keys = put_shards(server, tmp_path / "shards", 3, 20)
    server.write("rows/001b.png", b"no picture")  # pictures come before containers
    given = ("classify", address, "--model", str(model), "--column", "image", "--out", f"{OUT}.csv")
    stopped = call(*given, "--max-errors", "0", cwd=tmp_path)
    assert "1 of 1 inputs are unreadable, more than 0" in stopped.stderr
    assert names("s3://bucket/results") == set()
    again = call(*given, cwd=tmp_path)
    assert "has 1 row: continue it with --resume" in again.stderr
    write = object_store.write

    def gone(place: str, content: Path | bytes) -> None:
        if place == f"{OUT}.csv":
            server.stop()
            monkeypatch.setattr(object_store, "RETRY_SECONDS", 2.0)
        write(place, content)

    monkeypatch.setattr(object_store, "write", gone)
    lost = call(*given, "--resume", cwd=tmp_path)
    assert lost.returncode == 1
    told, _, kept = lost.stderr.strip().rpartition("; the result is ")
    assert told.splitlines()[-1].startswith(f"error: {OUT}.csv cannot be reached: ")
    assert len(Path(kept).read_text().splitlines()) == 1 + 1 + len(keys)


@pytest.mark.parametrize(
    ("out", "options", "message", "code"),
    [
        ("s3://nowhere/labels.csv", (), "s3://nowhere/labels.csv: no such bucket or path", 2),
        ("file:///sys/labels.csv", (), "file:///sys/.labels.csv.unfinished refuses these credentials", 1),
        ("file:///sys/labels", ("--ray",), "file:///sys/labels/_unfinished refuses these credentials", 1),
        ("s3://nowhere/labels", ("--ray",), "s3://nowhere/labels: no such bucket or path", 2),
        ("s3://bucket/labels.txt", (), "--out labels.txt: end it in .csv, ", 2),
        ("s3://key:secret@bucket/labels.csv", (), "--out: an address with a key in it", 2),
        ("ftp://bucket/labels.csv", (), "--out: ftp://bucket/labels.csv: give s3://bucket/path", 2),
        ("s3://bucket/rows/labels.csv", (), "lies in the input s3://bucket/rows, and would be read as one", 2),
        ("s3://bucket/rows/labels", ("--ray",), "lies in the input s3://bucket/rows, and would be read as one", 2),
        ("s3://bucket/rows/000.parquet", ("--ray",), "lies in the input s3://bucket/rows", 2),
        ("s3://bucket/taken", ("--ray",), "s3://bucket/taken holds a.parquet already: delete it", 1),
        ("s3://bucket/taken/a.parquet", ("--ray",), "s3://bucket/taken/a.parquet is a file: with --ray", 1),
    ],
)
def test_a_place_that_cannot_be_one_is_one_line(
    out: str, options: tuple[str, ...], message: str, code: int, server: S3Server, model: Path, tmp_path: Path
) -> None:
    address, _ = put_shards(server, tmp_path / "shards", 1, 3)
    server.write("taken/a.parquet", b"")
    told = call("classify", address, "--model", str(model), "--column", "image", "--out", out, *options, cwd=tmp_path)
    assert told.returncode == code
    assert message in told.stderr
    assert "secret" not in told.stderr
    assert told.stderr.count("\n") == 1
    assert not user_cache("results").exists() or not any(user_cache("results").iterdir())


class Actors:
    """In place of a cluster: what an actor does, done here, until `most` shards are done."""

    def __init__(self) -> None:
        self.most = 10**6
        self.done: list[int] = []
        self.seen: set[str] = set()

    def __call__(self, work: Any, todo: list[dict[str, Any]], _: int) -> Generator[dict[str, Any]]:
        actor = ray_batch._ShardClassifier(pickle.loads(pickle.dumps(work)))  # noqa: S301  (as Ray does)
        for item in todo[: self.most]:
            answer = actor({name: [value] for name, value in item.items()})
            assert answer["error"] == [""]
            self.done.append(item["number"])
            yield json.loads(answer["done"][0])
        self.seen = names(OUT)
        if self.most < len(todo):
            raise InfoAEError("stopped")


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    played = Actors()
    monkeypatch.setattr(ray_batch, "_pipeline", played)
    return played


def test_a_folder_goes_on_where_it_was_stopped_and_is_marked_until_it_is_whole(
    server: S3Server, actors: Actors, model: Path, tmp_path: Path
) -> None:
    add_reference(model, PIXELS)
    address, keys = put_shards(server, tmp_path / "shards", 5, 20)
    given = ("classify", address, "--model", str(model), "--column", "image", "--out", OUT, "--ray", "--json")
    actors.most = 2
    assert "error: stopped" in call(*given, cwd=tmp_path).stderr
    assert actors.seen == {"_job.json", "_unfinished", "part-000000.parquet", "part-000001.parquet"}
    again = call(*given, cwd=tmp_path)
    assert f"an interrupted job for {OUT} has 2 of 5 shards: continue it with --resume, or delete {OUT}" in again.stderr
    other = call(*given, "--latent", "--resume", cwd=tmp_path)
    assert f"the interrupted job for {OUT} used another model, names, columns" in other.stderr
    actors.most = 5
    done = call(*given, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["out"], summary["num_rows"], summary["num_resumed"]) == (OUT, 100, 40)
    assert actors.done == [0, 1, 2, 3, 4]
    assert actors.seen - names(OUT) == {"_unfinished"}
    assert names(OUT) - actors.seen == {"_drift.json"}
    result = fetched(OUT, tmp_path / "fetched")
    assert json.loads((result / "_drift.json").read_text()) == summary["drift"]
    assert [row["path"] for row in rows_of(result)] == keys
    assert [row["label"] for row in rows_of(result)] == labels(model, 5, 20)
    whole = call(*given, cwd=tmp_path)
    assert f"{OUT} holds _drift.json already: delete it, or give another --out" in whole.stderr


def test_a_part_that_was_damaged_meanwhile_is_named(
    server: S3Server, actors: Actors, model: Path, tmp_path: Path
) -> None:
    address, _ = put_shards(server, tmp_path / "shards", 3, 20)
    given = ("classify", address, "--model", str(model), "--column", "image", "--out", OUT, "--ray")
    actors.most = 2
    assert call(*given, cwd=tmp_path).returncode == 1
    server.write("results/labels/part-000001.parquet", b"PAR1 and no more")
    refused = call(*given, "--resume", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {OUT}/part-000001.parquet is damaged (")
    assert refused.stderr.endswith("): delete it and repeat with --resume\n")
