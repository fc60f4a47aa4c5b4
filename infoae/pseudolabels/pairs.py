"""The partners of training images in the mutual information: nearest neighbours, kept in the run's folder.

Runs beside it with the same images and settings, as of a sweep or of several seeds, take them from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoae.config import Augment, Config, Neighbours
from infoae.data import npy
from infoae.distributed import collectives
from infoae.errors import InfoAEError, UsageError, one_line
from infoae.files import atomic_file
from infoae.pseudolabels import knn, search_on_disk
from infoae.pseudolabels.neighbour_graph import nearest_by_features, nearest_neighbours
from infoae.random_streams import Stream, generator
from infoae.runs.run import NEIGHBOUR_SEARCH, NEIGHBOURS, Run
from infoae.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from infoae.data.shards import Shards
    from infoae.pseudolabels.search_on_disk import Executor

HEADER = 65536  # bytes, the most that NumPy writes before an array
HASHED = 10_000  # images at once

LENGTHS = 26  # bytes from a member's header in an archive to the lengths of its name and extra field

LEARNED = "learned features, search "
"""Source of neighbours that training sought, before the number of the search."""

Indices = NDArray[np.int32]


@dataclass(frozen=True)
class Pairs:
    """The nearest neighbours of each of N training images."""

    nearest: Indices
    """(N, P), all that are kept, nearest first; mapped from the run's folder where one process found them."""
    count: int
    """The first so many of them may be partners."""

    @property
    def drawn_from(self) -> Indices:
        """(N, count): the neighbours that a partner is one of."""
        return self.nearest[:, : self.count]

    def draw(self, indices: NDArray[np.int64], seed: int, step: int) -> NDArray[np.int64]:
        """Draw a partner (B,) of each image of a whole batch: the same on all ranks."""
        random = generator(seed, Stream.PARTNERS, step)
        choice = torch.randint(self.count, (len(indices),), generator=random).numpy()
        drawn: NDArray[np.int64] = self.nearest[indices, choice].astype(np.int64)
        return drawn


def load(
    run: Run,
    images: NDArray[np.uint8] | Shards,
    config: Config,
    device: torch.device,
    features: NDArray[np.float32] | None = None,
) -> Pairs:
    """Return the neighbours of `images` (N, C, H, W), by `features` (N, D) if given: the main rank's, for all ranks.

    Raises UsageError if there are too few images, InfoAEError if what the run's folder keeps is damaged.
    """
    shape, path = (len(images), config.neighbours.num_kept()), run.path / NEIGHBOURS
    found: Indices | None = None
    if collectives.is_main():
        find(run, images, config.neighbours, config.augment, features=features)
        found = _reading(path, lambda: _read(path, shape), "remove it, it is computed again")
    if found is None or collectives.size() > 1:
        shared = torch.zeros(shape, dtype=torch.int32) if found is None else torch.tensor(found)
        found = collectives.from_main(shared, device).numpy()
    return Pairs(found, config.neighbours.count)


def save_learned(run: Run, found: Indices, searches: int) -> None:
    """Put the neighbours (N, P) of a search in learned features into the run's folder, beside those of the one before.

    A run that was killed before its checkpoint was written goes on with those.
    """
    path = run.path / NEIGHBOURS
    kept: dict[str, Any] = {"neighbours": found}
    if searches > 1:
        kept["before"] = _reading(path, lambda: _read(path, found.shape, *_learned(path, searches - 1)))
    with atomic_file(path) as file, file.open("wb") as stream:
        np.savez(stream, source=np.array(f"{LEARNED}{searches}"), **kept)


def load_learned(run: Run, num_images: int, rule: Neighbours, searches: int, device: torch.device) -> Pairs:
    """Return the neighbours of that search of so many: the main rank's, for all ranks. Raises InfoAEError on damage."""
    shape, path = (num_images, rule.num_kept()), run.path / NEIGHBOURS
    found = np.zeros(shape, np.int32)
    if collectives.is_main():
        found = np.array(_reading(path, lambda: _read(path, shape, *_learned(path, searches))))
    return Pairs(collectives.from_main(torch.from_numpy(found), device).numpy(), rule.count)


def _learned(path: Path, searches: int) -> tuple[str, str]:
    """Return the source that a file of learned neighbours has, and which of its arrays are those of a search."""
    with np.load(path, allow_pickle=False) as file:
        source = str(file["source"])
    newest = f"{LEARNED}{searches}"
    return (newest, "neighbours") if source == newest else (f"{LEARNED}{searches + 1}", "before")


