"""Rows come back from every format as they went in; an interrupted job leaves parts that say what they hold."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from infoae.deploy import job_folder, sinks
from infoae.deploy.bundle import Bundle, Manifest
from infoae.deploy.classifier import Answers
from infoae.deploy.formats import FORMATS
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import KeyDigest, format_of, open_file
from infoae.errors import InfoAEError, UsageError
from tests.helpers.bundles import LATENT, make_bundle

JOB = {"model": "abc"}
PROBABILITIES = np.array([[0.1, 0.6, 0.3], [0.5, 0.25, 0.25]], np.float32)
LATENTS = np.arange(2 * LATENT, dtype=np.float32).reshape(2, LATENT)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    manifest = Bundle.load(make_bundle(tmp_path_factory.mktemp("model") / "bundle")).manifest
    return manifest.model_copy(update={"num_categories": 3, "category_names": ("zero", "one, two", 'th"ree')})


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return rows


def write(path: Path, rows: RowFormat, blocks: list[list[str]], *, resume: bool = False, stop: bool = False) -> int:
    """Write a row for each key; a key that starts with "bad" has an error. Returns how many rows were there before."""
    with open_file(path, format_of(path), rows.schema, JOB, resume=resume) as sink:
        before = sum(part.num_rows for part in sink.parts)
        for keys in blocks:
            errors = ["broken" if key.startswith("bad") else None for key in keys]
            chosen = np.arange(sum(error is None for error in errors)) % 2
            answers = Answers(PROBABILITIES[chosen], LATENTS[chosen])
            sink.write(rows.batch(keys, answers, errors), keys, len(keys) - len(chosen))
        if stop:
            raise InfoAEError("stopped")
    return before


@pytest.mark.parametrize("ending", FORMATS)
def test_rows_come_back(tmp_path: Path, manifest: Manifest, ending: str) -> None:
    path = tmp_path / "new" / f"result{ending}"
    write(path, RowFormat.parse(manifest, None, latent=True), [['a,"b\n', "bad é"], ["c"], ["bad"]])
    first, second, third, fourth = read(path)
    nothing = "" if ending == ".csv" else None
    number = (lambda value: float(value)) if ending == ".csv" else lambda value: value
    assert [row["path"] for row in (first, second, third, fourth)] == [
        'a,"b\\n' if ending == ".csv" else 'a,"b\n',
        "bad é",
        "c",
        "bad",
    ]
    assert number(first["label"]) == 1
    assert first["name"] == "one, two"
    assert number(first["confidence"]) == pytest.approx(0.6)
    assert number(first["top2_label"]) == 2
    assert number(first["top2_confidence"]) == pytest.approx(0.3)
    assert first["error"] == third["error"] == nothing
    assert number(third["label"]) == 1
    for row in (second, fourth):
        assert row["error"] == "broken"
        assert {row[name] for name in ("label", "name", "confidence", "top2_label")} == {nothing}
    if ending == ".csv":
        assert [float(first[f"latent_{index}"]) for index in range(LATENT)] == LATENTS[0].tolist()
        assert second["latent_0"] == ""
    else:
        assert first["latent"] == LATENTS[0].tolist()
        assert second["latent"] is None
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_columns_asked_for_in_their_order(tmp_path: Path, manifest: Manifest) -> None:
    rows = RowFormat.parse(manifest, "top3_name, path,label,top1_label", latent=False)
    write(tmp_path / "x.jsonl", rows, [["a", "b"]])
    assert [list(row.items()) for row in read(tmp_path / "x.jsonl")] == [
        [("top3_name", "zero"), ("path", "a"), ("label", 1), ("top1_label", 1)],
        [("top3_name", 'th"ree'), ("path", "b"), ("label", 0), ("top1_label", 0)],
    ]


@pytest.mark.parametrize("columns", ["", "paths", "top4_label", "top0_label", "path,path", "latent", "top2_path"])
def test_columns_that_do_not_exist(manifest: Manifest, columns: str) -> None:
    with pytest.raises(UsageError, match="column"):
        RowFormat.parse(manifest, columns, latent=False)


def test_an_unknown_ending() -> None:
    with pytest.raises(UsageError, match=r"--out x\.txt: end it in \.csv, \.jsonl, \.parquet"):
        format_of(Path("x.txt"))


def test_a_digest_is_of_the_keys_however_they_are_cut_into_blocks() -> None:
    def digest(*blocks: list[str]) -> str:
        found = KeyDigest()
        for keys in blocks:
            found.update(keys)
        return found.hexdigest()

    assert digest(["a", "b"], ["c"]) == digest([], ["a"], [], ["b", "c"], [])
    assert len({digest(["a", "b"]), digest(["ab"]), digest(["b", "a"]), digest(["a"]), digest([""]), digest()}) == 6


@pytest.mark.parametrize(("seconds", "expected"), [(1e9, [0, 0, 1, 1, 1, 2]), (0.0, [1, 2, 3, 4, 5, 6])])
def test_a_part_is_stored_when_it_is_large_or_old(
    seconds: float, expected: list[int], tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 3)
    monkeypatch.setattr(sinks, "PART_SECONDS", seconds)
    rows, path = RowFormat.parse(manifest, "path", latent=False), tmp_path / "x.csv"
    with open_file(path, format_of(path), rows.schema, JOB, resume=False) as sink:
        stored = []
        for key in "abcdef":
            sink.write(rows.batch([key], Answers(PROBABILITIES[:1], LATENTS[:1]), [None]), [key], 0)
            stored.append(len(sink.parts))
    assert stored == expected
    assert [row["path"] for row in read(path)] == list("abcdef")


def test_rows_are_on_standard_output_at_once(manifest: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads them need not wait for a buffer to fill."""

    class Seen(io.RawIOBase):
        content = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.content += bytes(data)
            return len(data)

    seen, rows = Seen(), RowFormat.parse(manifest, "path", latent=False)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(seen)))
    sink = sinks.StandardOutput(FORMATS[".csv"], rows.schema)  # type: ignore[arg-type]
    assert seen.content == b'"path"\n'
    sink.write(rows.batch(["a"], Answers(PROBABILITIES[:1], LATENTS[:1]), [None]), ["a"], 0)
    assert seen.content == b'"path"\n"a"\n'


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupted_at_any_line_the_parts_hold_what_they_say(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before each line of the sink in turn; a file just opened is then closed late, which is no matter."""
    monkeypatch.setattr(sinks, "PART_ROWS", 2)
    blocks, rows = [[key] for key in "abcde"], RowFormat.parse(manifest, "path", latent=False)

    def interrupting(left: int) -> Callable[..., Any]:
        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if frame.f_code.co_name not in ("write", "flush") or frame.f_code.co_filename != sinks.__file__:
                return None
            left -= event == "line"
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
            return trace

        return trace

    previous, interrupted = sys.gettrace(), 0
    for line in itertools.count(1):
        path = tmp_path / f"{line}.csv"
        sys.settrace(interrupting(line))
        try:
            write(path, rows, blocks)
        except KeyboardInterrupt:
            interrupted += 1
        else:
            break
        finally:
            sys.settrace(previous)
        folder = tmp_path / f".{path.name}.partial"
        stored = (
            [row for part in sorted(folder.glob("0*")) for row in part.read_text().split()] if folder.exists() else []
        )
        assert stored == [f'"{key}"' for key in "abcde"[: len(stored)]]
        with open_file(path, format_of(path), rows.schema, JOB, resume=True) as sink:
            assert sum(part.num_rows for part in sink.parts) == len(stored)
            assert b"".join(part.file.read_bytes() for part in sink.parts).decode().split() == stored
            for part, count in ((part, part.num_rows) for part in sink.parts):
                digest = sinks.KeyDigest()
                digest.update([key.strip('"') for key in stored[:count]])
                stored = stored[count:]
                assert part.digest == digest.hexdigest()
    assert interrupted > 20


@pytest.mark.parametrize("ending", FORMATS)
def test_nothing_appears_before_the_end_and_parts_are_continued(
    tmp_path: Path, manifest: Manifest, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 3)
    path, rows = tmp_path / f"x{ending}", RowFormat.parse(manifest, "path,error", latent=False)
    with pytest.raises(InfoAEError, match="stopped"):
        write(path, rows, [["a", "b"], ["bad c", "d"], ["e"]], stop=True)
    assert not path.exists()
    with pytest.raises(InfoAEError, match=r"an interrupted job for .* has 5 rows: continue it with --resume"):
        write(path, rows, [["f"]])
    other = RowFormat.parse(manifest, "path", latent=False)
    with (
        pytest.raises(InfoAEError, match="used another model, names, columns, --column or format"),
        open_file(path, format_of(path), other.schema, {"model": "other"}, resume=True),
    ):
        pass
    assert write(path, rows, [["f"]], resume=True) == 5
    assert [row["path"] for row in read(path)] == ["a", "b", "bad c", "d", "e", "f"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_parts_of_a_job_that_is_not_described_are_refused(tmp_path: Path, manifest: Manifest) -> None:
    """An earlier infoae called the description otherwise."""
    path, rows = tmp_path / "x.csv", RowFormat.parse(manifest, "path", latent=False)
    with pytest.raises(InfoAEError, match="stopped"):
        write(path, rows, [["a"]], stop=True)
    (tmp_path / ".x.csv.partial" / job_folder.DESCRIPTION).unlink()
    with pytest.raises(InfoAEError, match=r"used another model, .* or delete .*\.x\.csv\.partial to start again"):
        write(path, rows, [["a"]], resume=True)


@pytest.mark.parametrize("stop", [False, True])
def test_no_file_is_deleted_while_the_job_has_it_open(
    tmp_path: Path, manifest: Manifest, stop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps an open file under another name until it is closed, and the folder with it."""
    deleted: list[bool] = []
    locks: list[Any] = []
    delete, opened = shutil.rmtree, Path.open

    def watched(folder: Path, **options: Any) -> None:
        deleted.append(all(lock.closed for lock in locks))
        delete(folder, **options)

    def kept(path: Path, *arguments: Any, **options: Any) -> Any:
        file = opened(path, *arguments, **options)
        locks.extend([file] if path.name == job_folder.LOCK else [])
        return file

    monkeypatch.setattr(shutil, "rmtree", watched)
    monkeypatch.setattr(Path, "open", kept)
    with contextlib.suppress(InfoAEError):
        write(tmp_path / "x.csv", RowFormat.parse(manifest, None, latent=False), [] if stop else [["a"]], stop=stop)
    assert [file.name for file in tmp_path.iterdir()] == ([] if stop else ["x.csv"])
    assert locks
    assert deleted
    assert all(deleted)


def test_a_job_that_never_wrote_leaves_nothing(tmp_path: Path, manifest: Manifest) -> None:
    with pytest.raises(InfoAEError, match="stopped"):
        write(tmp_path / "x.csv", RowFormat.parse(manifest, None, latent=False), [], stop=True)
    assert list(tmp_path.iterdir()) == []


def test_an_old_result_stays_until_the_new_one_is_whole(tmp_path: Path, manifest: Manifest) -> None:
    path, rows = tmp_path / "x.csv", RowFormat.parse(manifest, "path", latent=False)
    path.write_text("old")
    with pytest.raises(InfoAEError, match="stopped"):
        write(path, rows, [["a"]], stop=True)
    assert path.read_text() == "old"
    write(path, rows, [["b"]], resume=True)
    assert path.read_text() == '"path"\n"a"\n"b"\n'


def test_two_jobs_for_one_result(tmp_path: Path, manifest: Manifest) -> None:
    path, rows = tmp_path / "x.csv", RowFormat.parse(manifest, "path", latent=False)
    with (
        open_file(path, format_of(path), rows.schema, JOB, resume=False),
        pytest.raises(InfoAEError, match="another command is writing"),
    ):
        write(path, rows, [["a"]], resume=True)


def test_a_place_that_cannot_be_written(tmp_path: Path, manifest: Manifest) -> None:
    rows = RowFormat.parse(manifest, "path", latent=False)
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InfoAEError, match=r"cannot write .*Not a directory"):
        write(tmp_path / "file" / "x.csv", rows, [["a"]])
    with pytest.raises(InfoAEError, match=r"cannot write .*it is a folder"):
        write(tmp_path / "folder.csv", rows, [["a"]])


def test_a_full_disk_is_one_line_and_keeps_what_was_stored(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sinks, "PART_ROWS", 1)
    path, rows = tmp_path / "x.csv", RowFormat.parse(manifest, "path", latent=False)
    form = format_of(path)
    write_part, attempts = form.write, itertools.count(1)

    def full(file: Any, batches: Any) -> None:
        if next(attempts) in (2, 3):  # the part itself, and the attempt to save what is there
            raise OSError(28, "No space left on device")
        write_part(file, batches)

    monkeypatch.setattr(form, "write", full)
    with pytest.raises(InfoAEError, match=r"cannot write .*No space left on device"):
        write(path, rows, [["a"], ["b"]])
    assert write(path, rows, [["b"]], resume=True) == 1
    assert path.read_text() == '"path"\n"a"\n"b"\n'
