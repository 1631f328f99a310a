"""Cases of pruned layers on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import torch
from torch import Tensor

import strop
from strop._bench.case import Call
from strop._bench.gpu import GpuCase, Make

SIDE = 4096
_ROWS = (1, 4, 8)
_SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)


def _pruned(
    shape: tuple[int, int], sparsity: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    weight = torch.randn(shape, device=device)
    return torch.where(torch.rand(shape, device=device) >= sparsity, weight, 0).to(dtype)


def _linear(
    shape: tuple[int, int], sparsity: float, rows: int, dtype: torch.dtype, device: torch.device
) -> Mapping[str, Make]:
    x = torch.randn(rows, shape[1], device=device).to(dtype)

    def ours() -> Call:
        w = strop.pack_weight(_pruned(shape, sparsity, dtype, device), rows=rows, plan="packed")
        return lambda: strop.packed_linear(x, w)

    def dense() -> Call:
        weight = _pruned(shape, sparsity, dtype, device)
        return lambda: torch.nn.functional.linear(x, weight)

    return {"strop": ours, "torch dense": dense}


def _unpacked(
    shape: tuple[int, int], sparsity: float, dtype: torch.dtype, device: torch.device
) -> Mapping[str, Make]:
    def ours() -> Call:
        w = strop.pack_weight(_pruned(shape, sparsity, dtype, device), rows=1, plan="packed")
        return w.to_dense

    return {"strop": ours}


def cases(side: int = SIDE) -> Iterator[GpuCase]:
    """Every case, on a square weight and on one of three and a half times as many rows."""
    for shape, dtype in product(
        ((side, side), (side * 7 // 2, side)), (torch.float32, torch.bfloat16)
    ):
        name = f"{shape[0]}x{shape[1]}, {str(dtype).removeprefix('torch.')}"
        elements = shape[0] * shape[1]
        for sparsity in _SPARSITIES:
            packed = elements // 8 + round((1 - sparsity) * elements) * dtype.itemsize
            for rows in _ROWS:
                moved = packed + rows * sum(shape) * dtype.itemsize
                label = f"packed_linear of {rows} rows, {sparsity:.0%} pruned, {name}"
                contenders = partial(_linear, shape, sparsity, rows, dtype)
                yield GpuCase("masked", label, contenders, moved)
        half = elements // 8 + elements // 2 * dtype.itemsize + elements * dtype.itemsize
        dense = partial(_unpacked, shape, 0.5, dtype)
        yield GpuCase("masked", f"to_dense, 50% pruned, {name}", dense, half)
