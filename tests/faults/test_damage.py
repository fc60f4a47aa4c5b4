"""Whatever a file that is read back holds, it is what was written, or one line of ours: nothing else is a result."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infoae.config import Config
from infoae.deploy.bundle import Bundle
from infoae.deploy.formats import FORMATS
from infoae.deploy.job_folder import DESCRIPTION, JobFolder
from infoae.deploy.reference import Counts
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import open_file
from infoae.errors import InfoAEError, Notice
from infoae.pseudolabels import pairs, pseudo_labels
from infoae.reproduce import seeds
from infoae.runs import checkpoint, images, names
from infoae.runs.checkpoint import Checkpoint, State
from infoae.runs.run import CATEGORIES, ENVIRONMENT, IMAGES, METRICS, NAMES, NEIGHBOURS, PSEUDO_LABELS, Run
from infoae.tune import record
from tests.helpers.bundles import make_bundle
from tests.helpers.inputs import PIXELS

ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["step", "names", "checkpoint_step", "information_kept", "count", "shape", "fingerprint", "seed", "config"]
SHAPED = ANY | st.dictionaries(st.sampled_from([*KEYS, "score", "generated", "trials", "space", "format"]), ANY)
TEXT = st.binary(max_size=50) | SHAPED.map(lambda value: json.dumps(value).encode())
MANY = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])

STATE = State({"model": {"w": torch.zeros(2)}})
JOB: dict[str, Any] = {"model": 1}
TAKEN: dict[str, Any] = {"stored": "5 rows", "resume": True, "differences": "model"}
READERS: dict[str, tuple[str, Callable[[Run], Any]]] = {
    "environment": (ENVIRONMENT, lambda run: run.environments()),
    "categories": (CATEGORIES, lambda run: run.information_kept()),
    "metrics": (METRICS, lambda run: run.forget_metrics_after(10**30)),
    "names": (NAMES, lambda run: names.stored(run, 3, 1)),
    "images": (IMAGES, lambda run: images.keep(run, images.identify(PIXELS[:, None]), run.config().data)),
    "checkpoint": ("checkpoints/step-00000001/checkpoint.json", lambda run: run.checkpoint("best")),
    "seed": ("seed-0.json", lambda run: seeds.read(run.path / "seed-0.json")),
    "sweep": ("sweep.json", lambda run: record.load(str(run.path), run.path.parent)),
    "neighbours": (NEIGHBOURS, lambda run: pairs.load(run, PIXELS[:, None], run.config(), torch.device("cpu"))),
    "pseudo_labels": (PSEUDO_LABELS, lambda run: pseudo_labels.load(run, 5, 1, torch.device("cpu"))),
    "job": (f".x.partial/{DESCRIPTION}", lambda run: JobFolder(run.path / "x").take(JOB, **TAKEN)),
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, tiny_config: Config) -> Run:
    return Run.create(tmp_path, "run", "smoke", tiny_config)


@pytest.mark.parametrize("kind", READERS)
@given(content=TEXT)
@MANY
def test_any_content_is_read_or_refused_in_one_line(kind: str, content: bytes, run: Run) -> None:
    name, read = READERS[kind]
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    (run.path / name).write_bytes(content)
    try:
        read(run)
    except InfoAEError as error:
        assert "\n" not in str(error)


@given(data=st.data())
@MANY
def test_what_a_checkpoint_says_of_itself_cannot_be_changed(data: st.DataObject, run: Run) -> None:
    path, saved = run.checkpoints / "step-00000007", run.path / "saved"
    file = path / "checkpoint.json"
    if not saved.exists():
        checkpoint.save(run.checkpoints, Checkpoint(7, 1, 2.5, 0.25), STATE)
        shutil.copy(file, saved)
    shutil.copy(saved, file)
    content = json.loads(file.read_text())
    assert checkpoint.load(path)[0].score == 0.25
    key = data.draw(st.sampled_from(sorted(content)))
    value = data.draw(ANY.filter(lambda value: json.dumps(value) != json.dumps(content[key])))
    file.write_text(json.dumps(content | {key: value}))
    with pytest.raises(InfoAEError, match=r"is damaged .*remove that folder|upgrade"):
        checkpoint.load(path)


def test_a_checkpoint_is_of_the_step_in_its_name(tmp_path: Path) -> None:
    path = checkpoint.save(tmp_path, Checkpoint(7, 1, 2.5, 0.25), STATE)
    with pytest.raises(InfoAEError, match=r"checkpoint\.json is of step 7"):
        checkpoint.read(path.rename(tmp_path / "step-00000008"))


@given(data=st.data())
@MANY
def test_changed_pseudo_labels_are_refused(data: st.DataObject, run: Run) -> None:
    labels = np.arange(20)
    pseudo_labels.save(run, labels, 1)
    assert (pseudo_labels.load(run, 20, 1, torch.device("cpu")) == labels).all()
    content = bytearray((run.path / PSEUDO_LABELS).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (run.path / PSEUDO_LABELS).write_bytes(content)
    with pytest.raises(InfoAEError, match="missing or damaged"):
        pseudo_labels.load(run, 20, 1, torch.device("cpu"))


def test_only_the_line_that_was_being_written_may_be_broken(run: Run) -> None:
    lines = ['{"step": 1, "loss": NaN}\n', '{"step": 2, "loss": 0.5}\n']
    for end in range(len(lines[1])):
        (run.path / METRICS).write_text(lines[0] + lines[1][:end])
        assert [line["step"] for line in run.metrics()] == [1] if end < len(lines[1]) - 1 else [1, 2]
    for broken in ('{"step"\n', "[1]\n", '{"loss": 1}\n', '{"step": "1"}\n', "\n"):
        (run.path / METRICS).write_text(lines[0] + broken + lines[1])
        with pytest.raises(InfoAEError, match=r"line 2 of .*metrics\.jsonl is damaged"):
            list(run.metrics())


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@given(data=st.data())
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_part_of_a_job_is_made_again(
    ending: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("job")
    manifest = Bundle.load(make_bundle(folder / "bundle")).manifest
    rows, out = RowFormat.parse(manifest, "path,error", latent=False), folder / f"x{ending}"
    keys = [f"{number}" for number in range(6)]

    def write(stop_at: int) -> int:
        with open_file(out, FORMATS[ending], rows.schema, {}, resume=True) as sink:
            done = sum(part.num_rows for part in sink.parts)
            for key in keys[done:stop_at]:
                sink.write(pa.record_batch([[key], ["unreadable"]], schema=rows.schema), [key], 1, Counts())
                sink.flush()
            if stop_at < len(keys):
                raise InfoAEError("stopped")
        return done

    with pytest.raises(InfoAEError, match="stopped"):
        write(4)
    part = data.draw(st.sampled_from(sorted((folder / f".{out.name}.partial").glob("0*"))))
    content = bytearray(part.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    part.write_bytes(content)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert write(6) == int(part.name[:8])
    assert told[0].category is Notice
    assert "made again" in str(told[0].message)
    result = out.read_bytes()
    write(6)
    assert out.read_bytes() == result
