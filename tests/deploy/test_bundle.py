"""The contract: what is written is read back, and anything else is refused in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from infoae.data.decode import DEFAULTS
from infoae.deploy.bundle import Bundle, write_checksums, write_manifest
from infoae.errors import InfoAEError
from tests.helpers.bundles import make_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def change(bundle: Path, **fields: object) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(content | fields))
    write_checksums(bundle)


def test_a_manifest_is_read_back_and_written_alike(bundle: Path) -> None:
    manifest = Bundle.load(bundle).manifest
    assert manifest.image.shape == (1, 28, 28)
    assert manifest.categories("kind 3") == manifest.categories("3") == manifest.categories("number:3") == [3]
    before = (bundle / "bundle.json").read_bytes()
    write_manifest(bundle, manifest)
    assert (bundle / "bundle.json").read_bytes() == before


def test_checksums_are_those_of_sha256sum(bundle: Path) -> None:
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=bundle, check=True, capture_output=True)


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InfoAEError, match=r"no bundle at .*absent"):
        Bundle.load(tmp_path / "absent")
    with pytest.raises(InfoAEError, match="no bundle at"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("name", ["classifier.onnx", "bundle.json", "sample_io.npz"])
def test_a_changed_or_missing_file_is_noticed(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(InfoAEError, match=f"{name} is not the file that export wrote"):
        Bundle.load(bundle).read(name)
    (bundle / name).unlink()
    with pytest.raises(InfoAEError, match=f"no bundle at|cannot read {name}"):
        Bundle.load(bundle).read(name)


@pytest.mark.parametrize("content", [None, "nonsense\n", ""])
def test_damaged_checksums(bundle: Path, content: str | None) -> None:
    (bundle / "SHA256SUMS").unlink()
    if content is not None:
        (bundle / "SHA256SUMS").write_text(content)
    with pytest.raises(InfoAEError, match="export it again"):
        Bundle.load(bundle)


def test_a_newer_format_asks_for_an_upgrade(bundle: Path) -> None:
    change(bundle, format=2, image="something new")
    with pytest.raises(InfoAEError, match=r"made by a newer infoae \(format 2\); upgrade"):
        Bundle.load(bundle)


def test_an_unknown_field_of_a_later_version_is_ignored(bundle: Path) -> None:
    change(bundle, licence="CC0")
    assert Bundle.load(bundle).manifest.num_categories == 10


def test_a_bundle_of_before_has_jpeg_files_decoded_in_full_as_it_was_trained(bundle: Path) -> None:
    content = json.loads((bundle / "bundle.json").read_text())
    del content["reduced_jpeg"]
    (bundle / "bundle.json").write_text(json.dumps(content))
    write_checksums(bundle)
    assert not Bundle.load(bundle).manifest.decoding(DEFAULTS).reduced_jpeg
    change(bundle, reduced_jpeg=True)
    assert Bundle.load(bundle).manifest.decoding(DEFAULTS).reduced_jpeg


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"category_names": ["one"]}, "1 category_names for 10 categories"),
        ({"num_categories": 0}, "num_categories"),
        ({"image": {"channels": 2, "height": 28, "width": 28}}, "image.channels"),
        ({"files": {"classifier": {"file": "../x.onnx", "inputs": {}, "outputs": {}}}}, "plain name"),
        ({"format": "one"}, "format"),
        ({"latent_dim": 2**40}, r"classifier.onnx has latent \(8,\), not \(1099511627776,\)"),
        ({"noise_dim": 2**40}, r"generator.onnx has noise \(6,\)"),
        ({"image": {"channels": 1, "height": 2**31, "width": 28}}, r"classifier.onnx has images \(1, 28, 28\)"),
        ({"num_categories": 2, "category_names": ["one", "two"]}, r"classifier.onnx has probabilities \(10,\)"),
        ({"noise_range": [1, -1]}, "noise_range: .*the lower end comes first"),
        ({"noise_range": [-1e308, 1e308]}, "noise_range"),
    ],
)
def test_a_wrong_manifest_is_named(bundle: Path, fields: dict[str, object], message: str) -> None:
    change(bundle, **fields)
    with pytest.raises(InfoAEError, match=message) as caught:
        Bundle.load(bundle)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_no_json(bundle: Path) -> None:
    (bundle / "bundle.json").write_text("{")
    write_checksums(bundle)
    with pytest.raises(InfoAEError, match="not JSON"):
        Bundle.load(bundle)


def test_an_unknown_category_lists_those_there_are(bundle: Path) -> None:
    with pytest.raises(InfoAEError, match=r"no category 'cat'.*kind 0"):
        Bundle.load(bundle).manifest.categories("cat")


def test_names_that_are_numbers_or_repeat_are_not_mixed_up(bundle: Path) -> None:
    digits = Bundle.load(bundle).manifest.model_copy(update={"category_names": (*"0123456899",)})
    assert digits.categories("9") == [8, 9]
    assert digits.categories("8") == [7]
    assert digits.categories("number:7") == [7]
    with pytest.raises(InfoAEError, match=r"no category '7': give one of 0, .*, or its number, number:0 to number:9"):
        digits.categories("7")
    with pytest.raises(InfoAEError, match="no category 'number:10'"):
        digits.categories("number:10")
