"""What `infoae sort` does after the labels: pictures into folders and back, and corrections of the page."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import csv, parquet

from infoae.runs import checkpoint
from infoae.runs.run import Run
from tests.helpers.commands import call
from tests.sorting.conftest import sort, tree

pytestmark = [
    pytest.mark.filterwarnings("always::infoae.errors.Notice"),
    pytest.mark.xdist_group("sorted"),
]


def contents(folder: Path) -> dict[str, str]:
    """Return the hash of every file below a folder."""
    return {name: value.split(" ")[1] for name, value in tree(folder).items() if value.split(" ")[1]}


def placed(folder: Path) -> Counter[str]:
    return Counter(path.parent.name for path in (folder / "sorted").rglob("*.png"))


def expected(folder: Path) -> Counter[str]:
    found = parquet.read_table(folder / "s/labels.parquet").to_pylist()
    return Counter("unsure" if row["unsure"] else row["name"] for row in found)


def test_pictures_are_copied_by_category_and_taken_back(done: Callable[[], Path]) -> None:
    folder = done()
    before = contents(folder / "digits")
    code, _, said = sort(folder, "--into", "sorted", "--copy", "--dry-run")
    assert (code, (folder / "sorted").exists()) == (0, False)
    assert "100 pictures would be copied" in said
    code, _, said = sort(folder, "--into", "sorted", "--copy")
    assert code == 0, said
    assert placed(folder) == expected(folder)
    assert sorted(contents(folder / "sorted").values()) == sorted(before.values())
    undone = call("sort", "--undo", "sorted.journal.jsonl", cwd=folder)
    assert undone.returncode == 0, undone.stderr
    assert not (folder / "sorted").exists()
    assert contents(folder / "digits") == before


def test_the_same_command_goes_on_moving_what_it_has_labelled(done: Callable[[], Path]) -> None:
    folder = done()
    before, wanted = contents(folder / "digits"), expected(folder)
    assert sort(folder, "--into", "sorted", "--move")[0] == 0
    assert contents(folder / "digits") == {}
    code, _, said = sort(folder, "--into", "sorted", "--move")
    assert (code, placed(folder), expected(folder)) == (0, wanted, wanted), said
    assert call("sort", "--undo", "sorted.journal.jsonl", cwd=folder).returncode == 0
    assert contents(folder / "digits") == before


def test_what_comes_after_a_move_is_labelled_and_moved_too(done: Callable[[], Path]) -> None:
    folder = done()
    before, page = contents(folder / "digits"), folder / "s/gallery.html"
    (folder / "digits/damaged.png").write_bytes(b"damaged")  # which stays, and is nothing new the next time
    assert sort(folder, "--into", "sorted", "--move")[0] == 3
    assert sort(folder, "--into", "sorted", "--move")[0] == 0
    labelled = parquet.read_table(folder / "s/labels.parquet")
    assert len(labelled) == 101
    shutil.copy(next((folder / "sorted").rglob("*.png")), folder / "digits/new.png")
    code, _, said = sort(folder, "--into", "sorted", "--move")
    assert (code, sum(placed(folder).values())) == (3, 101), said
    assert f"{page} shows the pictures that there were" in said
    (folder / "digits/damaged.png").unlink()
    assert call("sort", "--undo", "sorted.journal.jsonl", cwd=folder).returncode == 0
    (folder / "digits/new.png").unlink()
    assert contents(folder / "digits") == before


@pytest.mark.parametrize("more", [["--dry-run"], ["--into", "x", "--copy"], ["digits"], ["--minutes", "1"]])
def test_to_take_back_takes_nothing_else(more: list[str], done: Callable[[], Path]) -> None:
    folder = done()
    assert sort(folder, "--into", "sorted", "--link")[0] == 0
    undone = call("sort", "--undo", "sorted.journal.jsonl", *more, cwd=folder)
    assert (undone.returncode, "takes no " in undone.stderr) == (2, True), undone.stderr
    assert sum(placed(folder).values()) == 100


def test_a_preview_counts_by_the_probability_that_is_given(done: Callable[[], Path]) -> None:
    folder = done()
    code, _, said = sort(folder, "--into", "sorted", "--copy", "--dry-run", "--unsure", "1")
    sure = sum(row["probability"] >= 1 for row in parquet.read_table(folder / "s/labels.parquet").to_pylist())
    assert (code, f"  unsure: {100 - sure}" in said) == (0, True), said


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            ["digits", "--out", "s", "--into", "/", "--move"],
            "--into /: give a folder that can have a journal beside it",
        ),
        (["digits", "--out", "s", "--into", ".", "--move"], "lie in each other"),
        (["digits", "--out", "s", "--into", "s/..", "--copy"], "lie in each other"),
        (["--undo", "digits"], "digits is a folder: give the journal beside it, digits.journal.jsonl"),
    ],
)
def test_a_folder_in_the_wrong_place_is_told(command: list[str], message: str, done: Callable[[], Path]) -> None:
    refused = call("sort", *command, cwd=done())
    assert (refused.returncode, message in refused.stderr.splitlines()[-1]) == (2, True), refused.stderr


@pytest.mark.parametrize("options", [["--into", "sorted"], ["--copy"], ["--into", "sorted", "--copy", "--move"]])
def test_where_to_and_how_belong_together(done: Callable[[], Path], options: list[str]) -> None:
    code, _, said = sort(done(), *options)
    assert (code, "give --into DIR with one of --copy, --link and --move" in said) == (2, True), said


def test_corrections_rename_and_move_pictures_for_good(done: Callable[[], Path]) -> None:
    folder = done()
    rows = parquet.read_table(folder / "s/labels.parquet").to_pylist()
    first = rows[0]
    run = Run.open("sort-1", folder / "s/runs")
    said = {
        "run": "sort-1",
        "step": checkpoint.read(run.checkpoint("best")).step,
        "num_categories": 2,
        "names": {"0": "zeros", "1": "ones"},
        "examples": {first["path"]: 1 - first["category"]},
    }
    (folder / "c.json").write_text(json.dumps(said))
    code, out, told = sort(folder, "--corrections", "c.json", "--json")
    assert code == 0, told
    corrected = parquet.read_table(folder / "s/labels.parquet").to_pylist()
    assert {row["name"] for row in corrected} <= {"zeros", "ones"}
    assert corrected[0]["category"] == 1 - first["category"]
    assert "corrected" in json.loads(out)["run"]
    assert json.loads(sort(folder, "--json")[1])["new"] == 0  # and so it stays
    state = folder / "s/sort.json"  # as if it had been stopped before the export
    stopped = json.loads(state.read_text()) | {"exported": False, "likeness": None, "shown": False}
    state.write_text(json.dumps(stopped))
    code, again, told = sort(folder, "--corrections", "c.json", "--json")
    assert (code, json.loads(again)["run"]) == (0, json.loads(out)["run"]), told
    code, again, told = sort(folder, "--corrections", "c.json", "--json")  # the same numbers and step
    assert (code, json.loads(again)["run"]) == (0, json.loads(out)["run"]), told
    assert "follows c.json already" in told


def test_corrections_are_of_the_run_that_they_name(done: Callable[[], Path]) -> None:
    folder = done()
    run = Run.open("sort-1", folder / "s/runs")
    said = {"run": "sort-1", "step": checkpoint.read(run.checkpoint("best")).step, "num_categories": 2}
    made = [run.name]
    for number, (of, name) in enumerate(((0, "a"), (1, "b"), (0, "c"))):
        (folder / "c.json").write_text(json.dumps(said | {"run": made[of], "names": {"0": name}}))
        code, out, told = sort(folder, "--corrections", "c.json", "--json")
        assert code == 0, told
        made.append(Path(json.loads(out)["run"]).name)
        content = json.loads((folder / "s/runs" / made[-1] / "corrections.json").read_text())
        assert content["of"] == made[of]
        assert ("does not count any more" in told) == (number == 2)
    assert len(set(made)) == 4
    assert not [name for name in made if name.count("corrected") > 1]
    (folder / "c.json").write_text(json.dumps(said | {"run": "sort-7"}))
    code, _, told = sort(folder, "--corrections", "c.json")
    assert (code, "is of run 'sort-7'" in told) == (2, True), told
    assert told.strip().count("\n") == 0


def test_what_is_wrong_with_pictures_is_told(done: Callable[[], Path]) -> None:
    folder = done()
    pictures = folder / "digits"
    first = np.asarray(Image.open(pictures / "000.png"))
    Image.fromarray(first).save(pictures / "zz-again.png")
    Image.fromarray(first // 10).save(pictures / "zz-dark.png")
    (pictures / "zz-damaged.png").write_bytes((pictures / "000.png").read_bytes()[:90])
    code, _, said = sort(folder, "--quality")
    assert code == 3, said
    found = {Path(row["path"]).name: row for row in csv.read_csv(folder / "s/quality.csv").to_pylist()}
    assert len(found) == 103
    assert found["zz-again.png"]["duplicate_of"] == str(pictures / "000.png")
    assert (found["zz-dark.png"]["dark"], found["000.png"]["dark"]) == (True, False)
    assert found["zz-damaged.png"]["damaged"]
    assert not found["000.png"]["damaged"]
    assert {row["outlier"] for row in found.values()} >= {False}


def test_there_is_nothing_to_correct_before_there_are_categories(digits: Path, tmp_path: Path) -> None:
    done = call("sort", "digits", "--out", str(tmp_path / "s"), "--corrections", "c.json", cwd=digits)
    assert done.returncode == 2
    assert "has no categories yet" in done.stderr
    assert not (tmp_path / "s").exists()
