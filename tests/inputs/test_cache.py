"""--data PATH: pictures of any kind become shards, once, which are kept, shared, bounded and removed when asked."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from infoae import data, kept, planning
from infoae.config import Config, recipes
from infoae.data.decode import DecodeOptions, read_image
from infoae.errors import InfoAEError, Notice
from infoae.inputs import cache
from tests.helpers.inputs import PIXELS, write_tar
from tests.helpers.paths import ROOT

pytestmark = pytest.mark.filterwarnings("ignore::infoae.errors.Notice")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 grey pictures of 28 x 28 pixels in two folders."""
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))
    for number, pixels in enumerate(PIXELS[:40]):
        path = tmp_path / "photos" / ("ant" if number % 4 else "bee") / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return tmp_path / "photos"


def config_of(path: Path | str, *settings: str) -> Config:
    return recipes.load("smoke", ["data.name=files", f"data.root={path}", *settings])


def rows(images: object) -> list[bytes]:
    return sorted(image.tobytes() for image in np.asarray(images))


def entry_of(shards: Path | None) -> Path:
    assert shards is not None
    return shards.parent


def all_kept() -> list[Path]:
    return [entry.folder for entry in kept.entries()]


def test_every_picture_is_there_once_and_its_class_with_it(photos: Path) -> None:
    with pytest.warns(Notice, match=r"40 pictures became 28 x 28 grey, 10 of them kept for tests"):
        ready = cache.ready(config_of(photos, "data.labels=folders", "data.test_share=0.25"))
    train, test = data.load_training(ready), data.load(ready, "test")
    assert rows([*train.images[:], *test.images]) == rows(PIXELS[:40, None])
    bees = {image.tobytes() for image in PIXELS[:40:4]}
    assert test.labels is not None
    assert [label == 1 for label in test.labels] == [image.tobytes() in bees for image in test.images]


