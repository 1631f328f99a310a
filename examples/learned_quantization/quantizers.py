"""Two torch parametrizations that quantize a weight, one scale for each output channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

import strop


def _per_channel(weight: Tensor) -> tuple[int, ...]:
    return (1, *[-1] * (weight.dim() - 1))


class StraightThrough(nn.Module):
    """The scale follows the largest weight; the gradient passes unchanged."""

    def __init__(self, format: str) -> None:
        super().__init__()
        self.format = format

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its grid."""
        return strop.fake_quantize(weight, format=self.format, block_size=_per_channel(weight))


class LearnedStep(nn.Module):
    """The scale is a parameter that the loss trains (LSQ: Esser et al., 2020)."""

    def __init__(self, format: str, weight: Tensor) -> None:
        super().__init__()
        self.format = format
        largest = strop.NumberFormat.get(format).max
        size = weight.detach().abs().flatten(1).mean(1)
        self.scale = nn.Parameter(
            (2 * size / math.sqrt(largest)).reshape(-1, *[1] * (weight.dim() - 1))
        )
        # LSQ's factor balances the gradient of a scale with those of the weights that share it.
        self.grad_factor = 1 / math.sqrt(weight[0].numel() * largest)

    def forward(self, weight: Tensor) -> Tensor:
        """The weight on its grid."""
        return strop.fake_quantize(
            weight,
            self.scale,
            format=self.format,
            block_size=_per_channel(weight),
            grad_factor=self.grad_factor,
        )


def quantize_weights(model: nn.Module, method: str, format: str) -> None:
    """Registers a parametrization, ``straight-through`` or ``learned``, on every layer's weight."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight: torch.Tensor = layer.weight
            quantizer = (
                LearnedStep(format, weight) if method == "learned" else StraightThrough(format)
            )
            parametrize.register_parametrization(layer, "weight", quantizer)
