"""A PixelCNN that is told a category (van den Oord et al. 2016): each pixel by those above it and to its left."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Histories: TypeAlias = tuple[Tensor, ...]

DILATIONS = (1, 2, 4)
"""Of a block and those after it, over and over: three blocks see ten rows up, which takes undilated ones seven."""


class CausalConv2d(nn.Conv2d):
    """A convolution that sees rows above and places to the left, so many apart, and with `centre` the place itself."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel_size: int, centre: bool, dilation: int = 1) -> None:
        reach = kernel_size // 2
        super().__init__(inputs, outputs, kernel_size, padding=reach * dilation, dilation=dilation)
        self.reach = reach * dilation
        """How many places it sees to each side and up."""
        rows_above = [(row, column) for row in range(reach) for column in range(kernel_size)]
        self.seen = [*rows_above, *((reach, column) for column in range(reach + centre))]
        """Row and column of each value of the kernel that is used."""
        mask = torch.zeros(kernel_size, kernel_size)
        for place in self.seen:
            mask[place] = 1
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, `outputs`, H, W) of x (B, `inputs`, H, W)."""
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding, dilation=self.dilation)

    def offsets(self, stride: int) -> list[int]:
        """Return how many places back each seen value lies, in rows of `stride` places."""
        centre, apart = self.kernel_size[0] // 2, self.dilation[0]
        return [apart * ((centre - row) * stride + centre - column) for row, column in self.seen]

    def at(self, seen: Tensor) -> Tensor:
        """Return (B, `outputs`) at one place, of what it sees (number of offsets, B, `inputs`)."""
        weight = self.weight.flatten(2)[:, :, : len(self.seen)]  # they are the first of the kernel
        assert self.bias is not None
        return torch.bmm(seen, weight.permute(2, 1, 0)).sum(0) + self.bias


class Block(nn.Module):
    """A residual block with the category as a bias, the same at every place: (B, N, H, W) -> (B, N, H, W)."""

    def __init__(self, width: int, num_categories: int, dilation: int) -> None:
        super().__init__()
        self.conv = CausalConv2d(width, width, 3, centre=True, dilation=dilation)
        self.category = nn.Linear(num_categories, width, bias=False)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """Return features (B, N, H, W) of features h (B, N, H, W) and categories c (B, K)."""
        inner = self.conv(h.relu()) + self.category(c)[:, :, None, None]
        result: Tensor = h + self.mix(inner.relu())
        return result

    def at(self, h: Tensor, seen: Tensor, bias: Tensor) -> Tensor:
        """Return features (B, N) at one place, of those there, the activations it sees, and the category's bias."""
        inner = self.conv.at(seen) + bias
        return h + F.linear(inner.relu(), self.mix.weight.flatten(1), self.mix.bias)


class PixelCNN(nn.Module):
    """Images (B, C, H, W) of pixels 0 and 1 with categories c (B, K) -> logits (B, C, H, W) of each pixel being 1."""

    def __init__(self, channels: int, image_size: int, width: int, num_blocks: int, num_categories: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.first = CausalConv2d(channels, width, 7, centre=False)
        self.category = nn.Linear(num_categories, width, bias=False)
        self.blocks = nn.ModuleList(
            Block(width, num_categories, DILATIONS[number % len(DILATIONS)]) for number in range(num_blocks)
        )
        self.last = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, channels, 1))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Return logits (B, C, H, W)."""
        h = self.first(x) + self.category(c)[:, :, None, None]
        for block in self.blocks:
            h = block(h, c)
        logits: Tensor = self.last(h)
        return logits

    def draw(self, threshold: Tensor, c: Tensor) -> Tensor:
        """Draw images (B, C, H, W): a pixel is 1 where its probability exceeds `threshold` (B, C, H, W) in [0, 1].

        Pixel by pixel, each layer computed at that pixel alone, from what it has seen. The pixels are gone through row
        by row with empty places between the rows, so that what a pixel sees always lies equally far back.
        """
        causal = [self.first, *(block.conv for block in self._blocks())]
        size, gap = self.image_size, max(conv.reach for conv in causal)
        offsets = [conv.offsets(size + gap) for conv in causal]
        seen = tuple(
            c.new_zeros(max(back), c.shape[0], conv.in_channels) for conv, back in zip(causal, offsets, strict=True)
        )
        places = [torch.tensor([max(back) - each for each in back], device=c.device) for back in offsets]
        biases = [layer(c) for layer in (self.category, *(block.category for block in self._blocks()))]
        inside = F.pad(c.new_ones(size, size), (0, gap)).flatten()
        thresholds = F.pad(threshold.float(), (0, gap), value=2.0).permute(2, 3, 0, 1).flatten(0, 1)
        draw = self._scan if torch.compiler.is_exporting() else self._loop
        pixels = draw(seen, places, biases, thresholds, inside)
        images: Tensor = pixels.unflatten(0, (size, size + gap))[:, :size].permute(2, 3, 0, 1)
        return images

    def _loop(
        self, seen: _Histories, places: list[Tensor], biases: list[Tensor], thresholds: Tensor, inside: Tensor
    ) -> Tensor:
        """Return pixels (places, B, C), each layer's history in one tensor that grows."""
        histories = [torch.cat([each, each.new_zeros(len(inside), *each.shape[1:])]) for each in seen]
        for place in inside.nonzero().flatten().tolist():  # between rows all are 0
            windows = [history[place : place + len(first) + 1] for history, first in zip(histories, seen, strict=True)]

            def add(number: int, value: Tensor, windows: list[Tensor] = windows) -> Tensor:
                windows[number][-1] = value
                return windows[number]

            add(0, self._pixel(windows[0], add, places, biases, thresholds[place]))
        return histories[0][len(seen[0]) :]

    def _scan(
        self, seen: _Histories, places: list[Tensor], biases: list[Tensor], thresholds: Tensor, inside: Tensor
    ) -> Tensor:
        """Return the same by an operator that can be exported, and carries what is still to be seen."""
        from torch._higher_order_ops.scan import scan

        def step(seen: _Histories, place: tuple[Tensor, Tensor]) -> tuple[_Histories, Tensor]:
            border, is_inside = place
            longer = list(seen)

            def add(number: int, value: Tensor) -> Tensor:
                longer[number] = torch.cat([seen[number], (value * is_inside)[None]])
                return longer[number]

            pixel = self._pixel(seen[0], add, places, biases, border)
            add(0, pixel)
            return tuple(history[1:].clone() for history in longer), pixel

        pixels: Tensor = scan(step, seen, (thresholds, inside))[1]
        return pixels

    def _pixel(
        self,
        seen: Tensor,
        add: Callable[[int, Tensor], Tensor],
        places: list[Tensor],
        biases: list[Tensor],
        border: Tensor,
    ) -> Tensor:
        """Return the next pixel (B, C); `add` is given each block's input there and returns all that the block sees."""
        h = self.first.at(seen.index_select(0, places[0])) + biases[0]
        for number, block in enumerate(self._blocks(), 1):
            history = add(number, h.relu())
            h = block.at(h, history.index_select(0, places[number]), biases[number])
        for layer in self.last:
            h = F.linear(h, layer.weight.flatten(1), layer.bias) if isinstance(layer, nn.Conv2d) else h.relu()
        return (torch.sigmoid(h) > border).float()

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]