def test_pictures_are_prepared_once_until_they_change(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache.ready(config_of(photos))
    with monkeypatch.context() as patch:
        patch.setattr(cache, "convert_files", None)
        assert cache.ready(config_of(photos)) == first
        assert cache.ready(config_of(photos, "data.limit=3")).root == first.root
    changed = {
        cache.ready(config_of(photos, setting)).root for setting in ("model.image_size=16", "data.labels=folders")
    }
    (photos / "ant" / "01.png").write_bytes((photos / "bee" / "00.png").read_bytes())
    changed.add(cache.ready(config_of(photos)).root)
    (photos / "bee" / "00.png").unlink()
    changed.add(cache.ready(config_of(photos)).root)
    assert len(changed - {first.root}) == 4


def test_a_run_of_before_finds_the_pictures_it_was_trained_on_and_a_new_one_has_reduced_jpegs(
    photos: Path, tmp_path: Path
) -> None:
    light = np.random.default_rng(0).integers(0, 256, (300, 400), np.uint8)
    Image.fromarray(light).save(photos / "ant" / "large.jpg")
    settings = ["data.name=files", f"data.root={photos}", "model.image_size=16", "model.channels=1"]
    old, given = recipes.load("smoke", settings), "data.reduced_jpeg=false"
    plan = planning.planned("smoke", settings, tmp_path, None)
    assert plan.config.data.reduced_jpeg
    assert planning.planned("smoke", [*settings, given], tmp_path, None).config.data.reduced_jpeg is False
    full, reduced = cache.ready(old), cache.ready(plan.config)
    assert cache.ready(recipes.load("smoke", [*settings, given])) == full
    assert full.root != reduced.root
    for ready, options in ((full, DecodeOptions(reduced_jpeg=False)), (reduced, DecodeOptions(reduced_jpeg=True))):
        assert ready.root is not None
        large = read_image(photos / "ant" / "large.jpg", 1, 16, 16, options)
        images = [*data.load_training(ready).images[:], *data.load(ready, "test").images]
        assert large.tobytes() in rows(images)
        shards = planning.planned("smoke", ["data.name=shards", f"data.root={ready.root}"], tmp_path, None)
        assert bool(shards.config.data.reduced_jpeg) == options.reduced_jpeg  # as the shards say


def test_what_a_killed_command_left_is_removed_whatever_has_changed_since(photos: Path) -> None:
    left = kept.cache_folder() / ".0123456789abcdef0123.tmp-01234567"
    (left / "buckets").mkdir(parents=True)
    cache.ready(config_of(photos))
    assert not left.exists()


def test_any_kind_of_input(photos: Path, tmp_path: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    write_tar(tmp_path / "x.tar", {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files})
    (tmp_path / "list.txt").write_text("".join(f"{file}\n" for file in files))
    np.save(tmp_path / "x.npy", PIXELS[:40])
    for given in (photos, tmp_path / "x.tar", tmp_path / "list.txt", tmp_path / "x.npy", f"{photos}/*/*.png"):
        ready = cache.ready(config_of(given))
        assert rows([*data.load_training(ready).images[:], *data.load(ready, "test").images]) == rows(PIXELS[:40, None])


MAKE = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("always")
from infoae.config import recipes
from infoae.inputs import cache
print(cache.ready(recipes.load("smoke", ["data.name=files", "data.root=" + sys.argv[1]])).root, flush=True)
sys.stdin.read()
"""


def process(photos: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(photos)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def two(photos: Path) -> Iterator[list[subprocess.Popen[str]]]:
    processes = [process(photos) for _ in range(2)]
    yield processes
    for each in processes:
        each.communicate()


def test_two_processes_make_it_once_and_what_they_read_stays(
    two: list[subprocess.Popen[str]], photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len({each.stdout.readline() for each in two if each.stdout}) == 1
    (held,) = all_kept()
    monkeypatch.setattr(kept, "MAX_CACHE_BYTES", 0)
    assert [gone for _, gone in kept.clear()] == [False]
    other = entry_of(cache.ready(config_of(photos, "model.image_size=16")).root)
    assert set(all_kept()) == {held, other}
    told = [each.communicate()[1] for each in two]
    assert sum("40 pictures became" in text for text in told) == 1
    cache.ready(config_of(photos, "model.image_size=20"))  # what this process has read stays, too
    assert held not in all_kept()
    assert other in all_kept()


def test_the_longest_unused_goes_first(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [16, 20, 24]
    for size in sizes:
        done = process_of_size(photos, size)
        assert done.returncode == 0, done.stderr
    oldest, *others = kept.entries()
    os.utime(oldest.folder, (time.time() + 9, time.time() + 9))
    left = sum(entry.num_bytes for entry in (oldest, others[1]))
    monkeypatch.setattr(kept, "MAX_CACHE_BYTES", left + 40 * 8 * 8 + 5000)
    cache.ready(config_of(photos, "model.image_size=8"))
    assert others[0].folder not in all_kept()
    assert {oldest.folder, others[1].folder} <= set(all_kept())
    assert sum(gone for _, gone in kept.clear()) == 2  # but for the one that this process has read


def process_of_size(photos: Path, size: int) -> subprocess.CompletedProcess[str]:
    code = MAKE.replace("sys.argv[1]]", f'sys.argv[1], "model.image_size={size}"]')
    return subprocess.run(
        [sys.executable, "-c", code, str(photos)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        input="",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["data.root={tmp}/none"], "no input .*none: no such file"),
        (["data.root={tmp}/empty"], "no picture can be read: there are none"),
        (["data.root={tmp}/bad.png"], "no picture can be read: "),
        (["data.root={tmp}/bad.npy"], "bad.npy cannot be opened: "),
        (["data.root={tmp}/flat.npy"], r"flat.npy has shape \(5, 4\): \(N, 1 or 3 channels, H, W\)"),
        (
            ["data.labels={tmp}/none.csv"],
            "labels .*none.csv: give folders, or a CSV file with the columns path and label",
        ),
    ],
)
def test_wrong_input_is_one_clear_line(given: list[str], message: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (tmp_path / "bad.npy").write_bytes(b"no array")
    np.save(tmp_path / "flat.npy", np.zeros((5, 4), np.uint8))
    with pytest.raises(InfoAEError, match=message):
        cache.ready(config_of(photos, *(setting.format(tmp=tmp_path) for setting in given)))
    assert all_kept() == []
