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
import math
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infoae.data import npy
from infoae.data.selection import is_hidden
from infoae.data.unreadable import UnreadableImageError, check_file, unreadable
from infoae.errors import InfoAEError

MIXED_SHARDS = 8
FEATURES = {"train": "train_features.npy", "test": "test_features.npy"}
"""The files of a folder that hold the features of a split."""


class Shards:
    """The images of a folder's .npy files in the order of their names, indexed as one array (N, C, H, W)."""

    def __init__(self, folder: Path) -> None:
        """Look at the header of each shard. Raises InfoAEError if there is none, or naming the first that is unfit."""
        self.folder = folder
        self._paths = sorted(path for path in folder.glob("*.npy") if not is_hidden(path.name))
        if not self._paths:
            raise InfoAEError(f"no shards in {folder}: .npy files of uint8 images (N, H, W) or (N, C, H, W) needed")
        shapes = [_open(path).shape for path in self._paths]
        for path, shape in zip(self._paths, shapes, strict=True):
            if shape[1:] != shapes[0][1:]:
                raise InfoAEError(f"shard {path} has images {shape[1:]}, {self._paths[0].name} has {shapes[0][1:]}")
        self.sizes = tuple(shape[0] for shape in shapes)
        self.shape = (len(self), *shapes[0][1:])
        self._ends = np.cumsum(self.sizes)
        self._opened = lru_cache(2 * MIXED_SHARDS)(_open)

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
        for shard in np.unique(shards):
            here = shards == shard
            images[here] = self._opened(self._paths[shard])[rows[here] - self._ends[shard] + self.sizes[shard]]
        return images


def read_labels(path: Path, num_images: int) -> NDArray[np.int64]:
    """Read the classes of so many images, numbered from 0 by their distinct values. Raises InfoAEError."""
    labels = _load(path)
    if labels.shape != (num_images,) or labels.dtype.kind not in "iu":
        raise InfoAEError(f"{path} holds {labels.dtype} {labels.shape}: a whole number for each of {num_images} needed")
    if num_images and labels.min() < 0:
        raise InfoAEError(f"{path} holds {labels.min()}: classes are 0 and up")
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


def read_features(path: Path, num_images: int) -> NDArray[np.float32]:
    """Map the features (N, D) of so many images. Raises InfoAEError if they are of others."""
    found = _load(path)
    if found.ndim != 2 or found.dtype.kind != "f" or len(found) < num_images:
        raise InfoAEError(f"{path} holds {found.dtype} {found.shape}: floats ({num_images}, D) needed")
    return found


def _open(path: Path) -> NDArray[np.uint8]:
    images = _load(path)
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        raise InfoAEError(f"shard {path} holds {images.dtype} {images.shape}: uint8 (N, H, W) or (N, C, H, W) needed")
    return images if images.ndim == 4 else images[:, None]


def _load(path: Path) -> NDArray[Any]:
    try:
        size = check_file(path)
        with unreadable():
            with path.open("rb") as file:
                shape, fortran_order, dtype = npy.read_header(file)
                start = file.tell()
            if math.prod(shape) * dtype.itemsize > size - start:
                raise UnreadableImageError(f"{size} bytes are too few for {dtype} {shape}")
            if dtype.hasobject:
                raise UnreadableImageError("Python objects, which are not unpickled")
            order: Literal["C", "F"] = "F" if fortran_order else "C"
            if not math.prod(shape):
                return np.empty(shape, dtype)  # nothing cannot be mapped
            return np.memmap(path, dtype, "r", start, shape, order)
    except UnreadableImageError as error:
        raise InfoAEError(f"{path} cannot be read as .npy: {error}") from None