def find(
    run: Run,
    images: NDArray[np.uint8] | Shards,
    rule: Neighbours,
    augment: Augment,
    advance: Callable[[int], object] = lambda _: None,
    say: Callable[[str], object] = lambda _: None,
    features: NDArray[np.float32] | None = None,
    executor: Executor = search_on_disk.here,
) -> None:
    """Put the neighbours of `images` (N, C, H, W), by `features` (N, D) if given, into the run's folder, unless there.

    Where that would take more memory than it may, they are found in parts on disk, by `executor`: see `search_on_disk`.
    `advance` is told of so many more images that are done, `say` once how they are searched, in words, if they are.
    Raises UsageError if there are too few.
    """
    path = run.path / NEIGHBOURS
    if path.exists():
        return
    check_enough(len(images), rule)
    needed = _needed(images, features, rule, augment)
    on_disk = search_on_disk.is_needed(len(images), needed, rule)
    source = _source(images if features is None else features, rule, augment, on_disk)
    found = _of_another_run(run, source, (len(images), rule.num_kept()))
    if found is None:
        searched = f"nearest neighbours of {len(images):,} images {knn.described(rule.search, len(images))}"
        if on_disk:
            say(f"{searched}, in parts on disk; in memory they would take {needed / 1e9:.2g} GB (neighbours.memory)")
            folder = run.path / NEIGHBOUR_SEARCH / source
            if features is None:
                found = search_on_disk.nearest_on_disk(folder, images, rule, augment, advance, executor)
            else:
                found = search_on_disk.nearest_by_features_on_disk(folder, features, rule, advance, executor)
        else:
            say(searched)
            found = _in_memory(images, features, rule, augment, advance)
    with atomic_file(path) as file, file.open("wb") as stream:
        np.savez(stream, neighbours=found, source=source)
    shutil.rmtree(run.path / NEIGHBOUR_SEARCH, ignore_errors=True)


def _needed(
    images: NDArray[np.uint8] | Shards, features: NDArray[np.float32] | None, rule: Neighbours, augment: Augment
) -> int:
    if features is None:
        return search_on_disk.bytes_in_memory(images.shape, rule, augment)
    return search_on_disk.bytes_of_features(features.shape, rule)


def _in_memory(
    images: NDArray[np.uint8] | Shards,
    features: NDArray[np.float32] | None,
    rule: Neighbours,
    augment: Augment,
    advance: Callable[[int], object],
) -> Indices:
    if features is not None:
        return nearest_by_features(features, rule, advance=advance)
    return nearest_neighbours(images[np.arange(len(images))], rule, augment, advance=advance)


def check_enough(num_images: int, rule: Neighbours) -> None:
    """Raise UsageError if there are too few images to have as many neighbours as are asked for."""
    kept = rule.num_kept()
    if num_images <= kept:
        raise UsageError(
            f"{kept} neighbours an image (the larger of neighbours.count and merging_count) need more than "
            f"{num_images} training images"
        )


def _source(images: NDArray[Any] | Shards, rule: Neighbours, augment: Augment, on_disk: bool) -> str:
    """Return a digest of all that neighbours follow from: images (N, C, H, W) or features (N, D), settings, version."""
    settings = rule.model_dump(include={"blur", "distortion", "search"})
    settings["search"] = knn.resolved(rule.search, len(images))
    if on_disk:  # sums are of other parts, so that two that are as near may change places
        settings["on_disk"] = True
    made_of = (__version__, images.shape, rule.num_kept(), settings, augment.model_dump())
    digest = hashlib.blake2b(repr(made_of).encode(), digest_size=16)
    for start in range(0, len(images), HASHED):
        digest.update(np.ascontiguousarray(images[start : start + HASHED]).data)
    return digest.hexdigest()


def _of_another_run(run: Run, source: str, shape: tuple[int, int]) -> Indices | None:
    for path in sorted(run.path.parent.glob(f"*/{NEIGHBOURS}")):
        # Whatever is wrong with the file of another run, or with its folder, is nothing to this one.
        with suppress(Exception):
            return _read(path, shape, source)
    return None


def _reading(path: Path, read: Callable[[], Indices], advice: str = "train anew") -> Indices:
    try:
        return read()
    except Exception as error:  # whatever NumPy and zipfile make of the file
        raise InfoAEError(f"{path} is damaged ({one_line(error)}): {advice}") from None


def _read(path: Path, shape: tuple[int, ...], source: str | None = None, name: str = "neighbours") -> Indices:
    """Map neighbours of `shape` (N, P) by `name`, of `source` if given. Raises whatever damage makes of them."""
    with zipfile.ZipFile(path) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
        if sizes["source.npy"] > HEADER + 1024 or sizes[f"{name}.npy"] > HEADER + 8 * shape[0] * shape[1]:
            raise ValueError("larger than neighbours are")
        with np.load(path, allow_pickle=False) as file:
            if source is not None and str(file["source"]) != source:
                raise ValueError("of other images or settings")
        if damaged := archive.testzip():  # a map does not look at the sum that an archive has of each
            raise ValueError(f"{damaged} is not what was written")
        found = _mapped(path, archive.getinfo(f"{name}.npy"))
    if found.shape != shape or found.dtype.kind != "i" or found.min() < 0 or found.max() >= len(found):
        raise ValueError(f"{found.dtype} {found.shape}, or not of these images")
    neighbours: Indices = np.asarray(found).astype(np.int32, copy=False)
    return neighbours


def _mapped(path: Path, member: zipfile.ZipInfo) -> NDArray[Any]:
    """Map an array of an archive, in which NumPy compresses nothing."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError("compressed")
    with path.open("rb") as file:
        file.seek(member.header_offset + LENGTHS)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
        file.seek(name + extra, os.SEEK_CUR)
        shape, fortran_order, dtype = npy.read_header(file)
        if fortran_order or dtype.hasobject:
            raise ValueError("not as NumPy writes an array of numbers")
        return np.memmap(path, dtype, "r", file.tell(), shape)
