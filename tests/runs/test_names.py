"""Names of categories: the majority of a few examples, lists of names, and where they are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner, Result

from infoae.cli.app import app
from infoae.data import ImageSet
from infoae.errors import InfoAEError
from infoae.model import InfoAE
from infoae.runs import checkpoint, names
from infoae.runs.run import NAMES, Run


@pytest.fixture
def run(lively_run: Run, tmp_path: Path) -> Run:
    """A copy of the small run, so that names given here stay here."""
    shutil.copytree(lively_run.path, tmp_path / "named")
    return Run.open(tmp_path / "named")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from("abc")), max_size=30))
def test_the_majority_names_a_category_and_a_tie_does_not(examples: list[tuple[int, str]]) -> None:
    categories = np.array([category for category, _ in examples], np.int64)
    naming = names.by_majority(categories, [name for _, name in examples], 5)
    for category in range(5):
        given_names = [name for other, name in examples if other == category]
        counts = sorted((given_names.count(name) for name in set(given_names)), reverse=True)
        name = naming.names[category]
        assert (category in naming.unseen) == (not given_names)
        assert (category in naming.tied) == (len(counts) > 1 and counts[0] == counts[1])
        if name is None:
            assert category in naming.unseen or category in naming.tied
        else:
            assert given_names.count(name) == counts[0]


def write_examples(folder: Path, data: ImageSet, count: int) -> None:
    assert data.labels is not None
    for index in range(count):
        path = folder / f"digit {data.labels[index]}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(data.images[index, 0]).save(path)


def test_a_folder_of_examples_names_the_categories(run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    write_examples(tmp_path / "examples", mnist[0], 60)
    result = invoke("name", run.path, "--examples", tmp_path / "examples", "--json")
    assert result.exit_code == 0, result.exception
    content = json.loads(result.stdout)
    answers = InfoAE.of_run(run).classify(mnist[0].images[:60]).argmax(1).numpy()
    assert mnist[0].labels is not None
    truth = [f"digit {label}" for label in mnist[0].labels[:60]]
    expected = names.by_majority(answers, truth, 10)
    assert content["num_examples"] == 60
    assert content["names"] == expected.names
    assert content["unseen"] == expected.unseen
    assert {int(category) for category in content["tied"]} == set(expected.tied)
    assert len(set(expected.names)) > 3
    step = checkpoint.read(run.checkpoint("best")).step
    assert names.stored(run, 10, step) == expected.names

    shown = invoke("name", run.path, "--examples", tmp_path / "examples")
    assert shown.stdout.count("category ") == 10
    for category in [*expected.unseen, *expected.tied]:
        assert f"category {category} has no name" in shown.stderr


def test_a_csv_of_examples_says_the_same_as_a_folder(mnist: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    write_examples(tmp_path, mnist[0], 12)
    images, truth = names.read_examples(tmp_path, (1, 28, 28))
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    rows = "".join(f"{path},{path.parent}\n" for path in paths)
    for column in ("name", "label"):
        (tmp_path / "examples.csv").write_text(f"path,{column}\n{rows}")
        listed_images, listed = names.read_examples(tmp_path / "examples.csv", (1, 28, 28))
        assert listed == truth
        assert (listed_images == images).all()


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.txt", "cat\ndog\nowl\n", ["cat", "dog", "owl"]),
        ("a.json", '["cat", "dog", "cat"]', ["cat", "dog", "cat"]),
        ("a.json", '{"2": "owl", "0": "cat"}', ["cat", None, "owl"]),
    ],
)
def test_lists_of_names(tmp_path: Path, file: str, content: str, expected: list[str | None]) -> None:
    (tmp_path / file).write_text(content)
    assert names.read_names(tmp_path / file, 3) == expected


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.txt", "cat\ndog\n", "holds 2 names: this run has 3 categories"),
        ("a.txt", "cat\n\nowl\n", "'' is no name"),
        ("a.txt", "cat\nd\x00g\nowl\n", "is no name"),
        ("a.json", "[", "is not JSON"),
        ("a.json", "3", "holds int"),
        ("a.json", '{"3": "owl"}', "names category '3': this run has 0 to 2"),
        ("a.json", '["cat", 5, "owl"]', "5 is no name"),
        ("absent.txt", None, "No such file"),
        ("a.txt", b"\xff\xfe\xfa", "not UTF-8"),
    ],
)
def test_a_bad_list_is_one_clear_line(tmp_path: Path, file: str, content: str | bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InfoAEError) as caught:
        names.read_names(tmp_path / file, 3)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_examples_are_one_clear_line_and_change_nothing(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").write_bytes(b"no image")
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("file,kind\na.png,cat\n")
    for arguments, message in (
        (["--examples", tmp_path], "a.png: not an image of a known format"),
        (["--examples", tmp_path / "empty"], "holds no examples"),
        (["--examples", tmp_path / "bad.csv"], "columns path and name"),
        (["--examples", tmp_path / "absent"], "No such file"),
        ([], "give either --examples or --labels"),
        (["--examples", tmp_path, "--labels", tmp_path], "give either --examples or --labels"),
    ):
        result = invoke("name", run.path, *arguments)
        assert isinstance(result.exception, InfoAEError)
        assert message in str(result.exception)
    assert not (run.path / NAMES).exists()


def test_names_belong_to_one_checkpoint(run: Run) -> None:
    assert names.stored(run, 10, 12) is None
    names.store(run, ["zero", *[None] * 9], 12)
    assert names.stored(run, 10, 12) == ["zero", *[None] * 9]
    with pytest.raises(InfoAEError, match="step 12, and this checkpoint is of step 18"):
        names.stored(run, 10, 18)
    (run.path / NAMES).write_text('{"names": 3}')
    with pytest.raises(InfoAEError, match="is damaged"):
        names.stored(run, 10, 12)


def test_what_has_no_name_is_not_mistaken_for_one() -> None:
    assert names.display(["7", None, "cat"]) == ["7", "category 1", "cat"]
