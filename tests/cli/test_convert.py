"""`infoae convert`: any pile of images becomes a folder that `infoae train --data shards` trains on."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner, Result

from infoae import data
from infoae.cli.app import app
from infoae.config import Data
from infoae.data import external_shuffle, shard_writer
from infoae.data.decode import read_image
from infoae.errors import InfoAEError
from tests.helpers.inputs import write_tar
from tests.helpers.settings import SMALL

COMMAND = [sys.executable, "-c", "from infoae.cli.main import main; main()"]
GREY = ("--size", 28, "--channels", 1)


def run(*arguments: object, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["convert", *map(str, arguments)], input=stdin)


def convert(*arguments: object, code: int = 0) -> dict[str, object]:
    result = run(*arguments, "--json")
    assert result.exit_code == code, result.output
    summary: dict[str, object] = json.loads(result.stdout)
    return summary


def error_of(result: Result) -> str:
    assert isinstance(result.exception, InfoAEError), result.exception
    assert "\n" not in str(result.exception)
    return str(result.exception)


def stored(folder: Path, split: str) -> NDArray[np.uint8]:
    return np.concatenate([np.load(path) for path in sorted((folder / split).iterdir())])


def multiset(*images: NDArray[np.uint8]) -> Counter[bytes]:
    return Counter(image.tobytes() for part in images for image in part)


def content(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """120 photographs of 4 classes in folders of their own, of mixed sizes, modes and formats."""
    random = np.random.default_rng(0)
    for index in range(120):
        path = tmp_path / "photos" / ["ant", "bee", "cat", "dog"][index // 30] / f"{index:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = random.integers(20, 60, 2)
        image = Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8))
        mode, form = [("RGB", "JPEG"), ("L", "PNG"), ("RGBA", "PNG"), ("P", "PNG"), ("CMYK", "JPEG")][index % 5]
        image.convert(mode).save(path.with_suffix(f".{form.lower()}"))
    return tmp_path / "photos"


def converted(photos: Path, channels: int, size: int) -> dict[str, list[NDArray[np.uint8]]]:
    """The images of each class, by the converter itself."""
    folders = sorted(photos.iterdir())
    return {folder.name: [read_image(path, channels, size, size) for path in folder.iterdir()] for folder in folders}


def test_every_photo_is_there_once_well_mixed_and_labelled(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "data"
    summary = convert(photos, "--out", out, "--size", 16, "--labels", "folders", "--test", "0.25")
    assert [summary[key] for key in ("num_train", "num_test", "num_failed", "num_classes")] == [90, 30, 0, 4]
    assert summary["next"] == f"infoae train --data shards --data-root {out}"
    assert sorted(path.name for path in out.iterdir()) == [
        "classes.txt",
        "decoding.json",
        "test",
        "test_labels.npy",
        "train",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["data"]
    classes = converted(photos, 3, 16)
    train, test = stored(out, "train"), stored(out, "test")
    assert train.shape == (90, 3, 16, 16)
    assert train.dtype == np.uint8
    assert multiset(train, test) == multiset(*map(np.stack, classes.values()))
    class_of = {image.tobytes(): name for name, images in classes.items() for image in images}
    for part in (test, train[:20], train[-20:]):
        assert {class_of[image.tobytes()] for image in part} == set(classes)
    assert (out / "classes.txt").read_text() == "ant\nbee\ncat\ndog\n"
    loaded = data.load(Data(name="shards", root=out), "test")
    assert loaded.labels is not None
    assert [list(classes)[label] for label in loaded.labels] == [class_of[image.tobytes()] for image in loaded.images]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(photos: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        convert(photos, "--out", tmp_path / name, *GREY, "--seed", seed, "--labels", "folders")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert content(tmp_path / "a") != content(tmp_path / "c")
    both = [multiset(stored(tmp_path / name, "train"), stored(tmp_path / name, "test")) for name in "ac"]
    assert both[0] == both[1]


def test_without_classes_asked_for_there_are_none(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()  # empty, so it may be there
    assert convert(photos, "--out", tmp_path / "data", *GREY)["num_classes"] is None
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["decoding.json", "test", "train"]
    assert data.load(Data(name="shards", root=tmp_path / "data"), "test").labels is None


def test_arrays_archives_and_lists_together(photos: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (300, 1, 28, 28), np.uint8)
    np.savez(tmp_path / "x.npz", images=pixels[:200])
    np.save(tmp_path / "x.npy", pixels[200:, 0])
    files = sorted(photos.rglob("*.*"))
    write_tar(tmp_path / "x.tar", {f"{index:03}{path.suffix}": path.read_bytes() for index, path in enumerate(files)})
    listed = "".join(f"{path}\n" for path in files[:7]).encode()
    inputs = (tmp_path / "x.npz", tmp_path / "x.tar", "-", tmp_path / "x.npy")
    result = run(*inputs, "--out", tmp_path / "data", *GREY, stdin=listed)
    assert result.exit_code == 0, result.output
    assert "427 images (1 x 28 x 28)" in result.stderr
    assert result.stderr.endswith(f"\nnext: infoae train --data shards --data-root {tmp_path / 'data'}\n")
    found = np.stack([read_image(path, 1, 28, 28) for path in files])
    everything = multiset(stored(tmp_path / "data", "train"), stored(tmp_path / "data", "test"))
    assert everything == multiset(pixels, found, found[:7])


def test_classes_of_a_tar_archive_are_its_folders(photos: Path, tmp_path: Path) -> None:
    members = {str(path.relative_to(photos)): path.read_bytes() for path in photos.rglob("*.*")}
    write_tar(tmp_path / "x.tar", members)
    convert(tmp_path / "x.tar", "--out", tmp_path / "data", *GREY, "--labels", "folders")
    assert (tmp_path / "data/classes.txt").read_text() == "ant\nbee\ncat\ndog\n"
    write_tar(tmp_path / "flat.tar", {"1.png": next(photos.rglob("*.png")).read_bytes()})
    result = run(tmp_path / "flat.tar", "--out", tmp_path / "x", *GREY, "--labels", "folders")
    assert "flat.tar#1.png lies in no folder" in error_of(result)


def test_many_shards_and_buckets_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with terabytes: buckets are divided twice, and each shard is full of images from everywhere."""
    monkeypatch.setattr(external_shuffle, "BUCKET_BYTES", 10 * (784 + 4))
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 256 * 784)
    monkeypatch.setattr(external_shuffle, "NUM_BUCKETS", 4)
    pixels = np.random.default_rng(1).integers(0, 256, (4000, 1, 28, 28), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(4000) // 400  # sorted by class
    np.save(tmp_path / "x.npy", pixels)
    convert(tmp_path / "x.npy", "--out", tmp_path / "data", *GREY)
    shards = [np.load(path) for path in sorted((tmp_path / "data/train").iterdir())]
    assert {len(shard) for shard in shards} == {240}
    assert sum(map(len, shards)) == 3600
    for shard in shards:
        counts = np.bincount(shard[:, 0, 0, 0], minlength=10)
        assert counts.min() > 5  # of 24 expected
    assert multiset(*shards, stored(tmp_path / "data", "test")) == multiset(pixels)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["decoding.json", "test", "train"]


def test_every_order_is_as_likely(tmp_path: Path) -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    for seed in range(240):
        kind = external_shuffle.row_type((1, 1, 1))
        rows = np.zeros(3, kind)
        rows["class"] = range(3)
        with external_shuffle.Buckets(tmp_path / str(seed), kind, np.random.default_rng(seed)) as made:
            made.add(rows)
        orders[tuple(int(number) for part in made.shuffled() for number in part["class"])] += 1
    assert len(orders) == 6
    assert min(orders.values()) > 20  # of 40 expected: three standard deviations


def test_unreadable_inputs_are_skipped_and_told(photos: Path, tmp_path: Path) -> None:
    for index in range(8):
        (photos / f"bad{index}.dat").write_bytes(b"no image" if index else b"")
    result = run(photos, "--out", tmp_path / "data", *GREY)
    assert result.exit_code == 3
    skipped = [line for line in result.stderr.splitlines() if line.startswith("skipped ")]
    assert skipped[:2] == [
        f"skipped {photos}/bad0.dat: empty file",
        f"skipped {photos}/bad1.dat: not an image of a known format",
    ]
    assert skipped[-1] == "skipped 3 more"
    assert len(skipped) == 6
    assert len(stored(tmp_path / "data", "train")) == 108
    stopped = run(photos, "--out", tmp_path / "other", *GREY, "--max-errors", 7)
    assert "8 of 64 inputs are unreadable, more than 7; the first: " in error_of(stopped)
    assert convert(photos, "--out", tmp_path / "other", *GREY, "--max-errors", 8, code=3)["num_failed"] == 8
    result = run(*photos.glob("*.dat"), "--out", tmp_path / "none", *GREY)
    assert "not one of 8 inputs is readable, at least 2 are needed" in error_of(result)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["absent", "--size", "28"], "no input absent", 1),
        (["{photos}", "--size", "28", "--channels", "2"], "--channels 2: 1 is grey, 3 is RGB", 2),
        (["{photos}", "--size", "28", "--test", "1"], "--test 1.0: a share", 2),
        (["{photos}", "--size", "28", "--test", "nan"], "--test nan: a share", 2),
        (["{array}", "--size", "28"], "has shape (2, 1, 32, 32): (N, 3, 28, 28) is needed", 1),
        (["{array}", "--size", "32", "--channels", "1", "--labels", "folders"], "x.npy has no folders", 1),
        (["{empty}", "--size", "28"], "the inputs hold no images", 1),
        (["{one}", "--size", "28"], "1 usable image: at least 2 are needed", 1),
        (["{photos}", "--size", "28", "--out", "{photos}"], "exists already and is not an empty folder", 1),
        (["{photos}", "--size", "28", "--out", "{one}"], "exists already and is not an empty folder", 1),
        (["{photos}", "--size", "28", "--out", "{one}/x"], "cannot write {one}/x: ", 1),
        (["{photos}", "--size", "28", "--out", "/proc/x/y"], "cannot write /proc/x/y: ", 1),
        (["{photos}", "--size", "28", "--out", "/"], "exists already", 1),
    ],
)
def test_wrong_input_is_one_clear_line_and_leaves_nothing(
    photos: Path, tmp_path: Path, arguments: list[str], message: str, code: int
) -> None:
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "x.npy", np.zeros((2, 1, 32, 32), np.uint8))
    one = min(photos.rglob("*.*"))
    places = {"photos": photos, "array": tmp_path / "x.npy", "empty": tmp_path / "empty", "one": one}
    before = set(tmp_path.rglob("*"))
    result = run("--out", tmp_path / "data", *(argument.format(**places) for argument in arguments))
    assert message.format(**places) in error_of(result)
    assert isinstance(result.exception, InfoAEError)
    assert result.exception.exit_code == code
    assert set(tmp_path.rglob("*")) == before


