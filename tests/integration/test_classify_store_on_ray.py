"""Classifying what lies in an object store on a Ray that is the command's own, both killed meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from infoae.data import object_store
from tests.helpers.commands import COMMAND, call
from tests.helpers.paths import ROOT
from tests.helpers.rows import fetched, labels, put_shards, rows_of
from tests.helpers.s3 import S3Server
from tests.helpers.waiting import wait_until

COLUMNS = ("--columns", "path,label,error")
pytestmark = pytest.mark.xdist_group("ray")


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
@pytest.mark.parametrize("in_store", [False, True])
def test_a_killed_command_and_a_killed_worker_lose_and_repeat_nothing(
    in_store: bool, server: S3Server, model: Path, tmp_path: Path
) -> None:
    address, keys = put_shards(server, tmp_path / "shards", 40, 500)
    out = "s3://bucket/out" if in_store else str(tmp_path / "out")
    given = ("classify", address, "--model", str(model), "--column", "image", *COLUMNS, "--out", out, "--ray")

    def parts(of: Path) -> dict[str, int]:
        """When each part of the result was written."""
        if in_store:
            found = object_store.below(out)[1]
            return {file.name: file.changed for file in found if file.name.startswith("part-")}
        return {file.name: file.stat().st_mtime_ns for file in of.glob("part-*.parquet")}

    making = tmp_path / ".out.partial"
    killed = started(tmp_path, *given)
    wait_until(lambda: len(parts(making)) >= 3, process=killed)
    killed.kill()
    killed.communicate()
    done = parts(making)
    assert 3 <= len(done) < 40
    server.write("rows/039.parquet", (tmp_path / "shards" / "000.parquet").read_bytes())
    refused = call(*given, "--resume", cwd=tmp_path)
    assert refused.stderr.startswith("error: s3://bucket/rows/039.parquet has changed since the interrupted job for ")
    server.write("rows/039.parquet", (tmp_path / "shards" / "039.parquet").read_bytes())
    resumed = started(tmp_path, *given, "--resume", "--json")
    wait_until(lambda: len(parts(making)) > len(done) and bool(workers(resumed)), process=resumed)
    workers(resumed)[0].kill()
    output, told = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, told
    assert json.loads(output)["num_rows"] == len(keys)  # Ray, too, says that a worker was killed, but not there
    assert "Traceback" not in told
    assert done.items() <= parts(tmp_path / "out").items()
    rows = rows_of(fetched(out, tmp_path / "fetched") if in_store else tmp_path / "out")
    assert [row["path"] for row in rows] == keys
    assert [row["label"] for row in rows] == labels(model, 40, 500)


@pytest.mark.long
def test_a_store_that_stays_away_is_one_line_within_a_minute(server: S3Server, model: Path, tmp_path: Path) -> None:
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
