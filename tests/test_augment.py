from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from infoae.augment import affine, draw_maps
from infoae.config import Augment


@pytest.mark.parametrize("shape", [(7, 1, 28, 28), (3, 3, 9, 12)])
def test_an_affine_map_is_torchs_own(shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    x, maps = torch.rand(shape, generator=random), draw_maps(shape[0], Augment(degrees=90, shear=0.5), random)
    expected = F.grid_sample(x, F.affine_grid(maps, list(shape), align_corners=False), align_corners=False)
    torch.testing.assert_close(affine(x, maps), expected, rtol=0, atol=1e-5)
    assert (expected - x).abs().max() > 0.1
