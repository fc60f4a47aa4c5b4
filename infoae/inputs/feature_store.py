"""Features of pictures that are stored already, as of a data set: computed once, and kept beside prepared ones."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from infoae import kept
from infoae.data.shards import read_features
from infoae.features.encoder import FrozenEncoder, check_varied
from infoae.reporting.images import progress

if TYPE_CHECKING:
    from infoae.data.shards import Shards

FILE = "features.npy"
AT_ONCE = 1024
"""Pictures that are read at once."""


def features_of(pictures: NDArray[np.uint8] | Shards, encoder: FrozenEncoder, source: str) -> NDArray[np.float32]:
    """Return the features float32 (N, D) of `pictures` (N, C, H, W), mapped from a file that is made if need be.

    `source` says where they are from. Raises InfoAEError if they are not finite, or all the same.
    """
    count = len(pictures)

    def make(folder: Path) -> None:
        found = np.lib.format.open_memmap(folder / FILE, "w+", np.dtype(np.float32), (count, encoder.dim))
        with progress("features", count) as advance:
            for start in range(0, count, AT_ONCE):
                part = pictures[start : start + AT_ONCE]
                found[start : start + len(part)] = encoder.features(part)
                advance(len(part))
        check_varied(found, encoder.name)
        found.flush()

    folder = kept.folder_of(f"{encoder.digest} {_fingerprint(pictures)}", f"features of {source}", make)
    return read_features(folder / FILE, count)


def _fingerprint(pictures: NDArray[np.uint8] | Shards) -> str:
    """Of all pictures, every byte: what is kept must be of no others."""
    digest = hashlib.blake2b(repr(pictures.shape).encode(), digest_size=16)
    for start in range(0, len(pictures), AT_ONCE):
        digest.update(np.ascontiguousarray(pictures[start : start + AT_ONCE]).data)
    return digest.hexdigest()
