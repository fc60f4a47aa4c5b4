"""infoae sort: from a folder to labels of every file, and again on what is new."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from pyarrow import parquet

from infoae.deploy import Classifier
from infoae.deploy.job import classify_files
from infoae.sorting import labelling
from tests.sorting.conftest import RECIPE, sort, tree

pytestmark = [
    pytest.mark.filterwarnings("always::infoae.errors.Notice"),
    pytest.mark.xdist_group("sorted"),
]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of labels.parquet by the path below the pictures, in order."""
    found = parquet.read_table(folder / "s/labels.parquet").to_pylist()
    return {row["path"].removeprefix(f"{folder}/digits/"): row for row in found}


def test_every_file_has_the_label_that_the_bundle_gives_it(once: tuple[Path, str], done: Callable[[], Path]) -> None:
    folder, said = done(), once[1]
    found = rows(folder)
    names = [str(path.relative_to(folder / "digits")) for path in folder.glob("digits/*.png")]
    below = [str(path.relative_to(folder / "digits")) for path in folder.glob("digits/below/*.png")]
    assert list(found) == sorted(names) + sorted(below)
    images = np.stack([np.asarray(Image.open(folder / "digits" / name)) for name in found])[:, None]
    answers = Classifier(folder / "s/bundle").classify(images)
    assert [row["category"] for row in found.values()] == answers.probabilities.argmax(1).tolist()
    probabilities = [row["probability"] for row in found.values()]
    np.testing.assert_allclose(probabilities, answers.probabilities.max(1), atol=1e-5)
    assert [row["unsure"] for row in found.values()] == [value < np.float32(0.6) for value in probabilities]
    with (folder / "s/labels.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    for row, read in zip(found.values(), table, strict=True):
        assert (read["path"], int(read["category"]), read["name"]) == (row["path"], row["category"], row["name"])
        assert read["unsure"] == str(row["unsure"]).lower()
    assert json.loads((folder / "s/bundle/bundle.json").read_text())["reduced_jpeg"] is True
    for stage in (
        "1/6 looking: 100 pictures",
        "2/6 preparing",
        "3/6 training",
        "4/6 exporting",
        "5/6 labelling",
        "6/6 gallery",
    ):
        assert stage in said
    assert sorted(path.name for path in (folder / "s").iterdir() if path.name != ".lock") == sorted(
        ["bundle", "gallery.html", "labels.csv", "labels.parquet", "pictures", "runs", "sort.json"]
    )


def test_the_pictures_stay_byte_for_byte_as_they_were(once: tuple[Path, str], digits: Path) -> None:
    untouched = {name: value.split(" ")[1] for name, value in tree(digits / "digits").items()}
    assert {
        name: value.split(" ")[1] for name, value in tree(once[0].with_name("kept") / "digits").items()
    } == untouched


def test_a_second_time_nothing_is_computed_or_written(
    done: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = done()
    before = tree(folder)
    monkeypatch.setattr(labelling, "classify_files", None)
    code, out, _ = sort(folder, "--json")
    told = json.loads(out)
    assert (code, told["new"], told["changed"], told["gone"], told["num_pictures"]) == (0, 0, 0, 0, 100)
    after = tree(folder)
    assert after.pop("s") != before.pop("s")  # in which the lock is made
    after.pop("s/.lock")
    assert after == before


def test_a_page_that_is_gone_is_written_again(done: Callable[[], Path]) -> None:
    folder = done()
    page = folder / "s/gallery.html"
    before = page.read_text()
    page.unlink()
    assert sort(folder)[0] == 0
    assert page.read_text() == before


def test_only_what_is_new_or_has_changed_is_classified(
    done: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = done()
    before, seen, real = rows(folder), list[str](), classify_files

    def classified(*arguments: Any, **options: Any) -> Any:
        seen.extend(key for source in options["sources"] for block in source.blocks(7) for key in block.keys)
        return real(*arguments, **options)

    monkeypatch.setattr(labelling, "classify_files", classified)
    pictures = folder / "digits"
    zero, one = (next(name for name, row in before.items() if row["category"] == label) for label in (0, 1))
    (pictures / "0a.png").write_bytes((pictures / one).read_bytes())  # new, between others
    (pictures / zero).write_bytes((pictures / one).read_bytes())  # changed
    (pictures / "below/001.png").unlink()
    (pictures / "broken.png").write_bytes(b"no picture")
    code, out, _ = sort(folder, "--json")
    told = json.loads(out)
    assert (code, told["new"], told["changed"], told["gone"], told["num_unreadable"]) == (3, 2, 1, 1, 1)
    assert sorted(seen) == sorted(f"{pictures}/{name}" for name in ("0a.png", "broken.png", zero))
    after = rows(folder)
    assert after["0a.png"]["category"] == after[zero]["category"] == 1
    assert (after["broken.png"]["category"], after["broken.png"]["unsure"]) == (None, None)
    assert "not an image" in after["broken.png"]["error"]
    expected = sorted(set(before) - {"below/001.png"} | {"0a.png", "broken.png"}, key=lambda name: ("/" in name, name))
    assert list(after) == expected
    same = set(before) & set(after) - {zero}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}

    # What cannot be read is tried again, the rest is not; and a threshold is applied to all there is.
    seen.clear()
    probabilities = [row["probability"] for row in after.values() if row["error"] is None]
    middle = float(np.median(probabilities))
    code, out, _ = sort(folder, "--json", "--unsure", str(middle))
    assert (code, seen) == (3, [f"{pictures}/broken.png"])
    unsure = [value < middle for value in probabilities]
    assert 0 < json.loads(out)["num_unsure"] == sum(unsure)
    assert [row["unsure"] for row in rows(folder).values() if row["error"] is None] == unsure


def test_names_hold_whatever_the_file_system_takes(done: Callable[[], Path]) -> None:
    folder = done()
    pictures = folder / "digits"
    content = (pictures / "000.png").read_bytes()
    names = [
        b"new\nline.png",
        b"quo\"te',;.png",
        b"\xff\xfe.png",
        rb"\xff\xfe.png",
        b"[a]*?.png",
        b"-.png",
        b"=1+1.png",
    ]
    for name in names:
        (pictures / name.decode("utf-8", "surrogateescape")).write_bytes(content)
    code, out, said = sort(folder, "--json")
    assert (code, json.loads(out)["new"]) == (0, len(names)), said
    table = parquet.read_table(folder / "s/labels.parquet").to_pylist()
    files = {row["file"].rpartition(b"/")[2]: row["category"] for row in table}
    assert {files[name] for name in names} == {files[b"000.png"]}
    assert json.loads(sort(folder, "--json")[1])["new"] == 0
    with (folder / "s/labels.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 100 + len(names)
    assert b"\nline.png" not in (folder / "s/labels.csv").read_bytes()


def test_pictures_in_archives_are_labelled_with_the_rest(done: Callable[[], Path]) -> None:
    folder = done()
    with zipfile.ZipFile(folder / "digits/more.zip", "w") as archive:
        for number in (0, 2):
            archive.write(folder / f"digits/{number:03d}.png", f"in/{number}.png")
    zipfile.ZipFile(folder / "digits/none.zip", "w").close()
    code, out, _ = sort(folder, "--json")
    assert (code, json.loads(out)["new"]) == (3, 2)  # two archives, one of them without a picture
    found = rows(folder)
    assert found["more.zip#in/2.png"]["category"] == found["002.png"]["category"]
    assert found["more.zip#in/0.png"]["file"] == f"{folder}/digits/more.zip".encode()
    assert "holds no images" in found["none.zip"]["error"]
    (folder / "digits/more.zip").unlink()
    assert json.loads(sort(folder, "--json")[1])["gone"] == 1
    assert "more.zip#in/2.png" not in rows(folder)


def test_sounds_are_sorted_as_pictures_are(tmp_path: Path) -> None:
    (tmp_path / "digits").mkdir()  # the name that `sort` gives
    times = np.arange(4000) / 16_000
    for number in range(60):
        tone = np.sin(2 * np.pi * (300 + 10 * number if number % 2 else 3000) * times)
        file = tmp_path / f"digits/{number:02d}.{('wav', 'flac', 'ogg')[number % 3]}"
        soundfile.write(file, 0.5 * tone, 16_000)
    (tmp_path / "digits/damaged.wav").write_bytes(b"RIFF")
    (tmp_path / "tiny.yaml").write_text(RECIPE)
    code, _, said = sort(tmp_path)
    assert code == 3, said
    found = rows(tmp_path)
    assert len(found) == 61
    assert {name for name, row in found.items() if row["error"]} == {"damaged.wav"}
    manifest = json.loads((tmp_path / "s/bundle/bundle.json").read_text())
    assert manifest["sound"]["sample_rate"] == 16_000
    assert (tmp_path / "s/gallery.html").exists()


def test_again_trains_on_what_there_is_now(done: Callable[[], Path]) -> None:
    folder = done()
    for path in sorted((folder / "digits/below").iterdir())[:20]:
        path.unlink()
    code, out, said = sort(folder, "--json", "--again")
    assert code == 0, said
    told = json.loads(out)
    assert (told["new"], told["num_pictures"], told["run"]) == (80, 80, f"{folder}/s/runs/sort-2")
    assert json.loads((folder / "s/bundle/bundle.json").read_text())["run"]["name"] == "sort-2"
    assert len(rows(folder)) == 80
