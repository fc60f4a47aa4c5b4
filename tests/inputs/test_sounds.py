"""Sounds wherever pictures are taken: folders, archives, tables; shards that say so, and bundles that make the same."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from infoae.data import sound
from infoae.data.decode import read_image
from infoae.data.selection import why_passed_over
from infoae.data.shards import Shards
from infoae.data.sound import SoundSpec
from infoae.deploy import Classifier
from infoae.deploy.bundle import Bundle, write_checksums, write_manifest
from infoae.errors import InfoAEError
from infoae.inputs.convert import convert_files
from infoae.inputs.image_size import chosen
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import call
from tests.helpers.inputs import IMAGE, png, read, write_tar
from tests.helpers.settings import SMALL
from tests.helpers.sounds import chirp, encoded, tone

KINDS = ("WAV", "FLAC", "OGG")
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]


def write_sounds(folder: Path, count: int) -> Path:
    """Tones in `low` and chirps in `high` of `folder`, of each format in turn."""
    for number in range(count):
        kind = KINDS[number % 3]
        for name, samples in (("low", tone(200 + 10 * number, 0.2)), ("high", chirp(0.2 + 0.01 * number))):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / f"{number:02}.{kind.lower()}").write_bytes(encoded(samples, kind))
    return folder


def test_sounds_are_read_alike_in_folders_archives_and_tables(tmp_path: Path) -> None:
    files = {f"{kind}.{kind.lower()}": encoded(chirp(0.3), kind) for kind in KINDS}
    (tmp_path / "files").mkdir()
    for name, content in files.items():
        assert why_passed_over(name) is None
        (tmp_path / "files" / name).write_bytes(content)
    names = sorted(files)
    write_tar(tmp_path / "x.tar", {name: files[name] for name in names})
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in names:
            archive.writestr(name, files[name])
    parquet.write_table(pa.table({"audio": [files[name] for name in names]}), tmp_path / "x.parquet")
    wanted = np.stack([read_image(files[name], *IMAGE.shape) for name in names])
    for given in ("files", "x.tar", "x.zip", "x.parquet"):
        keys, images, errors = read(tmp_path / given)
        assert len(keys) == 3
        assert errors == [None] * 3
        assert np.array_equal(images, wanted)
    assert chosen([str(tmp_path / "files")], None, None, None).shape == (1, 32, 32)


def test_shards_of_sounds_say_by_which_numbers(tmp_path: Path) -> None:
    folder = write_sounds(tmp_path / "sounds", 3)
    (folder / "low/bad.wav").write_bytes(encoded(chirp(1), "WAV")[:30])
    done = convert_files([str(folder)], tmp_path / "out", IMAGE)
    assert (done.num_sounds, done.num_failed) == (6, 1)
    assert done.reasons[0].startswith(f"{folder}/low/bad.wav: ")
    assert SoundSpec.model_validate_json((tmp_path / "out/sound.json").read_bytes()) == sound.DEFAULT
    assert sound.described(tmp_path / "out") == sound.DEFAULT
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / f"pictures/{number}.png").write_bytes(png(number))
    convert_files([str(tmp_path / "pictures")], tmp_path / "plain", IMAGE)
    assert sound.described(tmp_path / "plain") is None


def test_sounds_among_pictures_are_refused(tmp_path: Path) -> None:
    folder = write_sounds(tmp_path / "sounds", 1)
    (folder / "cover.png").write_bytes(png(0))
    with pytest.raises(InfoAEError, match=r"^the inputs hold both sounds and pictures: give those of one kind$"):
        convert_files([str(folder)], tmp_path / "out", IMAGE)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spec", [None, SoundSpec(bands=20)])
def test_a_bundle_reads_sound_by_its_own_numbers_or_refuses_it(spec: SoundSpec | None, tmp_path: Path) -> None:
    bundle = Bundle.load(make_bundle(tmp_path / "bundle"))
    write_manifest(bundle.path, bundle.manifest.model_copy(update={"sound": spec}))
    write_checksums(bundle.path)
    content = encoded(chirp(0.3), "WAV")
    (tmp_path / "x.wav").write_bytes(content)
    (tmp_path / "x.png").write_bytes(png(0))
    command = [
        "classify",
        "x.wav",
        "x.png",
        "--model",
        "bundle",
        "--out",
        "x.csv",
        "--columns",
        "path,confidence,error",
    ]
    told = call(*command, cwd=tmp_path)
    assert told.returncode == (3 if spec is None else 0), told.stderr
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[1]["error"] == ""
    if spec is None:
        assert rows[0]["error"] == "a sound, and the model was trained on pictures"
        return
    with Path(tmp_path / "x.wav").open("rb") as file:
        levels = sound.picture_of(file, spec).resize((28, 28), 2)
    answers = Classifier(tmp_path / "bundle").classify(np.asarray(levels)[None, None])
    assert float(rows[0]["confidence"]) == pytest.approx(answers.probabilities.max(), abs=1e-4)


@pytest.mark.filterwarnings("always::infoae.errors.Notice")
def test_from_a_folder_of_sounds_to_a_bundle_that_makes_the_same_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFOAE_CACHE", str(tmp_path / "cache"))
    write_sounds(tmp_path / "sounds", 30)
    train = ["train", "--config", "smoke", *SETTINGS, "--categories", "2", "--set", "augment.kind=sound"]
    done = call(*train, "--data", "sounds", "--labels", "folders", "--name", "r", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "60 sounds became pictures of 32 x 32 grey, 6 of them kept for tests" in done.stderr
    exported = call("export", "r", "--onnx", "--out", "b", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    stated = json.loads((tmp_path / "b/bundle.json").read_text())
    assert stated["sound"] == sound.DEFAULT.model_dump()
    told = call("classify", "sounds", "--model", "b", "--out", "x.parquet", "--latent", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    # What was trained on, and what the bundle is given: the same pictures, so the same latents.
    (shards,) = (tmp_path / "cache").glob("pictures/*/shards")
    trained = np.concatenate([Shards(shards / split)[:] for split in ("train", "test")])
    latents = Classifier(tmp_path / "b").classify(trained).latent
    found = np.array(parquet.read_table(tmp_path / "x.parquet")["latent"].to_pylist())
    assert len(found) == 60
    distances = np.abs(found[:, None] - latents[None]).max(2)
    assert distances.min(1).max() < 1e-5
    assert len(np.unique(distances.argmin(1))) == len(np.unique(trained, axis=0)) > 50
