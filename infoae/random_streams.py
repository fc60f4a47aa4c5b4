"""Random numbers as a function of (seed, stream, step), so that a resumed run draws what an unbroken one would have."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What the numbers are for; streams of one seed are independent."""

    WEIGHTS = 0
    ORDER = 1
    STEP = 2
    EVALUATION = 3
    PARTNERS = 4


def generator(seed: int, stream: Stream, index: int = 0) -> torch.Generator:
    """Return a CPU generator for one step or epoch of one stream."""
    state = np.random.SeedSequence((seed, int(stream), index)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state >> np.uint64(1)))
