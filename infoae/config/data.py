"""The section that says what is trained on: which data, and where they lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from infoae.addresses import check_address
from infoae.config.kinds import Count, DataName, PositiveInt, Section


class Data(Section):
    """What is trained on."""

    name: DataName = "mnist"
    """Data set: mnist is bundled, files are pictures of any kind at `root`, shards are .npy files under it, the others
    lie as torchvision lays them out."""
    root: Annotated[Path, Field(strict=False)] | None = None
    """Folder of torchvision data sets or of shards; of files, the folder, pattern, list (.txt), archive, Parquet or
    array file that holds them. mnist needs none."""
    uri: Annotated[str, AfterValidator(check_address)] | None = None
    """Address of shards in an object store, in place of `root`: s3://bucket/path, gs://bucket/path, file:///folder."""
    labels: str | None = None
    """Classes of files, for evaluation alone: folders, for those they lie in, or a CSV file of path and label."""
    column: str | None = None
    """Parquet column or .npz array of files that holds the images, where there are several."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of files that is kept for tests, drawn at random."""
    reduced_jpeg: bool | None = None
    """Whether large JPEG files are decoded at a part of their size. New trainings on files do; runs of before did not,
    nor do data sets. Shards say it themselves."""
    download: Annotated[bool, Field(strict=False)] = False
    """Whether torchvision may download into `root`."""
    limit: PositiveInt | None = None
    """Number of images to train on, the first ones; all if not given."""
    held_out: Count = 0
    """Number of images, the last ones, that are kept out of training to compute the score; 0 scores on trained ones."""

    def described(self) -> str:
        """Return what it is and where, for people."""
        return self.name if self.place is None else f"{self.name} in {self.place}"

    @property
    def place(self) -> Path | str | None:
        """The folder, or the address of one in an object store."""
        return self.root if self.uri is None else self.uri

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.uri is not None and (self.name != "shards" or self.root is not None):
            raise ValueError("data.uri is the address of shards: it needs data.name shards, and no data.root")
        return self

    def absolute(self) -> Self:
        """Return the same data by absolute paths: a resumed run, a trial or a worker may be in another folder."""
        found: dict[str, object] = {}
        if self.root is not None:
            found["root"] = self.root.expanduser().resolve()
        if self.labels not in (None, "folders"):
            found["labels"] = str(Path(str(self.labels)).expanduser().resolve())
        return self.model_copy(update=found)

    def moved(self, root: Path | None) -> Self:
        """Return the same data where it lies now, if `root` is given."""
        return self if root is None else self.model_copy(update={"root": root, "uri": None}).absolute()
