"""One way to quantize a weight matrix, and the same arithmetic in strop, eager torch and torch's op.

The eager versions are what one would write without strop. The first makes a tensor of every step;
the second writes into a buffer that is kept, as strop does here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import strop

TINY = torch.finfo(torch.float32).tiny

Pass = Callable[[], list[Tensor]]


@dataclass(frozen=True)
class Setting:
    """A format, its blocks, and whether the range is symmetric about zero.

    Attributes:
        bits: of a code.
        block: what shares a scale: the whole tensor, a row, or a group of so many columns.
        symmetric: without a zero point.

    """

    bits: int
    block: Literal["tensor", "row"] | int
    symmetric: bool = True

    @property
    def format(self) -> str:
        """The name of the format."""
        return f"int{self.bits}"

    @property
    def low(self) -> int:
        """The smallest code."""
        return -(2 ** (self.bits - 1))

    @property
    def high(self) -> int:
        """The largest code."""
        return 2 ** (self.bits - 1) - 1

    @property
    def block_size(self) -> tuple[int, int] | None:
        """The blocks as strop takes them."""
        if self.block == "tensor":
            return None
        return (1, -1 if self.block == "row" else self.block)

    def block_count(self, weight: Tensor) -> int:
        """The number of blocks, short last ones included."""
        if self.block == "tensor":
            return 1
        rows, columns = weight.shape
        return rows if self.block == "row" else rows * -(-columns // self.block)

    def stored_bytes(self, weight: Tensor) -> int:
        """Codes packed densely, a float32 scale per block, and a byte per zero point."""
        codes = -(-weight.numel() * self.bits // 8)
        return codes + self.block_count(weight) * (4 if self.symmetric else 5)


def blocks_of(weight: Tensor, setting: Setting) -> Tensor:
    """A view of the weight with one block a row."""
    return weight.view(setting.block_count(weight), -1)


def eager_parameters(blocks: Tensor, setting: Setting) -> tuple[Tensor, Tensor | None]:
    """The scale and zero point of each block, in plain torch ops."""
    low, high = setting.low, setting.high
    if setting.symmetric:
        scale = blocks.abs().amax(1, keepdim=True) / ((high - low) / 2)
        return scale.clamp_min(TINY), None
    smallest = blocks.amin(1, keepdim=True).clamp_max(0)
    largest = blocks.amax(1, keepdim=True).clamp_min(0)
    scale = ((largest - smallest) / (high - low)).clamp_min(TINY)
    return scale, (low - torch.round(smallest / scale)).clamp(low, high)


def eager(weight: Tensor, setting: Setting) -> Tensor:
    """Quantizes and dequantizes in plain torch ops."""
    blocks = blocks_of(weight, setting)
    scale, zero = eager_parameters(blocks, setting)
    codes = torch.round(blocks * (1 / scale))
    if zero is None:
        return (codes.clamp(setting.low, setting.high) * scale).view_as(weight)
    return (((codes + zero).clamp(setting.low, setting.high) - zero) * scale).view_as(weight)


def eager_into(weight: Tensor, setting: Setting, out: Tensor) -> Tensor:
    """As :func:`eager`, with every step but the range written into ``out``."""
    blocks = blocks_of(weight, setting)
    scale, zero = eager_parameters(blocks, setting)
    codes = torch.mul(blocks, 1 / scale, out=blocks_of(out, setting)).round_()
    if zero is None:
        codes.clamp_(setting.low, setting.high).mul_(scale)
    else:
        codes.add_(zero).clamp_(setting.low, setting.high).sub_(zero).mul_(scale)
    return out


def strop_pass(weights: list[Tensor], setting: Setting) -> Pass:
    """All weights with strop, into buffers that are kept."""
    buffers = [torch.empty_like(weight) for weight in weights]
    options = {
        "format": setting.format,
        "block_size": setting.block_size,
        "symmetric": setting.symmetric,
    }
    return lambda: [
        strop.fake_quantize(weight, **options, out=out)
        for weight, out in zip(weights, buffers, strict=True)
    ]


def eager_pass(weights: list[Tensor], setting: Setting) -> Pass:
    """All weights with :func:`eager`."""
    return lambda: [eager(weight, setting) for weight in weights]


def eager_into_pass(weights: list[Tensor], setting: Setting) -> Pass:
    """All weights with :func:`eager_into`, into buffers that are kept."""
    buffers = [torch.empty_like(weight) for weight in weights]
    return lambda: [
        eager_into(weight, setting, out) for weight, out in zip(weights, buffers, strict=True)
    ]


def torch_pass(weights: list[Tensor], setting: Setting) -> Pass | None:
    """All weights with torch's own op, given its scales; None for groups, which it does not know."""
    if setting.block not in ("tensor", "row"):
        return None
    given = [eager_parameters(blocks_of(weight, setting), setting) for weight in weights]
    scales = [scale.flatten() for scale, _ in given]
    zeros = [torch.zeros_like(scale) if zero is None else zero for scale, zero in given]
    points = [zero.flatten().to(torch.int32) for zero in zeros]
    range_ = (setting.low, setting.high)
    together = list(zip(weights, scales, points, strict=True))
    if setting.block == "row":
        return lambda: [
            torch.fake_quantize_per_channel_affine(w, s, z, 0, *range_) for w, s, z in together
        ]
    return lambda: [torch.fake_quantize_per_tensor_affine(w, s, z, *range_) for w, s, z in together]
