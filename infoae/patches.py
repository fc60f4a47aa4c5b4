"""Strided convolutions of small images: torch's, with a weight gradient that CPUs compute fast.

That gradient is a matrix product of the image's patches with the output's gradient. oneDNN reaches a few hundredths of
the machine's peak at it where the output is a few pixels wide, and the product a quarter. Only training on a CPU takes
that way, and only up to `LARGEST`: of larger outputs the patches do not fit into a cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

KERNEL, STRIDE, PADDING = 4, 2, 1
LARGEST = 4
"""Pixels of a side of the smaller image, up to which patches pay."""


class PatchConv2d(nn.Conv2d):
    """Features (B, `inputs`, H, W) -> (B, `outputs`, H // 2, W // 2)."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, `outputs`, H // 2, W // 2) of features x (B, `inputs`, H, W)."""
        if not (self.training and x.device.type == "cpu" and max(x.shape[2:]) // STRIDE <= LARGEST):
            return super().forward(x)
        y: Tensor = _Convolve.apply(x, self.weight.to(x.dtype), None)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]


class PatchConvTranspose2d(nn.ConvTranspose2d):
    """Features (B, `inputs`, H, W) -> (B, `outputs`, 2 H + `odd`, 2 W + `odd`), `odd` 0 or 1; without bias."""

    def __init__(self, inputs: int, outputs: int, odd: int) -> None:
        super().__init__(inputs, outputs, KERNEL, STRIDE, PADDING, output_padding=odd, bias=False)
        self.odd = odd

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return features (B, `outputs`, 2 H + `odd`, 2 W + `odd`) of features x (B, `inputs`, H, W)."""
        if output_size is not None or not (self.training and x.device.type == "cpu" and max(x.shape[2:]) <= LARGEST):
            return super().forward(x, output_size)
        y: Tensor = _Convolve.apply(x, self.weight.to(x.dtype), self.odd)
        return y


class _Convolve(torch.autograd.Function):
    """A convolution, or with `odd` a transposed one, of x (B, C, H, W), and its weight."""

    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, odd: int | None) -> Tensor:
        context.save_for_backward(x, weight)
        context.odd = odd
        if odd is None:
            return F.conv2d(x, weight, None, STRIDE, PADDING)
        return F.conv_transpose2d(x, weight, None, STRIDE, PADDING, odd)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = context.saved_tensors
        gradient, odd = gradients[0].to(x.dtype), context.odd  # autocast rounds the output alone
        of_x = of_weight = None
        # A side's backward pass is asked for some inputs alone, which needs_input_grad does not tell.
        wanted = [node is not None and torch._C._will_engine_execute_node(node) for node, _ in context.next_functions]
        if wanted[0]:
            transposed, odds = odd is not None, [odd or 0] * 2
            arguments = ([STRIDE] * 2, [PADDING] * 2, [1, 1], transposed, odds, 1, [True, False, False])
            of_x = torch.ops.aten.convolution_backward(gradient, x, weight, None, *arguments)[0]
        if wanted[1]:
            large, small = (x, gradient) if odd is None else (gradient, x)
            of_weight = _weight_gradient(large, small).to(weight)
        return of_x, of_weight, None


def _weight_gradient(large: Tensor, small: Tensor) -> Tensor:
    """Return the gradient (O, C, 4, 4) of the kernel between images (B, C, H, W) and (B, O, H // 2, W // 2)."""
    count, outputs, height, width = small.shape
    inputs = large.shape[1]
    below, right = (STRIDE * of + PADDING - had for of, had in ((height, large.shape[2]), (width, large.shape[3])))
    padded = F.pad(large.permute(0, 2, 3, 1), (0, 0, PADDING, right, PADDING, below)).contiguous()
    image, row, column, _ = padded.stride()
    shape = (count, height, width, KERNEL, KERNEL * inputs)  # a row of a patch lies in one piece
    patches = padded.as_strided(shape, (image, STRIDE * row, STRIDE * column, row, 1)).reshape(-1, KERNEL**2 * inputs)
    product = small.permute(0, 2, 3, 1).reshape(-1, outputs).mT @ patches
    return product.view(outputs, KERNEL, KERNEL, inputs).permute(0, 3, 1, 2)
