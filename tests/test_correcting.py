"""Corrections of a run: which categories they leave, and that what was said is obeyed and the rest stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from infoae.cli.app import app
from infoae.correcting.correct import Corrected, correct
from infoae.correcting.numbers import renumbered
from infoae.data import ImageSet
from infoae.errors import InfoAEError, UsageError
from infoae.gallery.corrections import Corrections
from infoae.model import InfoAE
from infoae.runs import checkpoint, names
from infoae.runs.run import Run

WHAT = {"run": "r", "step": 1, "num_categories": 4}


@pytest.fixture
def run(lively_run: Run, tmp_path: Path) -> Run:
    """A copy of the small run, in a folder of runs of its own."""
    shutil.copytree(lively_run.path, tmp_path / "runs" / "lively")
    return Run.open("lively", tmp_path / "runs")


def said(run: Run, **what: object) -> Corrections:
    step = checkpoint.read(run.checkpoint("best")).step
    return Corrections.model_validate({"run": run.name, "step": step, "num_categories": 10} | what)


def pictures_of(folder: Path, images: np.ndarray) -> list[str]:
    for row, image in enumerate(images):
        Image.fromarray(image[0]).save(folder / f"{row}.png")
    return [f"{row}.png" for row in range(len(images))]


def test_a_merge_has_its_first_number_and_later_ones_close_up() -> None:
    category_of = np.array([0, 1, 2, 3, 0, 1, 2, 3])
    found = renumbered(category_of, Corrections(**WHAT, merges=((3, 1),)), None)
    assert found.new_numbers == {0: [0], 1: [1], 2: [2], 3: [1]}
    assert [sorted(found.source[found.category_of == new]) for new in range(3)] == [[0, 4], [1, 3, 5, 7], [2, 6]]


def test_a_split_is_where_the_over_categories_part() -> None:
    category_of = np.array([0, 0, 0, 0, 1, 2, 3])
    joint = np.diag([4.0, 4, 4, 4, 8, 8, 8])
    joint[0, 2] = joint[2, 0] = joint[1, 3] = joint[3, 1] = 1  # 0 goes with 2, and 1 with 3
    found = renumbered(category_of, Corrections(**WHAT, splits=(0,)), joint / joint.sum())
    assert found.new_numbers == {0: [0, 4], 1: [1], 2: [2], 3: [3]}
    assert {frozenset(found.source[found.category_of == new].tolist()) for new in (0, 4)} == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
    assert not found.copied


def test_a_category_of_one_over_category_is_copied() -> None:
    found = renumbered(np.arange(4), Corrections(**WHAT, splits=(2,)), np.diag([1.0, 1, 1, 1]) / 4)
    assert found.copied == [(2, 4)]
    assert found.source[found.category_of == 4].tolist() == [2]


def test_a_part_goes_to_the_category_that_it_is_said_to_belong_to() -> None:
    category_of = np.array([0, 1, 2, 3, 0, 1])
    found = renumbered(category_of, Corrections(**WHAT, parts={4: 3, 1: 2}), None)
    assert found.new_numbers == {0: [0], 1: [1], 2: [2], 3: [3]}
    assert [found.source[found.category_of == new].tolist() for new in range(4)] == [[0], [5], [1, 2], [3, 4]]


def test_a_category_without_parts_is_where_they_went() -> None:
    category_of = np.array([0, 1, 2, 3, 0])
    found = renumbered(category_of, Corrections(**WHAT, parts={0: 3, 4: 2}, merges=((2, 1),)), None)
    assert found.new_numbers == {0: [0, 1], 1: [0], 2: [0], 3: [1]}
    assert [sorted(found.source[found.category_of == new]) for new in range(2)] == [[1, 2, 4], [0, 3]]
    with pytest.raises(UsageError, match="category 2 is to be split, and all its parts"):
        renumbered(category_of, Corrections(**WHAT, parts={2: 3}, splits=(2,)), np.eye(5) / 5)


def test_a_part_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="part 5 of 4, which are 0 to 3"):
        renumbered(np.arange(4), Corrections(**WHAT, parts={5: 0}), None)


def test_one_category_is_too_few() -> None:
    with pytest.raises(UsageError, match="leave one category"):
        renumbered(np.arange(4), Corrections(**WHAT, merges=((0, 1, 2, 3),)), None)


@settings(max_examples=50)
@given(st.data())
def test_every_over_category_is_in_a_category_that_its_old_one_became(data: st.DataObject) -> None:
    category_of = np.array([0, 1, 2, 3, *data.draw(st.lists(st.integers(0, 3), max_size=6))])
    order = data.draw(st.permutations(range(4)))
    merges = ((order[0], order[1]),) if data.draw(st.booleans()) else ()
    splits = tuple(data.draw(st.sets(st.sampled_from(order[2:]))))
    parts = data.draw(st.dictionaries(st.integers(4, max(4, len(category_of) - 1)), st.integers(0, 3)))
    parts = {over: category for over, category in parts.items() if over < len(category_of)}
    joint = np.random.default_rng(data.draw(st.integers(0, 99))).random((len(category_of),) * 2)
    joint = (joint + joint.T) / joint.sum() / 2
    found = renumbered(category_of, Corrections(**WHAT, merges=merges, splits=splits, parts=parts), joint)
    assert sorted(set(found.source.tolist())) == list(range(len(category_of)))
    assert sorted(set(found.category_of.tolist())) == list(range(4 - len(merges) + len(splits)))
    for over, new in zip(found.source, found.category_of, strict=True):
        assert new in found.new_numbers[parts.get(int(over), int(category_of[over]))]


@pytest.fixture
def corrected(run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path: Path) -> tuple[Corrected, dict[str, int]]:
    """A run whose categories 0 and 1 are merged, of which 2 is split, and four of whose pictures are put elsewhere."""
    paths = pictures_of(tmp_path, mnist[0].images[:4])
    examples = dict.fromkeys(paths, 3)
    given = said(run, merges=[[0, 1]], splits=[2], names={0: "left", 2: "two"}, examples=examples)
    return correct(run, given, tmp_path, "corrected"), examples


def test_what_was_said_is_obeyed_and_the_old_run_is_as_it_was(
    corrected: tuple[Corrected, dict[str, int]], run: Run, mnist: tuple[ImageSet, ImageSet]
) -> None:
    found, examples = corrected
    old, new = InfoAE.of_run(run), InfoAE.of_run(found.run)
    assert (old.num_categories, new.num_categories) == (10, 10)  # one less, one more
    answers = new.classify(mnist[0].images[:4]).argmax(1).tolist()
    assert answers == [found.new_numbers[3][0]] * len(examples)
    assert (found.obeyed, found.spoken_of) == (4, 4)
    torch.testing.assert_close(new.encode(mnist[1].images), old.encode(mnist[1].images), rtol=0, atol=0)
    assert len(found.new_numbers[2]) == 2
    called = names.stored(found.run, 10, checkpoint.read(found.run.checkpoint("best")).step)
    assert called is not None
    assert [called[each] for each in found.new_numbers[2]] == ["two", "two 2"]
    assert called[found.new_numbers[1][0]] == "left"


def test_without_pictures_a_merge_changes_no_answer(run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    found = correct(run, said(run, merges=[[4, 7]]), tmp_path, "merged")
    before, after = (InfoAE.of_run(each).classify(mnist[1].images) for each in (run, found.run))
    expected = before[:, [0, 1, 2, 3, 4, 5, 6, 8, 9]]
    expected[:, 4] += before[:, 7]
    torch.testing.assert_close(after, expected)
    assert {category for _, category in found.moved} <= {4}  # of a picture between three, the one that holds two


def test_a_picture_that_is_not_of_its_category_leaves_it(
    run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path: Path
) -> None:
    (path,) = pictures_of(tmp_path, mnist[0].images[:1])
    was = int(InfoAE.of_run(run).classify(mnist[0].images[:1]).argmax(1))
    found = correct(run, said(run, not_this=[{"path": path, "category": was}]), tmp_path, "left")
    now = int(InfoAE.of_run(found.run).classify(mnist[0].images[:1]).argmax(1))
    assert now != was
    assert found.obeyed == 1


def test_the_bundle_knows_what_its_categories_were(corrected: tuple[Corrected, dict[str, int]]) -> None:
    run = corrected[0].run
    done = CliRunner().invoke(app, ["export", str(run.path), "--onnx", "--json"])
    assert done.exit_code == 0, done.output
    manifest = json.loads((run.path / "bundle" / "bundle.json").read_text())
    assert manifest["corrected"]["of"] == "lively"
    assert {int(old): new for old, new in manifest["corrected"]["new_numbers"].items()} == corrected[0].new_numbers
    assert "two 2" in manifest["category_names"]


def test_a_corrected_run_does_not_train_on(corrected: tuple[Corrected, dict[str, int]]) -> None:
    run = corrected[0].run
    done = CliRunner().invoke(app, ["train", "--resume", str(run.path), "--epochs", "99"])
    assert "was corrected" in str(done.exception)


def test_corrections_of_another_checkpoint_and_lost_pictures_are_refused(run: Run, tmp_path: Path) -> None:
    for other in (Corrections(run=run.name, step=1, num_categories=10), said(run).model_copy(update={"run": "r"})):
        with pytest.raises(InfoAEError, match=f"10 categories of run '?{other.run}'? at step {other.step},"):
            correct(run, other, tmp_path)
    with pytest.raises(InfoAEError, match=r"gone\.png.*--pictures"):
        correct(run, said(run, examples={"gone.png": 1}), tmp_path)
    assert [path.name for path in run.path.parent.iterdir() if "corrected" in path.name] == []


def test_the_command_says_what_changed(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "corrections.json"
    file.write_text(said(run, merges=[[0, 9]]).model_dump_json())
    done = CliRunner().invoke(app, ["correct", str(run.path), str(file), "--name", "said"])
    assert done.exit_code == 0, done.output
    assert "category 9 is now 0" in done.stdout
    assert "the old one is as it was" in done.stdout
