"""Pictures are found by the names that the gallery gives them, whatever they lie in."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet

from infoae.correcting.named import inputs_named
from infoae.data import ImageSet
from infoae.errors import InfoAEError
from infoae.gallery.pictures import pictures_of
from infoae.model import InfoAE
from infoae.runs.run import Run

Pixels = NDArray[np.uint8]
COUNT = 5


def png(pixels: Pixels) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def folder(where: Path, images: Pixels) -> Path:
    """Names with bytes that are not UTF-8, with marks as of containers, and one that looks as if it were escaped."""
    names = [b"pictures/a.png", b"pictures/below/b#1.png", b"pictures/c\xff.png", b"pictures/d\\xfe.png", b"pictures/e"]
    (where / "pictures" / "below").mkdir(parents=True)
    for name, image in zip(names, images, strict=True):
        (where / os.fsdecode(name)).write_bytes(png(image))
    return where / "pictures"


def list_of_files(where: Path, images: Pixels) -> Path:
    names = folder(where, images)
    found = [*sorted(path for path in names.iterdir() if path.is_file()), names / "below" / "b#1.png"]
    (where / "list.txt").write_bytes(b"".join(os.fsencode(path) + b"\n" for path in found))
    return where / "list.txt"


def zip_file(where: Path, images: Pixels) -> Path:
    with zipfile.ZipFile(where / "a#b.zip", "w") as archive:
        for number, image in enumerate(images):
            archive.writestr(f"x/{number}#.png", png(image))
    return where / "a#b.zip"


def tar_file(where: Path, images: Pixels) -> Path:
    with tarfile.open(where / "s.tar.gz", "w:gz") as archive:
        for number, image in enumerate(images):
            content = png(image)
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return where / "s.tar.gz"


def below_a_folder(where: Path, images: Pixels) -> Path:
    (where / "mixed").mkdir()
    (where / "mixed" / "0.png").write_bytes(png(images[0]))
    tar_file(where / "mixed", images[1:])
    return where / "mixed"


def table(where: Path, images: Pixels) -> Path:
    parquet.write_table(pa.table({"image": [png(image) for image in images]}), where / "t.parquet")
    return where / "t.parquet"


def data_set(where: Path, images: Pixels) -> Path:
    """As Hugging Face has them: bytes, or the path of a file beside the table."""
    (where / "last.png").write_bytes(png(images[-1]))
    rows = [*({"bytes": png(image), "path": None} for image in images[:-1]), {"bytes": None, "path": "last.png"}]
    parquet.write_table(pa.table({"image": rows}), where / "t.parquet")
    return where / "t.parquet"


def array(where: Path, images: Pixels) -> Path:
    np.save(where / "i.npy", images)
    return where / "i.npy"


def two_arrays(where: Path, images: Pixels) -> Path:
    np.savez(where / "i.npz", others=images[::-1], wanted=images)
    return where / "i.npz"


@pytest.mark.parametrize(
    "kind", [folder, list_of_files, zip_file, tar_file, below_a_folder, table, data_set, array, two_arrays]
)
def test_names_of_the_gallery_are_found(
    kind: Callable[[Path, Pixels], Path],
    lively_run: Run,
    mnist: tuple[ImageSet, ImageSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    images = mnist[1].images[:COUNT]
    given = kind(tmp_path, images[:, 0]).relative_to(tmp_path)
    column = "wanted" if kind is two_arrays else None
    model = InfoAE.of_run(lively_run)
    names = [path for chunk in pictures_of(lively_run, model, given, column).chunks for path in chunk.paths]
    assert len(set(names)) == COUNT
    order = [0, 2, 3, 4, 1] if kind in (folder, list_of_files) else [0, 1, 2, 3, 4]  # what lies below comes last
    found = inputs_named(names[::-1], lively_run, model, Path(), column, None)[::-1]
    assert np.array_equal(found, images[order])
    monkeypatch.chdir("/")
    assert np.array_equal(inputs_named(names, lively_run, model, tmp_path, column, None), found)


def test_test_images_of_a_data_set_are_found(lively_run: Run) -> None:
    model = InfoAE.of_run(lively_run)
    (chunk, *_) = pictures_of(lively_run, model, None).chunks
    found = inputs_named([chunk.paths[41], chunk.paths[0]], lively_run, model, Path(), None, None)
    assert np.array_equal(found, chunk.inputs[[41, 0]])
    name = lively_run.config().data.name
    assert chunk.paths[41] == f"{name}#41"
    with pytest.raises(InfoAEError, match=rf"'{name}#999999', which cannot be read \(there are [0-9,]+ test images\)"):
        inputs_named([f"{name}#999999"], lively_run, model, Path(), None, None)


def test_what_is_not_there_is_refused(lively_run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    images = mnist[1].images[:COUNT, 0]
    zip_file(tmp_path, images)
    two_arrays(tmp_path, images)
    (tmp_path / "cut.zip").write_bytes((tmp_path / "a#b.zip").read_bytes()[:300])
    (tmp_path / "damaged.png").write_bytes(b"no")
    reasons = {
        "a#b.zip#x/9#.png": "it is not in there",
        "a#b.zip#": "it is not in there",
        "a#b.zip": "not an image",
        "cut.zip#x/0#.png": "cannot be opened",
        "damaged.png": "not an image",
        "gone.tar#0.png": "No such file",
        "nul\0.png": "null byte",
        "x" * 5000: "File name too long",
    }
    for name, reason in reasons.items():
        with pytest.raises(InfoAEError, match=r"the corrections speak of .* with --pictures") as caught:
            inputs_named([name], lively_run, InfoAE.of_run(lively_run), tmp_path, None, None)
        assert reason in str(caught.value), name
    with pytest.raises(InfoAEError, match="choose one with --column"):
        inputs_named(["i.npz#0"], lively_run, InfoAE.of_run(lively_run), tmp_path, None, None)
