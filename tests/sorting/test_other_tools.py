"""labels.parquet in tools of others: by the commands of docs/other-tools.md, where they are installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae.sorting import labelling
from infoae.sorting.inventory import State
from infoae.sorting.state import LABELS
from tests.helpers.paths import ROOT

ATLAS, FIFTYONE = shutil.which("embedding-atlas"), shutil.which("fiftyone")
LARGEST_NUMBER = 2**53
"""What a page may be given as a number: more is no longer exact in JavaScript, and some pages fail at it."""


def documented(language: str, tool: str) -> str:
    """Return the first example of docs/other-tools.md that names the tool, for a folder `digits` sorted into `s`."""
    page = (ROOT / "docs" / "other-tools.md").read_text(encoding="utf-8")
    examples: list[str] = re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)
    return next(each for each in examples if tool in each).replace("photos-sorted", "s").replace("/photos/", "/digits/")


@pytest.fixture
def folder(done: Callable[[], Path]) -> Path:
    """A folder of 100 pictures that were sorted; the first of them cannot be read."""
    folder = done()
    table = parquet.read_table(folder / "s" / LABELS)
    damaged = table.slice(0, 1).to_pydict() | {"error": ["damaged"]}
    damaged |= {name: [None] for name in ("category", "name", "probability", "unsure", "latent")}
    parquet.write_table(pa.concat_tables([pa.table(damaged, table.schema), table.slice(1)]), folder / "s" / LABELS)
    return folder


def expected(folder: Path) -> dict[str, tuple[int, np.ndarray]]:
    rows = parquet.read_table(folder / "s" / LABELS, columns=["path", "category", "latent"]).to_pylist()
    return {row["path"]: (row["category"], np.asarray(row["latent"])) for row in rows[1:]}


def test_columns_are_of_kinds_that_viewers_take(done: Callable[[], Path]) -> None:
    table = parquet.read_table(done() / "s" / LABELS)
    assert table.column("latent").type == pa.list_(pa.float32())
    assert len({len(latent) for latent in table.column("latent").to_pylist()}) == 1
    assert all(Path(path).is_absolute() and Path(path).is_file() for path in table.column("path").to_pylist())
    for name, kind in zip(table.schema.names, table.schema.types, strict=True):
        if pa.types.is_integer(kind):
            assert max(map(abs, table.column(name).to_pylist())) < LARGEST_NUMBER, name
    times = table.column("modified").cast(pa.int64()).to_pylist()
    files = map(os.fsdecode, table.column("file").to_pylist())
    assert times == [Path(file).stat().st_mtime_ns for file in files]


def test_labels_of_an_earlier_version_are_kept(done: Callable[[], Path]) -> None:
    path = done() / "s" / LABELS
    table = parquet.read_table(path)
    model = (table.schema.metadata or {})[b"infoae.classifier"].decode()
    number = table.schema.get_field_index("modified")
    old = table.set_column(number, "modified_ns", table.column("modified").cast(pa.int64()))
    parquet.write_table(old, path)
    read = labelling._read(path, model)
    assert read is not None
    assert read.equals(table)
    file = Path(table.column("path")[0].as_py())
    known = labelling._by_file(read)[os.fsencode(file)]
    assert known.state == State(file.stat().st_size, file.stat().st_mtime_ns)


@pytest.mark.skipif(ATLAS is None, reason="no Embedding Atlas: pip install embedding-atlas")
def test_embedding_atlas_opens_it(folder: Path) -> None:
    command = documented("bash", "read_blob").split("\n", 1)[1].rstrip()  # after pip install
    subprocess.run(["bash", "-ec", f"{command} --export-application shown"], cwd=folder, check=True)
    shown = parquet.read_table(folder / "shown" / "data" / "dataset.parquet").to_pylist()
    wanted = expected(folder)
    assert sorted(row["path"] for row in shown) == sorted(wanted)
    for row in shown:
        category, latent = wanted[row["path"]]
        assert row["category"] == category
        assert np.array_equal(row["latent"], latent)
        assert row["picture"] == Path(row["path"]).read_bytes()
    assert np.isfinite([(row["projection_x"], row["projection_y"]) for row in shown]).all()


@pytest.mark.skipif(FIFTYONE is None, reason="no FiftyOne: pip install fiftyone")
def test_fiftyone_opens_it(folder: Path) -> None:
    assert FIFTYONE is not None
    script = documented("python", "fiftyone").replace("fo.launch_app(dataset).wait()\n", "")
    script += """
shown = dataset.values(["filepath", "category.label", "category.confidence", "unsure", "latent"])
np.savez("shown", *map(np.asarray, shown))
fo.delete_dataset("photos")
"""
    python = Path(FIFTYONE).read_text(encoding="utf-8").partition("\n")[0].removeprefix("#!")
    quiet = {"FIFTYONE_DO_NOT_TRACK": "true", "FIFTYONE_DATABASE_DIR": str(folder / "database")}
    subprocess.run([python, "-c", script], cwd=folder, check=True, env=os.environ | quiet)
    paths, labels, confidences, unsure, latents = np.load(folder / "shown.npz").values()
    rows = parquet.read_table(folder / "s" / LABELS).slice(1)
    assert paths.tolist() == rows.column("path").to_pylist()
    assert labels.tolist() == rows.column("name").to_pylist()
    assert confidences.tolist() == pytest.approx(rows.column("probability").to_pylist())
    assert unsure.tolist() == rows.column("unsure").to_pylist()
    assert np.array_equal(latents.astype(np.float32), np.asarray(rows.column("latent").to_pylist(), np.float32))
