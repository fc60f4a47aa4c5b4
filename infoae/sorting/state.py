"""What was asked of a sort, and how far it is: sort.json, from which the same command goes on. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import write_json

FILE = "sort.json"
LABELS, CSV = "labels.parquet", "labels.csv"
PICTURES, RUNS, BUNDLE, WORK, LOCK = "pictures", "runs", "bundle", "work", ".lock"
GALLERY, QUALITY = "gallery.html", "quality.csv"

CONTENTS = {
    CSV: "a row for each picture: path, category, its name, probability, whether that is too little to be sure, error",
    LABELS: "the same, with each file's size, time and exact name, and the latent",
    QUALITY: "with --quality: which pictures are damaged, dark, blurred, near-duplicates or outliers",
    GALLERY: "a page that shows the categories, and takes corrections",
    BUNDLE: "the model, for infoae classify and generate",
    RUNS: "the run that trained it, for infoae evaluate, figures and name, and those that were corrected",
    PICTURES: "the pictures as they were trained on, small",
    FILE: "what was asked, and what is done",
}
"""All that lies in the folder of a sort, and what it is."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Asked(_Section):
    """What decides the training; None is what nobody said."""

    categories: str | None = None
    minutes: float | None = None
    config: str | None = None

    def differs(self, earlier: Asked) -> list[str]:
        """Return the options that are given here and were others earlier."""
        given = self.model_dump(exclude_none=True)
        return [f"--{name}" for name, value in given.items() if value != getattr(earlier, name)]


class Recipe(_Section):
    """What is trained: a recipe by name or file, and the settings that its trial or --minutes chose."""

    source: str
    settings: list[str] = []


class Likeness(_Section):
    """How the pictures that were there at training were answered."""

    count: int
    occupancy: list[float]
    """Share of each category."""
    probabilities: list[float]
    """Quantiles 0, 1/100, … 1 of the probability of the answers."""


class Progress(_Section):
    """How far a sort is. Each stage sets its own value when it is done."""

    format: Literal[1] = 1
    photos: str
    """Absolute path of what is sorted."""
    asked: Asked
    number: int = 1
    """Counts the trainings: --again makes it one more."""
    image: ImageSpec
    """What pictures become."""
    num_prepared: int | None = None
    recipe: Recipe | None = None
    trained: bool = False
    no_structure: str | None = None
    """Why no categories were found, if that is so."""
    corrected: str | None = None
    """The run that corrections made of the trained one."""
    exported: bool = False
    likeness: Likeness | None = None
    shown: bool = False

    @property
    def run(self) -> str:
        """The name of the run that the bundle is of."""
        return self.corrected or self.trained_run

    @property
    def trained_run(self) -> str:
        """The name of the run that was trained, and of its pictures."""
        return f"sort-{self.number}"

    def save(self, out: Path) -> None:
        """Write it into the folder `out`, atomically."""
        write_json(out / FILE, self.model_dump(mode="json"))


def read(out: Path) -> Progress | None:
    """Return how far the sort in `out` is, None if there is nothing yet.

    Raises InfoAEError if the file is damaged, UsageError if `out` holds something else.
    """
    path = out / FILE
    try:
        return Progress.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        pass
    except ValidationError as error:
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): give another --out") from None
    if out.exists() and (not out.is_dir() or any(name.name not in (LOCK, PICTURES) for name in out.iterdir())):
        raise UsageError(f"{out} is there already and no result of infoae sort: give another --out")
    return None
