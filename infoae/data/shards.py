"""Images in shards on disk, read row by row: for more of them than fits in memory, without a copy on each node.

    DIR/train/*.npy      uint8 (N, H, W) or (N, C, H, W), any N; one shape of image
    DIR/test/*.npy       the same, read whole into memory
    DIR/test_labels.npy  classes (N,) of the test images, for evaluation alone; may be missing
    DIR/train_features.npy, DIR/test_features.npy
                         float32 (N, D) of all images of a split in order; where infoae has prepared them

Shards are memory-mapped: a rank touches the rows of its share, and the kernel's page cache is the only buffer. Training
mixes MIXED_SHARDS of them at a time (`trainer.batches`), so that reads stay among few files. Two such groups are open
at most, which bounds what a process maps.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infoae.data import npy
from infoae.data.selection import is_hidden
from infoae.data.stored_shards import copy_ahead, stored_shards
from infoae.errors import InfoAEError

MIXED_SHARDS = 8
FEATURES = {"train": "train_features.npy", "test": "test_features.npy"}
"""The files of a folder that hold the features of a split."""


class Shard(Protocol):
    """A file of images, on this machine or in an object store."""

    @property
    def name(self) -> str:
        """Its path or address."""

    @property
    def header(self) -> npy.Header:
        """What it held when it was looked at."""

    def open(self) -> NDArray[Any]:
        """Map it into memory. Raises InfoAEError if it is gone."""


@dataclass(frozen=True)
class LocalShard:
    """A file of images on a disk that this machine sees."""

    path: Path
    header: npy.Header

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.path)

    def open(self) -> NDArray[Any]:
        """Map it into memory. Raises InfoAEError if it is gone."""
        return npy.mapped(self.path)


class Shards:
    """The images of a folder's .npy files in the order of their names, indexed as one array (N, C, H, W)."""

    def __init__(self, folder: Path | str) -> None:
        """Look at the header of each shard of a folder, or of the address of one in an object store.

        Raises InfoAEError if there is none, or naming the first that is unfit.
        """
        self.folder = folder
        self._stored = [] if isinstance(folder, Path) else stored_shards(folder)
        files: list[Shard] = [*self._stored]
        if isinstance(folder, Path):
            files += _local(folder)
        self._files = files
        if not self._files:
            raise InfoAEError(f"no shards in {folder}: .npy files of uint8 images (N, H, W) or (N, C, H, W) needed")
        shapes = [_image_shape(file.name, file.header.shape, file.header.dtype) for file in self._files]
        for file, shape in zip(self._files, shapes, strict=True):
            if shape[1:] != shapes[0][1:]:
                first = self._files[0].name.rpartition("/")[2]
                raise InfoAEError(f"shard {file.name} has images {shape[1:]}, {first} has {shapes[0][1:]}")
        self.sizes = tuple(shape[0] for shape in shapes)
        self.shape = (len(self), *shapes[0][1:])
        self._ends = np.cumsum(self.sizes)
        self._opened = lru_cache(2 * MIXED_SHARDS)(self._open)
        self._coming: frozenset[int] = frozenset()

    @property
    def versions(self) -> dict[str, str]:
        """The version of each shard in an object store, by its name; empty for those of a folder."""
        return {file.name: f"{file.size} {file.version}" for file in (shard.file for shard in self._stored)}

    def __len__(self) -> int:
        return sum(self.sizes)

    def first(self, count: int) -> Shards:
        """Return the first so many images, from 1 to all."""
        part = copy.copy(self)
        ends = np.minimum(self._ends, count)
        part.sizes = tuple(size for size in np.diff(ends, prepend=0).tolist() if size)
        part.shape = (count, *self.shape[1:])
        part._ends = ends[: len(part.sizes)]
        return part

    def __getitem__(self, rows: slice | NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Read rows into memory. Raises InfoAEError if a shard is gone."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shards = np.searchsorted(self._ends, rows, side="right")
        found = np.unique(shards)
        self._copy_ahead(found.tolist())
        for shard in found:
            here = shards == shard
            images[here] = self._opened(int(shard))[rows[here] - self._ends[shard] + self.sizes[shard]]
        return images

    def expect(self, batches: Sequence[NDArray[np.int64]], number: int) -> None:
        """Have the shards read soon after `batches[number]` copied to this machine meanwhile; returns at once.

        They are those of as many rows as MIXED_SHARDS have: at the first batch of all these, then of one more each.
        """
        if not self._stored:
            return
        ahead = MIXED_SHARDS * max(self.sizes) // len(batches[number]) + 1
        rows = batches[number + ahead : number + ahead + 1] if number else batches[: ahead + 1]
        coming = {shard for part in rows for shard in np.searchsorted(self._ends, part, side="right").tolist()}
        self._copy_ahead(sorted(coming - self._coming))
        self._coming = frozenset(coming)

    def _copy_ahead(self, shards: Sequence[int]) -> None:
        if self._stored:
            copy_ahead(self._stored[shard] for shard in shards)

    def _open(self, shard: int) -> NDArray[np.uint8]:
        images = self._files[shard].open()
        _image_shape(self._files[shard].name, images.shape, images.dtype)  # it may be another file by now
        return images if images.ndim == 4 else images[:, None]


def read_labels(path: Path, num_images: int) -> NDArray[np.int64]:
    """Read the classes of so many images, numbered from 0 by their distinct values. Raises InfoAEError."""
    labels = npy.mapped(path)
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        raise InfoAEError(f"{path} holds {labels.dtype} {labels.shape}: a whole number for each of {num_images} needed")
    if num_images and labels.min() < 0:
        raise InfoAEError(f"{path} holds {labels.min()}: classes are 0 and up")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def read_features(path: Path, num_images: int) -> NDArray[np.float32]:
    """Map the features (N, D) of so many images. Raises InfoAEError if they are of others."""
    found = npy.mapped(path)
    if found.ndim != 2 or found.dtype.kind != "f" or len(found) < num_images:
        raise InfoAEError(f"{path} holds {found.dtype} {found.shape}: floats ({num_images}, D) needed")
    return found


def _local(folder: Path) -> list[LocalShard]:
    paths = sorted(path for path in folder.glob("*.npy") if not is_hidden(path.name))
    return [LocalShard(path, npy.header_of(path)) for path in paths]


def _image_shape(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[int, ...]:
    """Return the shape (N, C, H, W) of a shard's images. Raises InfoAEError if it holds something else."""
    if dtype != np.uint8 or len(shape) not in (3, 4):
        raise InfoAEError(f"shard {name} holds {dtype} {shape}: uint8 (N, H, W) or (N, C, H, W) needed")
    return shape if len(shape) == 4 else (shape[0], 1, *shape[1:])
