"""Features of pictures while they are converted: computed by an encoder, or rows of a file in order of the inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infoae.config import Features
from infoae.data.image_spec import ImageSpec
from infoae.errors import InfoAEError, UsageError
from infoae.features.encoder import FrozenEncoder, opened


class Featuring:
    """Gives `convert_files` the features of a configuration's encoder. Opening it raises InfoAEError."""

    def __init__(self, config: Features) -> None:
        self._encoder = opened(config)
        self.dim, self.digest = self._encoder.dim, self._encoder.digest
        self.image: ImageSpec | None = self._encoder.image if isinstance(self._encoder, FrozenEncoder) else None
        self._first: NDArray[np.float32] | None = None
        self._varied = False

    def of(self, pictures: NDArray[np.uint8], numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return features (M, D) of `pictures` (M, C, H, W), which are the inputs of these `numbers`."""
        if isinstance(self._encoder, FrozenEncoder):
            found = self._encoder.features(pictures)
        else:
            rows = self._encoder.rows
            if len(numbers) and numbers[-1] >= len(rows):
                raise UsageError(f"{self._encoder.name} has {len(rows):,} rows, fewer than there are pictures")
            found = rows[numbers].astype(np.float32)
        if len(found):
            self._first = found[0] if self._first is None else self._first
            self._varied = self._varied or bool((found != self._first).any())
        return found

    def check_all(self, num_inputs: int) -> None:
        """Raise InfoAEError if all features were the same, or a file has more rows than `num_inputs`."""
        if not isinstance(self._encoder, FrozenEncoder) and len(self._encoder.rows) != num_inputs:
            rows = len(self._encoder.rows)
            raise UsageError(
                f"{self._encoder.name} has {rows:,} rows for {num_inputs:,} pictures: give each one, in order"
            )
        if not self._varied and num_inputs > 1:
            raise InfoAEError(
                f"{self._encoder.name}: the features of all pictures are the same: they tell nothing apart"
            )
