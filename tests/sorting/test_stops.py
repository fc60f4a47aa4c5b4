"""infoae sort is stopped, refused or cannot write: it goes on where it was, and leaves nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pyarrow import parquet

from infoae import local
from infoae.evaluation import structure
from infoae.sorting import labelling, training
from tests.helpers.commands import call
from tests.sorting.conftest import sort, tree

pytestmark = [
    pytest.mark.filterwarnings("always::infoae.errors.Notice"),
    pytest.mark.xdist_group("sorted"),
]
KEPT = ("path", "category", "probability", "size")


def labels(folder: Path) -> list[dict[str, Any]]:
    found = parquet.read_table(folder / "s/labels.parquet", columns=list(KEPT)).to_pylist()
    return [row | {"path": row["path"].removeprefix(str(folder))} for row in found]


def test_the_same_command_goes_on_from_every_stage_and_comes_to_the_same(
    once: tuple[Path, str], digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(digits, folder)

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def after_five_steps(_: object) -> Iterator[Callable[[], bool]]:
        yield iter([False] * 4 + [True]).__next__

    for module, name, stop, reached in (
        (training, "convert_files", stopped, None),
        (training, "choose", stopped, "num_prepared"),
        (local, "stop_on_signal", after_five_steps, "recipe"),
        (training, "export_run", stopped, "trained"),
        (labelling, "classify_files", stopped, "exported"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, stop)
            code, _, said = sort(folder)
        assert (code, "stopped; go on with the same command: infoae sort digits --out s" in said) == (130, True), name
        if reached is None:
            assert not (folder / "s").exists()
        else:
            assert json.loads((folder / "s/sort.json").read_text())[reached], name
            assert not (folder / "s/labels.csv").exists()
    code, _, said = sort(folder)
    assert (code, "2/5" in said, "3/5" in said, "4/5" in said) == (0, False, False, False)
    kept = once[0].with_name("kept")
    expected = labels(kept if kept.exists() else once[0])
    assert [row | {"path": row["path"].removeprefix(str(once[0]))} for row in expected] == labels(folder)
    assert not (folder / "s/work").exists()


def test_a_dry_run_changes_nothing_and_says_what_would_be_done(
    digits: Path, tmp_path: Path, done: Callable[[], Path]
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(digits, folder)
    before = tree(folder)
    code, out, said = sort(folder, "--dry-run", "--json", "--minutes", "0.0001")
    assert code == 0, said
    told = json.loads(out)
    assert (told["pictures"], told["image_shape"], told["out"]) == (100, [1, 28, 28], str(folder / "s"))
    (trained,) = told["training"].values()
    assert (trained["epochs"], trained["categories"]) == (4, "2")  # two, one and one of each stage is the least
    assert trained["minutes"] > 0 < trained["memory_gb"]
    assert tree(folder) == before
    finished = done()
    (finished / "digits/000.png").unlink()
    before = tree(finished)
    told = json.loads(sort(finished, "--dry-run", "--json")[1])
    assert (told["new"], told["changed"], told["gone"]) == (0, 0, 1)
    assert tree(finished) == before


def few(folder: Path, count: int, content: bytes | None = None) -> None:
    (folder / "p").mkdir()
    for number in range(count):
        path = folder / "p" / f"{number}.png"
        if content is None:
            Image.new("L", (28, 28), number).save(path)
        else:
            path.write_bytes(content)


@pytest.mark.parametrize(
    ("count", "content", "more", "code", "message"),
    [
        (0, None, [], 1, "/p: no picture can be read: there are none"),
        (49, None, [], 1, "/p: 49 pictures, at least 50 are needed to find categories"),
        (60, b"damaged", [], 1, "/p: no picture can be read: not an image of a known format"),
        (60, None, ["--out", "p/s"], 2, "/p/s lies inside "),
        (60, None, ["--out", "there"], 2, "/there is there already and no result of infoae sort: give another --out"),
        (60, None, ["--unsure", "2"], 2, "--unsure 2: give a probability, from 0 to 1"),
        (60, None, ["--minutes", "nan"], 2, "--minutes nan: give a number above 0"),
        (60, None, ["--config", "nosuch"], 2, "no recipe or readable file 'nosuch'"),
        (60, None, ["--categories", "x"], 2, "--categories 'x': give a number from 2 to "),
        (60, None, ["--categories", "1"], 2, "--categories '1': give a number from 2 to "),
        (60, None, ["--categories", "auto", "--config", "smoke"], 2, "model.num_over_categories"),
        (60, None, ["--out", "file/s"], 1, "/file is no folder"),
    ],
)
def test_what_cannot_be_sorted_is_told_in_one_line_and_nothing_is_left(
    count: int, content: bytes | None, more: list[str], code: int, message: str, tmp_path: Path
) -> None:
    few(tmp_path, count, content)
    (tmp_path / "there").mkdir()
    (tmp_path / "there/mine").touch()
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    done = call("sort", "p", *more, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in error
    assert tree(tmp_path) == before


def test_too_few_that_can_be_read_leave_nothing(tmp_path: Path) -> None:
    few(tmp_path, 40)
    for number in range(20):
        (tmp_path / f"p/x{number}.png").write_bytes(b"damaged")
    before = tree(tmp_path)
    done = call("sort", "p", "--config", "mnist", cwd=tmp_path)
    assert done.returncode == 1
    assert "/p: 40 readable pictures, at least 50 are needed; of 20 that cannot be read the first: " in done.stderr
    assert tree(tmp_path) == before


def test_a_folder_that_may_not_be_written_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few(tmp_path, 60)
    real = os.access
    # Root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, *more, **how: Path(path) != tmp_path and real(path, *more, **how))
    done = call("sort", "p", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"error: cannot write {tmp_path}/p-sorted: {tmp_path} is not writable" in done.stderr


def test_a_full_disk_leaves_the_labels_as_they_were(done: Callable[[], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = done()
    before = tree(folder / "s")
    (folder / "digits/000.png").unlink()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(parquet, "write_table", full)
    code, _, said = sort(folder)
    assert (code, "error: No space left on device" in said) == (1, True)
    after = tree(folder / "s")
    assert after.pop("labels.parquet") == before.pop("labels.parquet")
    assert not [name for name in after if "tmp" in name]
    monkeypatch.undo()
    assert sort(folder)[0] == 0
    assert len(labels(folder)) == 99


def test_a_folder_that_is_suddenly_empty_keeps_its_labels(done: Callable[[], Path]) -> None:
    folder = done()
    before = labels(folder)
    shutil.rmtree(folder / "digits")
    (folder / "digits").mkdir()
    code, _, said = sort(folder)
    assert (code, "holds no pictures now: the labels in " in said) == (1, True)
    assert labels(folder) == before


def test_other_settings_or_pictures_need_again_or_another_folder(done: Callable[[], Path]) -> None:
    folder = done()
    code, _, said = sort(folder, "--categories", "3")
    assert (code, "--categories was another when " in said) == (2, True)
    shutil.copytree(folder / "digits", folder / "others")
    other = call("sort", "others", "--out", "s", cwd=folder)
    assert (other.returncode, f"is of the pictures in {folder}/digits: give another --out" in other.stderr) == (2, True)


def test_pictures_of_one_kind_get_no_labels(digits: Path, tmp_path: Path) -> None:
    few(tmp_path, 60)
    for path in (tmp_path / "p").iterdir():
        Image.new("L", (28, 28), 90).save(path)
    recipe = (digits / "tiny.yaml").read_text()
    (tmp_path / "tiny.yaml").write_text(recipe)
    command = ["sort", "p", "--out", "s", "--config", "tiny.yaml", "--categories"]
    done = call(*command, "auto", cwd=tmp_path)
    message = f"error: no structure was found in {tmp_path}/p, so there are no labels: "
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert not (tmp_path / "s/labels.csv").exists()
    assert not (tmp_path / "s/bundle").exists()
    repeated = call(*command, "auto", cwd=tmp_path)
    assert (repeated.returncode, message in repeated.stderr, "3/5" in repeated.stderr) == (1, True, False)


@pytest.mark.parametrize(
    ("used", "nats", "agreeing", "distinct", "why"),
    [
        (5, 1.18, 1.0, 0.54, None),  # ten digits
        (4, 1.07, 0.57, 0.43, None),  # photographs of ten things
        (6, 0.69, 0.571, 0.194, "a category is shared by 57% of the heads"),  # ones
        (6, 1.07, 0.622, 0.187, "a category is shared by 62% of the heads"),  # fours
        (2, 0.006, 0.8, 0.062, "says next to nothing of that for its augmented twin (0.01 nats)"),  # noise
        (1, 0.0, 1.0, 0.0, "nearly all pictures have the same answer"),
    ],
)
def test_structure_is_told_from_none(used: int, nats: float, agreeing: float, distinct: float, why: str | None) -> None:
    vote = {"evaluation/heads_agreeing": agreeing, "evaluation/least_told_apart": distinct}
    found = structure.why_none(used, nats, [{"step": 1}, {"step": 2, **vote}])
    assert (found is None) if why is None else (found is not None and why in found)


def test_labelling_again_needs_no_torch(done: Callable[[], Path]) -> None:
    import subprocess

    folder = done()
    (folder / "digits/000.png").unlink()
    code = "import sys; from infoae.cli.main import main\ntry: main()\nfinally: sys.exit('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "sort", "digits", "--out", "s"]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (found.returncode, "0 new, 0 changed, 1 gone" in found.stdout) == (0, True), found.stderr