def test_a_full_disk_is_one_clear_line(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(external_shuffle.Buckets, "add", full)
    result = run(photos, "--out", tmp_path / "data", *GREY)
    assert f"cannot write {tmp_path / 'data'}: No space left on device" in error_of(result)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)).save(buffer, "PNG")
    for index in range(600):  # seconds of work
        (tmp_path / "photos" / f"{index}.png").write_bytes(buffer.getvalue())
    # A shell starts its background jobs deaf to Ctrl-C.
    program = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {COMMAND[-1]}"
    command = [sys.executable, "-c", program, "convert", "photos", "--out", "data", "--size", "28"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob(".data.*/buckets/63")):
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stderr.endswith("interrupted; nothing was written\n")
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@pytest.mark.usefixtures("photos")
def test_what_it_wrote_trains(tmp_path: Path) -> None:
    """In processes of their own, as a user would, and the first never imports torch."""
    code = "import sys; sys.modules['torch'] = sys.modules['onnxruntime'] = None\n" + COMMAND[-1]
    options = ["photos", "--out", "data", "--size", "16", "--labels", "folders"]
    made = subprocess.run(
        [sys.executable, "-c", code, "convert", *options], cwd=tmp_path, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    following = made.stderr.splitlines()[-1].removeprefix("next: infoae ").split()
    settings = [part for setting in SMALL for part in ("--set", setting)]
    command = [*COMMAND, *following, "--config", "smoke", *settings, "--epochs", "1", "--json"]
    trained = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout)["finished"]
    assert "accuracy" in json.loads(trained.stdout)
