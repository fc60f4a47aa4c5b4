"""The data sets infoae trains and evaluates on, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from infoae.addresses import within
from infoae.data import bundled_mnist
from infoae.data.object_store import refuse_unfinished
from infoae.data.shards import Shards, read_labels
from infoae.data.stored_shards import beside
from infoae.data.unreadable import UnreadableImageError, unreadable
from infoae.errors import InfoAEError, UsageError, one_line

if TYPE_CHECKING:  # the run-time half of deploy imports this package, and has no YAML
    from infoae.config import Data, DataName

Split: TypeAlias = Literal["train", "test"]
Features: TypeAlias = NDArray[np.float32]
"""(N, D), in memory or mapped from a file."""


@dataclass(frozen=True)
class ImageSet:
    """Images uint8 (N, C, H, W) in 0..255, and their classes int64 (N,) where the data has them."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    held_out: NDArray[np.uint8] | None = None
    """Images that are kept out of training."""
    features: Features | None = None
    """Of each image, where a frozen encoder was given."""
    held_out_features: Features | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> NDArray[np.uint8] | Features:
        """What an encoder sees: features (N, D) where there are some, else the images (N, C, H, W)."""
        return self.images if self.features is None else self.features

    @property
    def held_out_inputs(self) -> NDArray[np.uint8] | Features | None:
        """The same of what is kept out of training."""
        return self.held_out if self.held_out_features is None else self.held_out_features


@dataclass(frozen=True)
class ShardSet:
    """Training images on disk, read row by row; nothing of them is labelled."""

    images: Shards
    held_out: NDArray[np.uint8] | None = None
    """Images that are kept out of training."""
    features: Features | None = None
    """Of each image, where a frozen encoder was given."""
    held_out_features: Features | None = None

    def __len__(self) -> int:
        return len(self.images)

    @property
    def inputs(self) -> Shards | Features:
        """What an encoder sees: features (N, D) where there are some, else the images (N, C, H, W)."""
        return self.images if self.features is None else self.features

    @property
    def held_out_inputs(self) -> NDArray[np.uint8] | Features | None:
        """The same of what is kept out of training."""
        return self.held_out if self.held_out_features is None else self.held_out_features


def load_training(config: Data) -> ImageSet | ShardSet:
    """Return the images to train on: whole in memory, or where they are shards, on disk.

    The last `config.held_out` are set apart. Raises as `load` does, and UsageError if they are all.
    """
    if config.name == "shards" and config.limit is None:
        shards = _shards_of(config, "train")
        kept = _kept(config, len(shards))
        return ShardSet(shards.first(kept), shards[kept:] if config.held_out else None)
    data = load(config, "train")
    kept = _kept(config, len(data))
    labels = None if data.labels is None else data.labels[:kept]
    return ImageSet(data.images[:kept], labels, data.images[kept:] if config.held_out else None)


def _kept(config: Data, count: int) -> int:
    if config.held_out and config.held_out >= count:
        raise UsageError(f"data.held_out {config.held_out} leave none of {count} images to train on")
    return count - config.held_out


def load(config: Data, split: Split) -> ImageSet:
    """Read one split whole into memory; `config.limit` shortens the training split.

    Raises UsageError if the data needs a folder or a download that was not given, InfoAEError if it is damaged.
    """
    if config.name == "shards":
        return _shards(config, split)
    data = _mnist(split) if config.name == "mnist" else _torchvision(config, split)
    if split == "train" and config.limit is not None:
        labels = None if data.labels is None else data.labels[: config.limit]
        data = ImageSet(data.images[: config.limit], labels)
    return data


def _mnist(split: Split) -> ImageSet:
    prefix = {"train": "train", "test": "t10k"}[split]
    images = bundled_mnist.read(f"{prefix}-images-idx3-ubyte")
    labels = bundled_mnist.read(f"{prefix}-labels-idx1-ubyte")
    return ImageSet(images[:, None], labels.astype(np.int64))


def _root(config: Data) -> Path:
    if config.root is None:
        fetched = "" if config.name == "shards" else " (and --download to fetch it)"
        raise UsageError(f"data {config.name} needs the folder it lies in: --data-root DIR{fetched}")
    return config.root.expanduser()


def _shards(config: Data, split: Split) -> ImageSet:
    images = _shards_of(config, split)[: config.limit if split == "train" else None]
    labels = beside(config.uri or _root(config), "test_labels.npy") if split == "test" else None
    return ImageSet(images, None if labels is None else read_labels(labels, len(images)))


def _shards_of(config: Data, split: Split) -> Shards:
    if config.uri is None:
        return Shards(_root(config) / split)
    refuse_unfinished(config.uri)
    return Shards(within(config.uri, split))


def _torchvision(config: Data, split: Split) -> ImageSet:
    root = _root(config)
    try:
        with unreadable():
            images, labels = _raw(config, root, split)
    except UnreadableImageError as error:
        raise InfoAEError(f"data {config.name} under {root} cannot be read: {error}") from None
    if len(images) != len(labels):
        raise InfoAEError(f"data {config.name} under {root} has {len(images)} images and {len(labels)} labels")
    return ImageSet(np.ascontiguousarray(images), labels)


def _raw(config: Data, root: Path, split: Split) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (N, C, H, W) and their labels. Raises InfoAEError if they are missing, and anything on damage."""
    try:
        dataset = _builder(config.name)(
            root=str(root), download=config.download, **_split_arguments(config.name, split)
        )
    except (RuntimeError, FileNotFoundError) as error:  # torchvision: not there, or not what its checksum says
        reason = one_line(error, first=True).rstrip(".")
        raise InfoAEError(f"data {config.name} under {root}: {reason}; --download fetches it") from None
    images = np.asarray(dataset.data, dtype=np.uint8)
    labels = np.asarray(dataset.labels if config.name == "svhn" else dataset.targets, dtype=np.int64)
    return _to_chw(images, config.name), labels


def _builder(name: DataName) -> Callable[..., Any]:
    from torchvision import datasets

    builders: dict[str, Callable[..., Any]] = {
        "fashion-mnist": datasets.FashionMNIST,
        "kmnist": datasets.KMNIST,
        "emnist": partial(datasets.EMNIST, split="balanced"),
        "usps": datasets.USPS,
        "svhn": datasets.SVHN,
        "cifar10": datasets.CIFAR10,
    }
    return builders[name]


def _split_arguments(name: DataName, split: Split) -> dict[str, Any]:
    return {"split": split} if name == "svhn" else {"train": split == "train"}


def _to_chw(images: NDArray[np.uint8], name: DataName) -> NDArray[np.uint8]:
    if name == "emnist":  # stored with rows and columns swapped
        images = images.transpose(0, 2, 1)
    if images.ndim == 3:
        return images[:, None]
    return images if name == "svhn" else images.transpose(0, 3, 1, 2)
