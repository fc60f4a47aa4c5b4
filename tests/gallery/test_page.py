"""What the page holds, without a browser."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import infoae
from infoae.data import ImageSet
from infoae.data.decode import read_image, read_with_thumbnail
from infoae.errors import InfoAEError, UsageError
from infoae.gallery import answers, page
from infoae.runs.run import Run
from tests.gallery.conftest import EVIL_FILES, EVIL_NAME, Made
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import call


class Blocks(HTMLParser):
    """The scripts of a page as a browser's parser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "script" and self.scripts and not self.scripts[-1][1]:
            self.scripts[-1] = (self.scripts[-1][0], data)


def blocks(made: Made) -> dict[str, str]:
    found = Blocks(made.written.page.read_text(encoding="utf-8")).scripts
    return {str(attributes.get("id", attributes.get("type"))): text for attributes, text in found}


def test_data_are_whole_whatever_names_and_paths_hold(gallery: Made) -> None:
    found = blocks(gallery)
    data = json.loads(found["data"])
    assert data["names"][0] == EVIL_NAME
    expected = {f"{gallery.pictures}/{name.decode('utf-8', 'backslashreplace')}" for name in EVIL_FILES}
    assert expected <= set(data["paths"])
    assert len(data["paths"]) == gallery.written.num_pictures == 60
    assert gallery.written.passed_over == {"unreadable": 1}
    assert set(found) == {"data", "thumbnails-0", "reconstructions-0", "classifier", "wasm", "licences", "module"}


def test_only_the_script_that_is_built_may_run(gallery: Made) -> None:
    text = gallery.written.page.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    (allowed,) = re.findall(r"'sha256-([^']+)'", policy[1])
    digest = hashlib.sha256(blocks(gallery)["module"].encode()).digest()
    assert base64.b64encode(digest).decode() == allowed
    assert "connect-src 'none'" in policy[1]
    assert "'unsafe-inline'" not in policy[1].split("script-src")[1].split(";")[0]
    assert not re.findall(r'(?:src|href)="https?:', text)


def test_answers_rows_and_neighbours_are_those_of_the_model(gallery: Made) -> None:
    data: dict[str, Any] = json.loads(blocks(gallery)["data"])
    model = infoae.load(gallery.run.path)
    files = {
        f"{gallery.pictures}/{each.name}".encode("utf-8", "surrogateescape"): each
        for each in gallery.pictures.iterdir()
    }
    shown = {key.decode("utf-8", "backslashreplace"): each for key, each in files.items()}
    images = np.stack([read_image(shown[path], 1, 28, 28) for path in data["paths"]])
    probabilities, latents = model.classify(images).numpy(), model.encode(images).numpy()
    labels = probabilities.argmax(1)
    assert [each[0] for each in data["categories"]] == labels.tolist()
    top = np.sort(probabilities, axis=1)[:, ::-1]
    assert np.abs(np.array(data["probabilities"]) - top[:, : answers.TOP]).max() < 1e-4
    for row in data["rows"]:
        members = np.flatnonzero(labels == row["category"])
        assert row["size"] == len(members)
        if not len(members):
            continue
        centred = latents[members] - latents.mean(0)
        mean = centred.mean(0)
        cosine = (centred @ mean) / np.linalg.norm(centred, axis=1) / np.linalg.norm(mean)
        distance = np.degrees(np.arccos(cosine.clip(-1, 1)))
        assert np.allclose(np.array(data["distances"])[members], distance, atol=0.1)
        assert row["typical"][0] == members[distance.argmin()]
        assert len(members) == 1 or row["outliers"][0] == members[distance.argmax()]
        assert row["doubtful"][0] == members[(top[members, 0] - top[members, 1]).argmin()]
    assert len({tuple(each) for each in data["map"]["places"]}) > 50


def test_a_thumbnail_is_where_the_page_looks_for_it(gallery: Made) -> None:
    found = blocks(gallery)
    data = json.loads(found["data"])
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(found["thumbnails-0"]))).convert("L"))
    columns, side = data["thumbnails"]["columns"], data["thumbnails"]["side"]
    for index, path in enumerate(data["paths"]):
        if path.endswith(tuple(f"/{number}.png" for number in range(10, 60))):
            row, column = divmod(index, columns)
            cell = sheet[row * side : (row + 1) * side, column * side : (column + 1) * side]
            assert np.array_equal(cell, read_image(path, 1, 28, 28)[0])


