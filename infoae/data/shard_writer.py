"""Writing a folder as `infoae.data.shards` reads it: images in random order, some set apart for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoae.data.external_shuffle import Buckets
from infoae.data.shards import FEATURES
from infoae.errors import InfoAEError, printable
from infoae.files import sync

SHARD_BYTES = 64 * 1024 * 1024
"""A shard is no larger: the pages of the eight that training mixes at a time should fit in memory."""


def write_split(
    folder: Path, buckets: Buckets, test_share: float, advance: Callable[[int], object] = lambda _: None
) -> NDArray[np.int32]:
    """Move the images of `buckets`, shuffled, to shards in test/ and train/ of `folder`; return test classes (N,).

    Tests are `test_share` of the images, to the nearest whole number, but never none and never all. Rows that have
    features give them to FEATURES of `folder`, in the same order. `advance` is told of images written. Raises
    InfoAEError if there are fewer than two, OSError if they cannot be written.
    """
    if buckets.num_rows < 2:
        raise InfoAEError(f"{buckets.num_rows} usable image: at least 2 are needed, one to train on and one for tests")
    num_test = min(max(1, round(test_share * buckets.num_rows)), buckets.num_rows - 1)
    sizes = {"test": num_test, "train": buckets.num_rows - num_test}
    parts, rows = buckets.shuffled(), np.empty(0, buckets.kind)
    classes = []
    for split, count in sizes.items():
        (folder / split).mkdir()
        features = _features_file(folder / FEATURES[split], count, buckets.kind)
        done = 0
        for number, size in enumerate(_shard_sizes(count, buckets.kind["pixels"].itemsize)):
            with (folder / split / f"{number:05}.npy").open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (size, *buckets.kind["pixels"].shape)}
                np.lib.format.write_array_header_1_0(file, header)
                left = size
                while left:
                    rows = rows if len(rows) else next(parts)
                    taken, rows = rows[:left], rows[left:]
                    file.write(taken["pixels"].tobytes())
                    if split == "test":
                        classes.append(taken["class"].copy())
                    if features is not None:
                        features[done : done + len(taken)] = taken["features"]
                    done += len(taken)
                    left -= len(taken)
                    advance(len(taken))
            sync(folder / split / f"{number:05}.npy")
        if features is not None:
            features.flush()
            sync(folder / FEATURES[split])
    for _ in parts:  # the buckets after the last image are empty, and to be removed
        pass
    return np.concatenate(classes)


def write_classes(folder: Path, classes: NDArray[np.int32], names: Iterable[str]) -> None:
    """Write the `classes` (N,) of the test images, which are numbers of `names`.

    In `folder`, classes.txt gets the names in order, one a line, and test_labels.npy numbers in that order.
    """
    given = list(names)
    numbers = {name: number for number, name in enumerate(sorted(given))}
    np.save(folder / "test_labels.npy", np.array([numbers[name] for name in given])[classes])
    (folder / "classes.txt").write_text("".join(f"{printable(name)}\n" for name in numbers), encoding="utf-8")


def _features_file(path: Path, count: int, kind: np.dtype[np.void]) -> np.memmap[Any, np.dtype[np.float32]] | None:
    if "features" not in (kind.names or ()):
        return None
    shape = (count, *kind["features"].shape)
    return np.lib.format.open_memmap(path, "w+", np.dtype(np.float32), shape, version=(1, 0))


def _shard_sizes(count: int, image_bytes: int) -> list[int]:
    """As equal as may be, and as few as SHARD_BYTES allows."""
    num_shards = -(-count // max(1, SHARD_BYTES // image_bytes))
    size, larger = divmod(count, num_shards)
    return [size + (shard < larger) for shard in range(num_shards)]
