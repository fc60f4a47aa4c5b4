"""classify, generate and augment as commands: what they print, write and exit with; also when they are killed."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from infoae.cli.augment import augment
from infoae.cli.classify import classify
from infoae.cli.generate import generate
from infoae.deploy import Classifier
from infoae.deploy.bundle import Bundle, write_checksums, write_manifest
from infoae.errors import InfoAEError
from tests.helpers.bundles import make_bundle
from tests.helpers.paths import TEST_IMAGES

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 28, 28), np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("model") / "bundle")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    app = typer.Typer()
    for command in (classify, generate, augment):
        app.command(command.__name__)(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def error_of(result: Result) -> str:
    assert isinstance(result.exception, InfoAEError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_folder_to_standard_output(bundle: Path, images: Path) -> None:
    result = run("classify", images, "--model", bundle, "--columns", "path,label")
    assert result.exit_code == 0
    labels = Classifier(bundle).classify(PIXELS).labels
    expected = ['"path","label"', *(f'"{images}/{index:02d}.png",{label}' for index, label in enumerate(labels))]
    assert result.stdout.splitlines() == expected
    assert "40 rows, 0 unreadable" in result.stderr


def test_a_list_on_standard_input(bundle: Path, images: Path) -> None:
    names = "".join(f"{images}/{index:02d}.png\n" for index in (3, 1))
    result = run("classify", "-", "--model", bundle, "--columns", "path", stdin=names.encode())
    assert result.stdout.splitlines()[1:] == [f'"{images}/03.png"', f'"{images}/01.png"']


def test_exit_codes_and_summary(bundle: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.csv"
    assert run("classify", images, "--model", bundle, "--out", out).exit_code == 0
    (images / "05.png").write_bytes(b"")
    (images / "06.png").write_bytes(b"no image")
    result = run("classify", images, "--model", bundle, "--out", out, "--json")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert {name: summary[name] for name in ("out", "num_rows", "num_failed", "num_resumed")} == {
        "out": str(out),
        "num_rows": 40,
        "num_failed": 2,
        "num_resumed": 0,
    }
    rows = read_csv(out)
    assert [row["error"] for row in rows if row["error"]] == ["empty file", "not an image of a known format"]
    for path in images.iterdir():
        path.write_bytes(b"")
    result = run("classify", images, "--model", bundle, "--out", out)
    assert "not one input is readable" in error_of(result)
    assert len(read_csv(out)) == 40


def test_max_errors_and_resume(bundle: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "result.jsonl"
    for index in (10, 20, 30):
        (images / f"{index}.png").write_bytes(b"")
    arguments = ("classify", images, "--model", bundle, "--out", out, "--batch-size", 7)
    assert "2 of 21 inputs are unreadable, more than 1; stopped" in error_of(run(*arguments, "--max-errors", 1))
    assert not out.exists()
    assert "continue it with --resume" in error_of(run(*arguments))
    result = run(*arguments, "--resume", "--json")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert (summary["num_rows"], summary["num_resumed"], summary["num_failed"]) == (40, 21, 3)
    keys = [json.loads(line)["path"] for line in out.read_text().splitlines()]
    assert keys == [f"{images}/{index:02d}.png" for index in range(40)]


def test_resume_refuses_other_inputs(bundle: Path, images: Path, tmp_path: Path) -> None:
    (images / "20.png").write_bytes(b"")
    arguments = ("classify", images, "--model", bundle, "--out", tmp_path / "x.csv", "--batch-size", 7)
    error_of(run(*arguments, "--max-errors", 0))
    (images / "00.png").unlink()
    assert "differ among rows 0 to 20" in error_of(run(*arguments, "--resume"))


def test_resume_refuses_other_names_and_another_array(images: Path, tmp_path: Path) -> None:
    """The same graph under other names, and the same file's other array, would give rows of two kinds."""
    bundle = make_bundle(tmp_path / "bundle")
    np.savez(tmp_path / "x.npz", train=PIXELS, test=PIXELS[::-1])
    (images / "20.png").write_bytes(b"")
    given = (tmp_path / "x.npz", images, "--model", bundle, "--out", tmp_path / "x.csv", "--batch-size", 7)
    error_of(run("classify", *given, "--column", "train", "--max-errors", 0))
    message = "used another model, names, columns, --column or format"
    assert message in error_of(run("classify", *given, "--column", "test", "--resume"))
    manifest = Bundle.load(bundle).manifest
    write_manifest(bundle, manifest.model_copy(update={"category_names": tuple("abcdefghij")}))
    write_checksums(bundle)
    assert message in error_of(run("classify", *given, "--column", "train", "--resume"))
    write_manifest(bundle, manifest)
    write_checksums(bundle)
    assert run("classify", *given, "--column", "train", "--resume").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["{images}", "--model", "absent"], "no bundle at absent", 1),
        (["absent.png", "--model", "{bundle}"], "no input absent.png", 1),
        (["{empty}", "--model", "{bundle}", "--out", "{empty}/../x.csv"], "the inputs hold no images", 1),
        (["{images}", "--model", "{bundle}", "--out", "x.xml"], "end it in .csv, .jsonl, .parquet", 2),
        (["{images}", "--model", "{bundle}", "--columns", "labels"], "no column 'labels'", 2),
        (["{images}", "--model", "{bundle}", "--resume"], "give --out", 2),
        (["{images}", "--model", "{bundle}", "--out", "/proc/x/y.csv"], "cannot write /proc/x/y.csv", 1),
        (["{large}", "--model", "{bundle}"], "(N, 1, 28, 28) is needed", 1),
    ],
)
def test_bad_input_is_one_clear_line(
    bundle: Path, images: Path, tmp_path: Path, arguments: list[str], message: str, code: int
) -> None:
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "large.npy", np.zeros((2, 1, 32, 32), np.uint8))
    places = {"images": images, "bundle": bundle, "empty": tmp_path / "empty", "large": tmp_path / "large.npy"}
    result = run("classify", *(argument.format(**places) for argument in arguments))
    assert message in error_of(result)
    assert isinstance(result.exception, InfoAEError)
    assert result.exception.exit_code == code
    assert not (tmp_path / "x.csv").exists()


