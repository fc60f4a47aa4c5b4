"""Classifying what lies in an object store: a real server, which is killed, changed and out of reach meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae import kept
from infoae.data import object_store
from infoae.deploy import Classifier
from infoae.deploy.job import classify_files
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Source
from infoae.inputs.decoding import decode
from infoae.inputs.stored import open_inputs
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import COMMAND, call
from tests.helpers.inputs import IMAGE, PIXELS, png, write_tar
from tests.helpers.paths import ROOT
from tests.helpers.s3 import S3Server
from tests.helpers.waiting import wait_until

COLUMNS = ("--columns", "path,label,error")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """Pictures, containers of each kind, and what is passed over or unreadable."""
    folder = tmp_path / "pile"
    (folder / "cats").mkdir(parents=True)
    for name in ("a.png", "cats/b #1?.png", "cats/ä%20.png", ".hidden.png", "notes.json"):
        (folder / name).write_bytes(png(len(name)))
    (folder / "damaged.png").write_bytes(b"no picture")
    write_tar(folder / "cats" / "x.tar", {"1.png": png(1), "2.png": png(2)})
    write_rows(folder / "rows.parquet", range(30), [None, b"no picture"])
    as_structs = [{"bytes": png(3), "path": "a.png"}, {"bytes": None, "path": "a.png"}]
    parquet.write_table(pa.table({"image": as_structs}), folder / "structs.parquet")
    (folder / "cats" / "cut.parquet").write_bytes((folder / "rows.parquet").read_bytes()[:200])
    return folder


def write_rows(path: Path, rows: range, others: list[bytes | None] | None = None) -> None:
    """Write a shard: a picture a row, its number beside it."""
    images = [png(row % len(PIXELS)) for row in rows] + (others or [])
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.table({"row": range(len(images)), "image": images}), path, row_group_size=7)


def put_shards(server: S3Server, folder: Path, count: int, rows: int) -> tuple[str, list[str]]:
    """Put so many shards into the store; return their address and the key of each row."""
    for shard in range(count):
        write_rows(folder / f"{shard:03}.parquet", range(shard, shard + rows))
    keys = [f"s3://bucket/rows/{shard:03}.parquet#{row}" for shard in range(count) for row in range(rows)]
    return server.put(folder, "rows"), keys


def rows_of(place: Path) -> list[dict[str, Any]]:
    files = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def read(sources: list[Source]) -> list[str]:
    return [key for source in sources for block in source.blocks(7) for key in decode(block, IMAGE).keys]


def labels(model: Path, shards: int, rows: int) -> list[int]:
    """Return the label of each row that `put_shards` puts there, by a classifier alone."""
    known = Classifier(model, "cpu").classify(PIXELS[:, None]).probabilities.argmax(axis=1).tolist()
    return [known[(shard + row) % len(PIXELS)] for shard in range(shards) for row in range(rows)]


@pytest.mark.parametrize("in_store", [True, False])
def test_the_rows_are_those_of_the_same_files_in_a_folder(
    in_store: bool, server: S3Server, model: Path, pile: Path, tmp_path: Path
) -> None:
    address = server.put(pile, "some/pile") if in_store else f"file://{pile}"
    expected = classify_files([str(pile)], model, tmp_path / "folder.parquet")
    found = classify_files([f"{address}/"], model, tmp_path / "store.parquet")
    before = {row["path"].replace(str(pile), address): row for row in rows_of(tmp_path / "folder.parquet")}
    after = {row["path"]: row for row in rows_of(tmp_path / "store.parquet")}
    assert found.num_rows == len(after) == expected.num_rows == 41
    assert found.passed_over == expected.passed_over == {"hidden": 1, ".json": 1}
    beside = f"{address}/structs.parquet#1"  # has no bytes, but the path of a file beside it
    assert before.pop(beside)["error"] is None
    assert "the path of another file" in after.pop(beside)["error"]
    assert after.keys() == before.keys()
    for key, row in before.items():
        assert after[key]["label"] == row["label"], key
        assert after[key]["error"] == row["error"], key
    assert kept.entries() == []


def test_files_of_the_store_and_of_this_machine_in_the_order_given(server: S3Server, pile: Path) -> None:
    address = server.put(pile, "pile")
    np.save(pile / "pixels.npy", PIXELS[:2])
    server.write("pile/pixels.npy", (pile / "pixels.npy").read_bytes())
    given = [f"{address}/pixels.npy", str(pile / "a.png"), f"{address}/rows.parquet", f"{address}/damaged.png"]
    keys = read(open_inputs(given, IMAGE, column="image"))
    assert keys == [f"{given[0]}#0", f"{given[0]}#1", given[1], *(f"{given[2]}#{row}" for row in range(32)), given[3]]
    with pytest.raises(InfoAEError, match=rf"^{given[2]}: choose with --column one of the columns .*: image$"):
        read(open_inputs(given[2:3], IMAGE, column="row"))


def test_a_command_that_was_killed_goes_on_and_a_shard_that_changed_is_refused(
    server: S3Server, model: Path, tmp_path: Path
) -> None:
    address, keys = put_shards(server, tmp_path / "shards", 40, 50)
    out, partial = tmp_path / "out.parquet", tmp_path / ".out.parquet.partial"
    given = ("classify", address, "--model", str(model), "--column", "image", *COLUMNS, "--out", str(out))
    command = "from infoae.deploy import sinks; sinks.PART_ROWS = 64; from infoae.cli.main import main; main()"
    killed = subprocess.Popen([sys.executable, "-c", command, *given, "--batch-size", "32"], cwd=ROOT)
    wait_until(lambda: any(partial.glob("00000003-*")), process=killed)
    killed.kill()
    killed.wait()
    assert not out.exists()
    was = (tmp_path / "shards" / "037.parquet").read_bytes()
    server.write("rows/037.parquet", (tmp_path / "shards" / "000.parquet").read_bytes())
    refused = call(*given, "--resume", cwd=tmp_path)
    assert refused.returncode == 1
    told = f"error: s3://bucket/rows/037.parquet has changed since the interrupted job for {out} began: put back what"
    assert refused.stderr.startswith(told)
    assert refused.stderr.count("\n") == 1
    server.write("rows/037.parquet", was)
    done = call(*given, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert " of them from before, 0 unreadable" in done.stderr
    assert [row["path"] for row in rows_of(out)] == keys
    assert [row["label"] for row in rows_of(out)] == labels(model, 40, 50)
    assert kept.entries() == []  # nor what the killed one was reading


def test_a_picture_that_changed_is_refused(server: S3Server, model: Path, pile: Path, tmp_path: Path) -> None:
    server.put(pile, "pile")
    given = ["s3://bucket/pile/a.png", "s3://bucket/pile/damaged.png"]
    with pytest.raises(InfoAEError, match="1 of 2 inputs are unreadable, more than 0"):
        classify_files(given, model, tmp_path / "out.csv", max_errors=0)
    sources = open_inputs(given, IMAGE)
    server.write("pile/a.png", png(7) + b"longer")
    with pytest.raises(InfoAEError, match=r"s3://bucket/pile/a\.png has changed since this command began: put back"):
        read(sources)
    with pytest.raises(InfoAEError, match=r"s3://bucket/pile/a\.png has changed since the interrupted job"):
        classify_files(given, model, tmp_path / "out.csv", resume=True)


def test_a_shard_that_changes_or_goes_under_a_command_ends_it(server: S3Server, tmp_path: Path) -> None:
    put_shards(server, tmp_path / "shards", 2, 3)
    sources = open_inputs(["s3://bucket/rows"], IMAGE)
    server.write("rows/001.parquet", (tmp_path / "shards" / "000.parquet").read_bytes())
    assert len(read(sources[:1])) == 3
    with pytest.raises(InfoAEError, match=r"s3://bucket/rows/001\.parquet has changed since this command began"):
        read(sources[1:])


@pytest.mark.parametrize("kind", ["rows", "pile"])
def test_an_outage_is_waited_for(
    kind: str, server: S3Server, pile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "ANSWER_SECONDS", 1.0)
    put_shards(server, tmp_path / "shards", 2, 3)
    server.put(pile, "pile")
    given = [f"s3://bucket/{kind}", "s3://bucket/pile/a.png"]
    expected = read(open_inputs(given, IMAGE, column="image"))
    sources = open_inputs(given, IMAGE, column="image")
    server.pause(3)
    start = time.monotonic()
    assert read(sources) == expected
    assert time.monotonic() - start > 2.5
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 2.0)
    server.stop()
    with pytest.raises(InfoAEError, match=rf"s3://bucket/{kind}/\S+ cannot be reached: "):
        read(sources)


@pytest.mark.parametrize(
    ("given", "message", "code"),
    [
        ("s3://nowhere/rows", "s3://nowhere/rows: no such bucket or path", 2),
        ("s3://bucket/none", "no input s3://bucket/none: nothing has this address, and nothing lies below it", 1),
        ("s3://key:secret@bucket/rows", "an address with a key in it", 2),
        ("ftp://bucket/rows", "ftp://bucket/rows: give s3://bucket/path", 2),
        ("s3://bucket/pile/list.txt", "s3://bucket/pile/list.txt: a list of files is read from this machine alone", 2),
    ],
)
def test_a_place_that_is_none_is_one_line(
    given: str, message: str, code: int, server: S3Server, model: Path, tmp_path: Path
) -> None:
    server.write("pile/list.txt", b"a.png\n")
    told = call("classify", given, "--model", str(model), "--out", "out.csv", cwd=tmp_path)
    assert told.returncode == code
    assert message in told.stderr
    assert "secret" not in told.stderr
    assert told.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*out.csv*"))


def test_a_result_in_the_store_is_refused(model: Path, tmp_path: Path) -> None:
    told = call("classify", "x.png", "--model", str(model), "--out", "s3://bucket/labels", cwd=tmp_path)
    assert told.returncode == 2
    assert "give a place on this machine" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_refused_credentials_and_a_server_that_is_not_there_are_one_line(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = S3Server(tmp_path)
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 2.0)
    given = ("classify", "s3://bucket/rows", "--model", str(model), "--out", "out.csv")
    try:
        server.start(INITIAL_NO_AUTH_ACTION_COUNT="1")  # making the bucket
        refused = call(*given, cwd=tmp_path, **server.environment)
    finally:
        server.stop()
    gone = call(*given, cwd=tmp_path, **server.environment)
    assert "s3://bucket/rows refuses these credentials (" in refused.stderr
    assert "s3://bucket/rows cannot be reached: " in gone.stderr
    assert [(each.returncode, each.stderr.count("\n")) for each in (refused, gone)] == [(1, 1), (1, 1)]


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a command which has a Ray of its own."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])  # where its workers find infoae
    command = [*COMMAND, *arguments]
    environment, pipe = os.environ | {"PYTHONPATH": path}, subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes of its actors."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if child.name().startswith("ray::") and "Map" in child.name():
                found.append(child)
    return found


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_on_a_cluster_a_killed_command_and_a_killed_worker_lose_and_repeat_nothing(
    server: S3Server, model: Path, tmp_path: Path
) -> None:
    address, keys = put_shards(server, tmp_path / "shards", 40, 500)
    out, partial = tmp_path / "out", tmp_path / ".out.partial"
    given = ("classify", address, "--model", str(model), "--column", "image", *COLUMNS, "--out", str(out), "--ray")
    killed = started(tmp_path, *given)
    wait_until(lambda: len(list(partial.glob("part-*"))) >= 3, process=killed)
    killed.kill()
    killed.communicate()
    done = {file.name: file.stat().st_mtime_ns for file in partial.glob("part-*.parquet")}
    assert 3 <= len(done) < 40
    server.write("rows/039.parquet", (tmp_path / "shards" / "000.parquet").read_bytes())
    refused = call(*given, "--resume", cwd=tmp_path)
    assert refused.stderr.startswith("error: s3://bucket/rows/039.parquet has changed since the interrupted job for ")
    server.write("rows/039.parquet", (tmp_path / "shards" / "039.parquet").read_bytes())
    resumed = started(tmp_path, *given, "--resume", "--json")
    wait_until(lambda: len(list(partial.glob("part-*"))) > len(done) and bool(workers(resumed)), process=resumed)
    workers(resumed)[0].kill()
    output, told = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, told
    assert json.loads(output)["num_rows"] == len(keys)  # Ray, too, says that a worker was killed, but not there
    assert "Traceback" not in told
    assert done.items() <= {file.name: file.stat().st_mtime_ns for file in out.glob("part-*.parquet")}.items()
    assert [row["path"] for row in rows_of(out)] == keys
    assert [row["label"] for row in rows_of(out)] == labels(model, 40, 500)


@pytest.mark.long
@pytest.mark.xdist_group("ray")
def test_on_a_cluster_a_store_that_stays_away_is_one_line_within_a_minute(
    server: S3Server, model: Path, tmp_path: Path
) -> None:
    address, _ = put_shards(server, tmp_path / "shards", 40, 500)
    given = ("classify", address, "--model", str(model), "--column", "image", "--out", "out", "--ray")
    process = started(tmp_path, *given)
    wait_until(lambda: any((tmp_path / ".out.partial").glob("part-*")), process=process)
    server.stop()
    start = time.monotonic()
    _, told = process.communicate(timeout=300)
    assert time.monotonic() - start < 60
    assert process.returncode == 1
    assert re.search(rf"error: on a node of the cluster: {address}/\d+\.parquet cannot be reached: .*\n\Z", told)
    assert "Traceback" not in told
    server.start()
    again = started(tmp_path, *given, "--resume")
    _, told = again.communicate(timeout=300)
    assert again.returncode == 0, told
