"""Batch normalisation over a micro-batch whose samples lie on several ranks; on the CPU too, unlike PyTorch's."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoae.distributed.collectives import size, sum_over_ranks


class _OverRanks(nn.modules.batchnorm._BatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, ...) normalised over all ranks; in evaluation, or with one rank, as PyTorch does."""
        if not self.training or size() == 1:
            return super().forward(x)
        mean, var, count = _statistics(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        normalised: Tensor = _Normalise.apply(x, weight, bias, mean, var, count, self.eps)
        return normalised


class SyncBatchNorm1d(_OverRanks, nn.BatchNorm1d):
    """BatchNorm1d whose statistics in training are those of all ranks' samples. State and evaluation are the same."""


class SyncBatchNorm2d(_OverRanks, nn.BatchNorm2d):
    """BatchNorm2d whose statistics in training are those of all ranks' samples. State and evaluation are the same."""


_KINDS: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm1d: SyncBatchNorm1d, nn.BatchNorm2d: SyncBatchNorm2d}


def running_statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return the running mean and variance of every batch normalisation of `model` by name, as they are kept."""
    return {
        f"{name}.{kept}": module.get_buffer(kept)
        for name, module in model.named_modules()
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))
        for kept in ("running_mean", "running_var")
    }


def synchronise(model: nn.Module) -> None:
    """Let every batch normalisation of `model` take its statistics over all ranks; parameters and buffers stay."""
    for module in model.modules():
        if type(module) in _KINDS:
            module.__class__ = _KINDS[type(module)]  # the state is the same to the last name, so nothing needs copying


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean (C,), variance (C,) and number of values a channel (), over the ranks' x (B, C, ...)."""
    unused = torch.zeros(2, x.shape[1], device=x.device)  # whose type is that of the result
    mean, var = torch.batch_norm_update_stats(x, unused[0], unused[1], 0.0)  # far faster than var_mean on the CPU
    mean, count = mean.double(), x.numel() // x.shape[1]  # in fp32 the difference of two squares would lose digits
    sums = sum_over_ranks(torch.cat([mean * count, (var + mean.square()) * count, mean.new_full((1,), count)]))
    total = sums[-1]
    mean, square = (sums[:-1] / total).chunk(2)
    return mean.float(), (square - mean.square()).clamp_min_(0).float(), total  # no .item(): nothing waits for a GPU


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, mean and var being functions of every rank's x."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: Tensor, eps: float
    ) -> Tensor:
        context.save_for_backward(x, weight, mean, var, count)
        context.eps = eps
        return F.batch_norm(x, mean, var, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = context.saved_tensors
        # grad_x is of_grad * gradient + of_x * x + offset, channel by channel. Evaluation's backward pass gives the
        # first term, and the sums over the batch that the others need; its forward pass is a fast way to those.
        scale = torch.rsqrt(var + context.eps)
        grad_x, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], x, weight, mean, var, mean, scale, False, context.eps, [True, True, True]
        )
        sums = sum_over_ranks(torch.stack([grad_bias, grad_weight]))
        mean_grad, mean_grad_normalised = sums / count
        of_grad = weight * scale
        of_x = -of_grad * scale * mean_grad_normalised
        offset = -of_grad * mean_grad - of_x * mean
        one_less_eps = torch.full_like(var, 1 - context.eps)  # an eps of 0 is refused by some versions
        grad_x += F.batch_norm(x, torch.zeros_like(mean), one_less_eps, of_x, offset, training=False, eps=context.eps)
        return grad_x, grad_weight, grad_bias, None, None, None, None