PROGRAM = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts its background jobs deaf to Ctrl-C
from infoae.deploy import sinks
from infoae.deploy.job import classify_files
sinks.PART_ROWS = 2000
source, model, out = sys.argv[1:]
classify_files([source] * 12, Path(model), Path(out), resume=True, batch_size=500)
"""


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(bundle: Path, tmp_path: Path, ending: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(TEST_IMAGES), str(bundle)]
    out, partial = tmp_path / f"killed{ending}", tmp_path / f".killed{ending}.partial"
    kills = 0
    for moment in ("*-2000-0-*", "00000012-*", ".0000002*", "0000004*", ".joined.*"):
        process = subprocess.Popen([*command, str(out)], stderr=subprocess.PIPE)
        while process.poll() is None and not any(partial.glob(moment)):
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        _, stderr = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), stderr.decode()
        kills += process.returncode != 0
        if process.returncode == 0:
            break
        assert not out.exists()
    assert kills >= 3
    subprocess.run([*command, str(out)], check=True, capture_output=True)
    subprocess.run([*command, str(tmp_path / f"whole{ending}")], check=True, capture_output=True)
    assert out.read_bytes() == (tmp_path / f"whole{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"killed{ending}", f"whole{ending}"]


def test_interrupting_keeps_what_is_done(bundle: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "x.csv", tmp_path / ".x.csv.partial"
    program = PROGRAM.replace("* 12", "* 100")  # seconds of work: the signal must not come too late
    process = subprocess.Popen([sys.executable, "-c", program, str(TEST_IMAGES), str(bundle), str(out)], stderr=-1)
    while process.poll() is None and not any(partial.glob("00000004-*")):
        time.sleep(0.0005)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert sum(int(part.name.split("-")[1]) for part in partial.glob("0*")) >= 10_000
    assert not out.exists()


def test_a_reader_that_stops_early_is_no_traceback(bundle: Path) -> None:
    program = PROGRAM.replace("Path(out), resume=True", "None")
    command = [sys.executable, "-c", program, str(TEST_IMAGES), str(bundle), "-"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline().startswith(b'"path"')
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_generate_writes_a_folder_of_categories(bundle: Path, tmp_path: Path) -> None:
    result = run("generate", "--model", bundle, "--out", tmp_path / "new", "--count", 3, "--json")
    assert json.loads(result.stdout)["num_images"] == 30
    rows = read_csv(tmp_path / "new/index.csv")
    assert [(row["label"], row["name"]) for row in rows[::3]] == [(str(n), f"kind {n}") for n in range(10)]
    for row in rows:
        with Image.open(tmp_path / "new" / row["path"]) as image:
            assert (image.size, image.mode) == ((28, 28), "L")
    assert "exists already" in error_of(run("generate", "--model", bundle, "--out", tmp_path / "new"))


@pytest.mark.parametrize("name", ["new.npz", "new.NPZ"])
def test_generate_writes_arrays_of_chosen_categories(bundle: Path, tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    options = ("generate", "--model", bundle, "--out", out, "--count", 5, "--seed", 1)
    assert run(*options, "--category", "kind 7", "--category", "2").exit_code == 0
    with np.load(out) as arrays:
        first = arrays["images"]
        assert first.shape == (10, 1, 28, 28)
        assert first.dtype == np.uint8
        assert arrays["labels"].tolist() == [2] * 5 + [7] * 5
    assert run(*options, "--category", "2").exit_code == 0
    with np.load(out) as arrays:
        assert np.array_equal(arrays["images"], first[:5])
    assert "no category 'x'" in error_of(run(*options, "--category", "x"))


def test_augment_interpolates_within_a_category(bundle: Path, images: Path, tmp_path: Path) -> None:
    (images / "00.png").write_bytes(b"")
    result = run("augment", images, "--model", bundle, "--out", tmp_path / "new", "--count", 4, "--json")
    assert result.exit_code == 3
    summary = json.loads(result.stdout)
    assert (summary["num_inputs"], summary["num_failed"]) == (39, 1)
    labels = Classifier(bundle).classify(PIXELS).labels
    rows = read_csv(tmp_path / "new/index.csv")
    assert {int(row["label"]) for row in rows} == {n for n in range(10) if (labels[1:] == n).sum() > 1}
    assert len(rows) == summary["num_images"] == 4 * len({row["label"] for row in rows})
    for row in rows:
        first, second = int(Path(row["first"]).stem), int(Path(row["second"]).stem)
        assert first != second
        assert labels[first] == labels[second] == int(row["label"])
    again = run("augment", images, "--model", bundle, "--out", tmp_path / "again", "--count", 4)
    assert again.exit_code == 3
    for row in rows:
        assert (tmp_path / "again" / row["path"]).read_bytes() == (tmp_path / "new" / row["path"]).read_bytes()


def test_augment_needs_two_of_a_category(bundle: Path, images: Path, tmp_path: Path) -> None:
    result = run("augment", images / "00.png", "--model", bundle, "--out", tmp_path / "new")
    assert "no category has two" in error_of(result)
    assert not (tmp_path / "new").exists()
