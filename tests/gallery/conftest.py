"""A gallery of pictures whose names are as bad as a file system allows."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from infoae.data import ImageSet
from infoae.deploy.bundle import Bundle, RunSpec, write_checksums, write_manifest
from infoae.gallery import page
from infoae.methods.registry import load
from infoae.runs import checkpoint, names
from infoae.runs.run import Run
from tests.helpers.bundles import make_bundle

EVIL_NAME = "</script><script>window.pwned=1</script>"
EVIL_FILES = (
    b"<img src=x onerror=window.pwned=2>.png",
    b"<!--<script>.png",
    b"quo\"te' & line\nbreak.png",
    b"not \xff utf-8.png",
    "ünïcode \u2028.png".encode(),
    b"__proto__.png",
)


@dataclass(frozen=True)
class Made:
    """A written gallery and what it was made of."""

    written: page.Written
    run: Run
    pictures: Path
    bundle: Path


@pytest.fixture(scope="session")
def make_gallery(
    lively_run: Run, mnist: tuple[ImageSet, ImageSet], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], Made]:
    """Return a function that writes a gallery of 60 files, with a bundle of the run's name, into a new folder."""

    def make() -> Made:
        folder = tmp_path_factory.mktemp("gallery")
        pictures = folder / "pictures"
        pictures.mkdir()
        for number, pixels in enumerate(mnist[1].images[:60, 0]):
            name = EVIL_FILES[number] if number < len(EVIL_FILES) else f"{number:02d}.png".encode()
            with Path(os.fsdecode(os.fsencode(pictures) + b"/" + name)).open("wb") as file:
                Image.fromarray(pixels).save(file, "PNG")
        (pictures / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
        shutil.copytree(lively_run.path, folder / lively_run.name)  # other tests want it without names
        own = Run(folder / lively_run.name)
        step = checkpoint.read(own.checkpoint("best")).step
        count = load(own.path).num_categories
        names.store(own, [EVIL_NAME, *[None] * (count - 1)], step)
        bundle = make_bundle(folder / "bundle")
        manifest = Bundle.load(bundle).manifest
        run = RunSpec(name=own.name, step=step, config={})
        write_manifest(bundle, manifest.model_copy(update={"run": run}))
        write_checksums(bundle)
        written = page.write(own, folder / "page.html", data=pictures, bundle=bundle, device="cpu")
        return Made(written, own, pictures, bundle)

    return make


@pytest.fixture(scope="session")
def gallery(make_gallery: Callable[[], Made]) -> Made:
    """A gallery in one file."""
    return make_gallery()