def test_test_images_of_a_data_set_are_shown_by_default(finished_run: Run, tmp_path: Path) -> None:
    written = page.write(finished_run, tmp_path / "page.html", device="cpu")
    assert (written.num_pictures, written.classifies, written.folder) == (500, False, None)
    text = written.page.read_text(encoding="utf-8")
    assert 'id="wasm"' not in text
    assert json.loads(text.split('id="data">')[1].split("</script>")[0])["paths"][0].startswith("shards#")
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]


def test_thumbnails_beside_the_page_are_replaced_with_it(
    make_gallery: Callable[[], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "INLINE", 10)
    made = make_gallery()
    folder = made.written.folder
    assert folder is not None
    (folder / "thumbnails-0007.webp").write_bytes(b"of an earlier page")
    again = page.write(made.run, made.written.page, data=made.pictures, device="cpu")
    assert again.folder == folder
    assert not (folder / "thumbnails-0007.webp").exists()
    monkeypatch.setattr(page, "INLINE", 100)
    assert page.write(made.run, made.written.page, data=made.pictures, device="cpu").folder is None
    assert not folder.exists()
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InfoAEError, match=r"holds 'mine\.txt', which no gallery wrote"):
        page.write(made.run, made.written.page, data=made.pictures, device="cpu")
    assert (folder / "mine.txt").exists()


def test_what_cannot_be_shown_is_refused(gallery: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"give the name of an \.html file"):
        page.write(gallery.run, tmp_path / "page.txt")
    with pytest.raises(UsageError, match="is of tiny, step 1, and the page of lively, step"):
        page.write(gallery.run, tmp_path / "page.html", bundle=make_bundle(tmp_path / "bundle"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InfoAEError, match="the inputs hold no images"):
        page.write(gallery.run, tmp_path / "page.html", data=tmp_path / "empty", device="cpu")
    monkeypatch.setattr(answers, "MAX_GALLERY", 59)
    with pytest.raises(InfoAEError, match="more pictures than 59"):
        page.write(gallery.run, tmp_path / "page.html", data=gallery.pictures, device="cpu")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bundle", "empty"]


def test_the_command_says_where_the_page_is(gallery: Made, tmp_path: Path) -> None:
    root = gallery.run.path.parent
    done = call(
        "gallery", gallery.run.name, "--runs", str(root), "--data", str(gallery.pictures), "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["page"] == str(gallery.run.path / "gallery.html")
    assert (found["num_pictures"], found["passed_over"]) == (60, {"unreadable": 1})
    assert "not shown: 1 unreadable" in done.stderr
    wrong = call("gallery", gallery.run.name, "--runs", str(root), "--out", "x.png", cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)


def test_one_decoding_gives_what_two_would(tmp_path: Path, mnist: tuple[ImageSet, ImageSet]) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (300, 200, 3), np.uint8)
    file = tmp_path / "colour.png"
    Image.fromarray(colour).save(file)
    pixels, thumbnail = read_with_thumbnail(file, 1, 28, 28, 96)
    assert np.array_equal(pixels, read_image(file, 1, 28, 28))
    assert (thumbnail.mode, thumbnail.size) == ("RGB", (64, 96))
    assert np.array_equal(
        np.asarray(thumbnail), np.asarray(Image.fromarray(colour).resize((64, 96), Image.Resampling.BILINEAR))
    )
    small = tmp_path / "small.png"
    Image.fromarray(mnist[0].images[0, 0]).save(small)
    assert np.array_equal(np.asarray(read_with_thumbnail(small, 3, 64, 64, 96)[1]), mnist[0].images[0, 0])


def test_licences_of_what_is_built_in_are_in_the_page(gallery: Made) -> None:
    licences = html.unescape(blocks(gallery)["licences"])
    assert "OpenSeadragon" in licences
    assert "Microsoft Corporation" in licences
