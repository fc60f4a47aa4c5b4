from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from infoae.distributed.batchnorm import synchronise


@pytest.mark.parametrize(("kind", "shape"), [(nn.BatchNorm2d, (8, 3, 5, 5)), (nn.BatchNorm1d, (64, 3))])
def test_synchronised_batch_normalisation_is_the_usual_one(
    kind: type[nn.Module], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """One rank's synchronised normalisation against PyTorch's: values, gradients and running statistics."""
    torch.manual_seed(0)
    plain, synchronised = nn.Sequential(kind(3)), nn.Sequential(kind(3))
    synchronise(synchronised)
    x = (torch.randn(shape) * 0.1 + 10).requires_grad_()  # a mean far from zero costs digits
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        results = []
        for network in (plain, synchronised):
            output = network(x)
            F.mse_loss(output, torch.linspace(0, 1, x.numel()).view_as(x)).backward()
            assert x.grad is not None
            results.append([output, x.grad.clone(), *(p.grad for p in network.parameters()), *network.buffers()])
            x.grad = None
    finally:
        torch.distributed.destroy_process_group()
    for ours, theirs in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
    assert synchronised.state_dict().keys() == plain.state_dict().keys()
