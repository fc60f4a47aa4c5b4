"""Classifying what lies in an object store: a real server, which is killed, changed and out of reach meanwhile."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae import kept
from infoae.data import object_store
from infoae.deploy.job import classify_files
from infoae.errors import InfoAEError
from infoae.inputs.blocks import Source
from infoae.inputs.decoding import decode
from infoae.inputs.stored import open_inputs
from tests.helpers.commands import call
from tests.helpers.inputs import IMAGE, PIXELS, png, write_tar
from tests.helpers.paths import ROOT
from tests.helpers.rows import labels, put_shards, rows_of, write_rows
from tests.helpers.s3 import S3Server
from tests.helpers.waiting import wait_until

COLUMNS = ("--columns", "path,label,error")


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


def read(sources: list[Source]) -> list[str]:
    return [key for source in sources for block in source.blocks(7) for key in decode(block, IMAGE).keys]


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
