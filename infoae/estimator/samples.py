"""What an estimator is given: rows of numbers, pictures in memory, or files that hold pictures.

Each is written as a training reads it, and read again block by block as a trained model takes it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from infoae.category_model import CategoryModel
from infoae.config import recipes
from infoae.data.decode import DecodeOptions
from infoae.data.image_spec import ImageSpec
from infoae.errors import UsageError, shown
from infoae.files import atomic_folder
from infoae.inputs.blocks import in_blocks
from infoae.inputs.decoding import decode, read_blocks
from infoae.inputs.sources import open_sources
from infoae.locks import waited_for

Inputs: TypeAlias = NDArray[np.uint8] | NDArray[np.float32]
"""Pictures (N, C, H, W), or rows (N, D)."""
Block: TypeAlias = tuple[Inputs, NDArray[np.bool_]]
"""The readable samples of a block of N, and which of the N these are (N,)."""

PICTURES, ROWS = "mnist", "photos-features"
"""The recipes of pictures too few to try any on, and of rows."""
BLANK = (1, 8, 8)
"""The smallest picture there is. One stands beside each row, for a training counts pictures; no loss looks at it."""
_OF_PICTURES = (
    "reconstruction",
    "classification_generated",
    "classification_encoded",
    "encoder_adversarial",
    "decoder_generated",
    "decoder_reconstructed",
    "latent_matching",
    "discriminator",
    "self_critic",
)
NOTHING_DRAWN = (
    *(f"objective.weights.{loss}=0" for loss in _OF_PICTURES),
    "model.width=4",
    "model.generator_hidden_dim=16",
    "model.critic_norm=batch",
)
"""What `--set` is given for rows: no loss of pictures, and networks for these as small as can be."""
EVALUATED = 10_000
"""Samples in memory that a run is evaluated on, the first ones: all are trained on, so that none is kept for tests."""
AT_ONCE = 1000


@dataclass(frozen=True)
class Rows:
    """Numbers (N, D): features, as of a frozen encoder. There are no pictures, and nothing learns to draw any."""

    values: NDArray[np.float32]

    recipe = ROWS

    def __len__(self) -> int:
        return len(self.values)

    def settings(self, folder: Path) -> list[str]:
        """Write them below `folder`, and return what `--set` would be given to train on them."""
        tests = self.values[:EVALUATED]
        blank = np.zeros((len(self), *BLANK), np.uint8)
        kept = _written(folder, blank, blank[: len(tests)], np.concatenate([self.values, tests]))
        encoder = recipes.override("features.encoder", kept / "rows.npy")
        return [*_shards(kept), encoder, "neighbours.source=given", *NOTHING_DRAWN]

    def blocks(self, model: CategoryModel) -> Iterator[Block]:  # noqa: ARG002  as all samples are asked
        """Yield them part by part."""
        return _parts(self.values)


@dataclass(frozen=True)
class Pictures:
    """Pixels (N, C, H, W) in 0..255."""

    pixels: NDArray[np.uint8]

    recipe = None

    def __len__(self) -> int:
        return len(self.pixels)

    def settings(self, folder: Path) -> list[str]:
        """Write them below `folder`, and return what `--set` would be given to train on them."""
        return _shards(_written(folder, self.pixels, self.pixels[:EVALUATED]))

    def blocks(self, model: CategoryModel) -> Iterator[Block]:  # noqa: ARG002  as all samples are asked
        """Yield them part by part."""
        return _parts(self.pixels)


@dataclass(frozen=True)
class Files:
    """Inputs as `--data PATH` takes them: one that holds pictures, or a list of picture files."""

    inputs: tuple[str, ...]
    is_list: bool
    reduced_jpeg: bool = True
    """Whether large JPEG files are decoded at a part of their size: as they were for the model that is asked."""

    recipe = None

    def settings(self, folder: Path) -> list[str]:
        """Return what `--set` would be given to train on them; a list is written below `folder`."""
        root = Path(self.inputs[0])
        if self.is_list:
            content = "".join(f"{Path(path).absolute()}\n" for path in self.inputs).encode(errors="surrogateescape")
            root = folder / "arrays" / f"{hashlib.blake2b(content, digest_size=10).hexdigest()}.txt"
            root.parent.mkdir(parents=True, exist_ok=True)
            root.write_bytes(content)
        return ["data.name=files", recipes.override("data.root", root), "data.reduced_jpeg=true"]

    def blocks(self, model: CategoryModel) -> Iterator[Block]:
        """Yield what can be read, as large as `model` sees it. Raises InfoAEError if an input is not there."""
        channels, height, width = model.seen_shape
        image = ImageSpec.model_validate({"channels": channels, "height": height, "width": width})
        listed = in_blocks(((path, Path(path)) for path in self.inputs), AT_ONCE)  # one that is gone is unreadable
        for block in listed if self.is_list else read_blocks(open_sources(self.inputs, image), AT_ONCE):
            found = decode(block, image, DecodeOptions(reduced_jpeg=self.reduced_jpeg))
            yield found.images, np.array([error is None for error in found.errors], bool)


Samples: TypeAlias = Rows | Pictures | Files


def files_of(given: Any) -> Files | None:
    """Return the files that a path, or a list of paths, names; None of anything else.

    Raises UsageError for a list whose files cannot be listed one a line.
    """
    if isinstance(given, str | os.PathLike):
        return Files((os.fspath(given),), is_list=False)
    listed = given.tolist() if isinstance(given, np.ndarray) and given.ndim == 1 else given
    if (
        not isinstance(listed, Sequence)
        or not listed
        or not all(isinstance(path, str | os.PathLike) for path in listed)
    ):
        return None
    paths = tuple(str(os.fspath(path)) for path in listed)
    for path in paths:
        if "\n" in path or path != path.strip("\r"):
            raise UsageError(f"{shown(path)} is a name of several lines: rename the file, or give its folder")
    return Files(paths, is_list=True)


def pictures_of(values: NDArray[Any], least: int) -> Pictures:
    """Return pictures (N, C, H, W) or (N, H, W), uint8 or floats in [0, 1], as pixels.

    Raises ValueError for anything else, and for fewer than `least`.
    """
    if len(values) < least:
        raise ValueError(f"X has {len(values)} sample(s): at least {least} are needed")
    images = values[:, None] if values.ndim == 3 else values
    if images.shape[1] not in (1, 3):
        hint = "; its channels are last: give X.transpose(0, 3, 1, 2)" if images.shape[-1] in (1, 3) else ""
        raise ValueError(f"X of shape {values.shape}: pictures are (N, H, W), or (N, C, H, W) of 1 or 3 channels{hint}")
    if images.dtype == np.uint8:
        return Pictures(images)
    if images.dtype.kind != "f":
        raise ValueError(f"X of {images.dtype}: pictures are uint8 in 0..255, or floats in [0, 1]")
    if images.size and not (images.min() >= 0 and images.max() <= 1):  # not a number is neither
        raise ValueError("X: pictures of floats must lie in [0, 1]; give uint8 for 0..255")
    return Pictures((images * 255).round().astype(np.uint8))


def _parts(values: NDArray[Any]) -> Iterator[Block]:
    for start in range(0, len(values), AT_ONCE):
        part = values[start : start + AT_ONCE]
        yield part, np.ones(len(part), bool)


def _shards(folder: Path) -> list[str]:
    return ["data.name=shards", recipes.override("data.root", folder)]


def _written(
    folder: Path, train: NDArray[np.uint8], tests: NDArray[np.uint8], rows: NDArray[np.float32] | None = None
) -> Path:
    """Return a folder below `folder` with images as `infoae.data.shards` reads them, by its content: written once."""
    digest = hashlib.blake2b(digest_size=10)
    for array in (train, rows):
        if array is not None:
            digest.update(repr((array.shape, array.dtype)).encode())
            digest.update(np.ascontiguousarray(array).data)
    path = folder.absolute() / "arrays" / digest.hexdigest()
    path.parent.mkdir(parents=True, exist_ok=True)
    with waited_for(path.with_suffix(".lock")):  # another process of a grid search may be writing the same
        if not path.exists():
            _write(path, {"train": train, "test": tests}, rows)
    return path


def _write(path: Path, splits: dict[str, NDArray[np.uint8]], rows: NDArray[np.float32] | None) -> None:
    with atomic_folder(path) as made:
        for split, images in splits.items():
            (made / split).mkdir()
            np.save(made / split / "0.npy", images)
        if rows is not None:
            np.save(made / "rows.npy", rows)
