"""Pictures decoded on the nodes of a simulated Ray cluster: the same shards as on one machine, whatever is lost."""

from __future__ import annotations

import tarfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from infoae import data
from infoae.cluster import connect, converting
from infoae.cluster.connect import Request
from infoae.config import Data
from infoae.data.image_spec import ImageSpec
from infoae.inputs.convert import Converted, Decoder, convert_files
from tests.helpers.commands import call
from tests.helpers.ray_runs import RAY_ONLY, workers
from tests.helpers.s3 import S3Server

pytestmark = RAY_ONLY
IMAGE = ImageSpec(channels=1, height=16, width=16)


@pytest.fixture
def pile(tmp_path: Path) -> Path:
    """Two folders of 90 digits each, one of them damaged, a text, three archives of 70 and an array of 300."""
    digits = np.asarray(data.load(Data(), "test").images)[:, 0]
    pile = tmp_path / "pile"
    for number in range(390):
        folder = pile / ("even" if number % 2 else "odd") if number < 180 else tmp_path / f"tar-{number % 3}" / "more"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits[number]).save(folder / f"{number:03}.png")
    (pile / "odd" / "090.png").write_bytes(b"none")
    (pile / "notes.txt").write_text("no picture")
    for number in range(3):
        with tarfile.open(pile / f"{number}.tar", "w") as archive:
            archive.add(tmp_path / f"tar-{number}", "")
    np.save(tmp_path / "array.npy", digits[400:700, :16, :16])
    return pile


def converted(pile: Path, out: Path, decoder: Decoder | None, **options: Any) -> tuple[Converted, dict[str, bytes]]:
    """Return what was told, and every file that was written."""
    done = convert_files([str(pile)], out, IMAGE, decoder=decoder, seed=3, **options)
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    return replace(done, seconds=0.0), files


@pytest.mark.parametrize("options", [{"labels": "folders"}, {}])
def test_nodes_write_what_one_machine_writes(
    ray_cluster: Any, pile: Path, tmp_path: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pile.parent)  # nodes run elsewhere
    monkeypatch.setattr(converting, "NUM_FILES", 40)
    given = [Path("pile")] if options else [Path("pile"), Path("array.npy")]
    expected = [converted(each, tmp_path / f"here-{each.stem}", None, **options) for each in given]
    assert expected[0][0].num_failed == 1
    assert expected[0][0].passed_over
    log = tmp_path / "ray.log"
    with connect.connected(Request(address=ray_cluster.address), log):
        decoder = converting.on_nodes(log)
        found = [converted(each, tmp_path / f"nodes-{each.stem}", decoder, **options) for each in given]
    assert found == expected


@pytest.mark.slow
def test_a_node_that_dies_loses_no_picture(ray_cluster: Any, pile: Path, tmp_path: Path) -> None:
    """It is killed once it decodes; nobody reads what it has made meanwhile."""
    expected = converted(pile, tmp_path / "here", None)
    log, doomed = tmp_path / "ray.log", next(iter(ray_cluster.worker_nodes))
    killed = threading.Event()

    def kill() -> None:
        end = time.monotonic() + 60
        while not workers(doomed, "infoae convert") and time.monotonic() < end:
            time.sleep(0.01)
        if workers(doomed, "infoae convert"):
            killed.set()
        ray_cluster.remove_node(doomed, allow_graceful=False)

    with connect.connected(Request(address=ray_cluster.address), log):
        thread = threading.Thread(target=kill)
        thread.start()
        found = converted(pile, tmp_path / "nodes", converting.on_nodes(log))
        thread.join()
    ray_cluster.add_node(num_cpus=1)
    assert killed.is_set()
    assert found == expected


@pytest.mark.slow
def test_the_command_converts_what_lies_in_a_store(server: S3Server, pile: Path, tmp_path: Path) -> None:
    """On a Ray that it starts here."""
    _, expected = converted(pile, tmp_path / "here", None, labels="folders")
    address = server.put(pile, "pile")
    given = ("convert", address, "--size", "16", "--channels", "1", "--seed", "3", "--labels", "folders")
    told = call(*given, "--ray", "--out", "nodes", cwd=tmp_path)
    assert told.returncode == 3, told.stderr
    assert f"skipped {address}/odd/090.png: " in told.stderr
    out = tmp_path / "nodes"
    assert {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} == expected
