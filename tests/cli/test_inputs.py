"""What classify and convert say of their inputs: what was passed over, ranges and backgrounds, archives cut short."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from infoae.cli.app import app
from infoae.deploy import Classifier
from infoae.errors import InfoAEError, UsageError
from tests.helpers.bundles import make_bundle
from tests.helpers.inputs import PIXELS, png, write_tar


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "bundle")


def run(verb: str, *arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [verb, *map(str, arguments)], input=stdin)


def labels(path: Path) -> list[int]:
    with path.open(newline="", encoding="utf-8") as file:
        return [int(row["label"]) for row in csv.DictReader(file)]


def test_what_is_passed_over_is_counted_and_is_no_failure(bundle: Path, tmp_path: Path) -> None:
    members = {"a/0.png": png(0), "a/._0.png": b"Mac", "a/0.cls": b"1", "a/0.json": b"{}", "a/1": png(1)}
    write_tar(tmp_path / "x.tar", members)
    for name, content in members.items():
        (tmp_path / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "files" / name).write_bytes(content)
    for given in ("x.tar", "files"):
        out = tmp_path / f"{given}.csv"
        result = run("classify", tmp_path / given, "--model", bundle, "--out", out, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["passed_over"] == {"hidden": 1, ".cls": 1, ".json": 1}
        assert "passed over, for they are no images: 1 .cls, 1 .json, 1 hidden" in result.stderr
        assert len(labels(out)) == 2
    write_tar(tmp_path / "y.tar", {"a.json": b"{}"})
    result = run("classify", tmp_path / "y.tar", "--model", bundle)
    assert str(result.exception) == "the inputs hold no images; passed over: 1 .json"


def test_what_is_passed_over_is_counted_after_an_interruption_too(bundle: Path, tmp_path: Path) -> None:
    members: dict[str, bytes] = {}
    for index in range(20):
        members |= {f"{index:02}.png": b"" if index == 10 else png(index), f"{index:02}.json": b"{}"}
    write_tar(tmp_path / "x.tar", members)
    arguments = (tmp_path / "x.tar", "--model", bundle, "--out", tmp_path / "x.csv", "--batch-size", 4, "--json")
    assert isinstance(run("classify", *arguments, "--max-errors", 0).exception, InfoAEError)
    summary = json.loads(run("classify", *arguments, "--resume").stdout)
    assert summary["num_resumed"] > 0
    assert summary["passed_over"] == {".json": 20}


def save_12_bits_in_16(folder: Path) -> None:
    folder.mkdir()
    for index in range(5):
        Image.fromarray(PIXELS[index].astype(np.uint16) * 16).save(folder / f"{index}.png")


def test_camera_data_is_told_and_a_range_sees_it_as_it_is(bundle: Path, tmp_path: Path) -> None:
    save_12_bits_in_16(tmp_path / "camera")
    arguments = (tmp_path / "camera", "--model", bundle, "--out", tmp_path / "x.csv")
    assert "give --range 0-4095" in run("classify", *arguments).stderr
    result = run("classify", *arguments, "--range", "0-4080")
    assert "--range" not in result.stderr
    assert labels(tmp_path / "x.csv") == Classifier(bundle).classify(PIXELS[:5]).labels.tolist()
    Image.fromarray(np.full((28, 28), 4096, np.uint16)).save(tmp_path / "camera/bright.png")
    assert "--range" not in run("classify", *arguments).stderr


def test_convert_takes_range_and_background(tmp_path: Path) -> None:
    save_12_bits_in_16(tmp_path / "camera")
    common = ("--size", 28, "--channels", 1, "--out")
    result = run("convert", tmp_path / "camera", *common, tmp_path / "dark")
    assert "give --range 0-4095" in result.stderr
    assert run("convert", tmp_path / "camera", *common, tmp_path / "data", "--range", "0-4080").exit_code == 0
    images = np.concatenate([np.load(path) for path in (tmp_path / "data").rglob("*.npy")])
    assert {image.tobytes() for image in images} == {image.tobytes() for image in PIXELS[:5]}
    glyph = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    glyph.paste((0, 0, 0, 255), (10, 10, 20, 20))
    for index in range(2):
        (tmp_path / "glyphs").mkdir(exist_ok=True)
        glyph.save(tmp_path / f"glyphs/{index}.png")
    for background, brightest in (("black", 0), ("white", 255), ("#808080", 128)):
        out = tmp_path / background.strip("#")
        assert run("convert", tmp_path / "glyphs", *common, out, "--background", background).exit_code == 0
        assert np.load(out / "train/00000.npy").max() == brightest
        assert np.load(out / "train/00000.npy")[0, 0, 15, 15] == 0


def test_an_interrupted_job_goes_on_with_the_same_range_alone(bundle: Path, tmp_path: Path) -> None:
    save_12_bits_in_16(tmp_path / "camera")
    (tmp_path / "camera/9.png").write_bytes(b"")
    arguments = (tmp_path / "camera", "--model", bundle, "--out", tmp_path / "x.csv")
    run("classify", *arguments, "--range", "0-4095", "--max-errors", 0)
    assert "used another" in str(run("classify", *arguments, "--resume").exception)
    assert run("classify", *arguments, "--resume", "--range", "0-4095").exit_code == 3


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--range", value)
        for value in ("", "5", "5-5", "9-5", "-1-5", "0-65536", "0-99999999", "a-b", "0 - 5", "0-5-9", "٠-٥")
    ]
    + [("--background", value) for value in ("", "nocolour", "#12", "#12345678", "rgb(", "1,2,3")],
)
def test_values_that_are_none(tmp_path: Path, option: str, value: str) -> None:
    (tmp_path / "1.png").write_bytes(png(1))
    given: dict[str, Any] = {"--size": "28", "--out": str(tmp_path / "out"), option: value}
    result = run("convert", tmp_path / "1.png", *(part for pair in given.items() for part in pair))
    assert isinstance(result.exception, UsageError), result.output
    assert option in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_convert_of_an_archive_that_is_cut_says_so(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"1.png": png(1), "2.png": png(2)})
    content = (tmp_path / "x.tar").read_bytes()
    (tmp_path / "x.tar").write_bytes(content[: content.index(b"2.png") + 700])
    error = str(run("convert", tmp_path / "x.tar", "--size", 28, "--out", tmp_path / "out").exception)
    assert error.startswith("1 of 2 inputs is readable, at least 2 are needed")
    assert f"{tmp_path}/x.tar: unreadable after 1.png: unexpected end of data" in error


def test_a_list_ended_by_null(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "a\nb.png").write_bytes(png(1))
    listed = f"{tmp_path}/a\nb.png\0".encode()
    for flag in ("--null", "-0"):
        result = run("classify", "-", flag, "--model", bundle, "--columns", "path,label", "--raw-csv", stdin=listed)
        assert result.exit_code == 0, result.output
        assert [row["path"] for row in csv.DictReader(io.StringIO(result.stdout))] == [f"{tmp_path}/a\nb.png"]
    assert "--null" in str(run("classify", "-", "--model", bundle, stdin=listed + listed).exception)
