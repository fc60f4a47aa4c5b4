"""An interrupted job leaves parts that say what they hold, and goes on from them."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from infoae.deploy import job_folder, sinks
from infoae.deploy.bundle import Manifest
from infoae.deploy.formats import FORMATS
from infoae.deploy.rows import RowFormat
from infoae.deploy.sinks import format_of, open_file
from infoae.errors import InfoAEError
from tests.helpers.results import JOB, manifest_in, read, write


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return manifest_in(tmp_path_factory.mktemp("model"))


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
