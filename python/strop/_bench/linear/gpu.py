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
_ROWS = (1, 4, 8, 16)
_SPARSITIES = (0.5, 0.7, 0.8, 0.9, 0.95)
_CODES = (("int4", (1, 32)), ("int8", (1, -1)), ("float8_e4m3fn", (1, -1)))


def _pruned(
    shape: tuple[int, int], sparsity: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    weight = torch.randn(shape, device=device)
    return torch.where(torch.rand(shape, device=device) >= sparsity, weight, 0).to(dtype)


def _linear(
    shape: tuple[int, int],
    sparsity: float,
    rows: int,
    dtype: torch.dtype,
    numbers: tuple[str, tuple[int, int]] | None,
    device: torch.device,
) -> Mapping[str, Make]:
    x = torch.randn(rows, shape[1], device=device).to(dtype)

    def ours() -> Call:
        weight = _pruned(shape, sparsity, dtype, device)
        format, block_size = numbers or (None, None)
        mask = None if numbers is None else weight != 0
        w = strop.pack_weight(
            weight, mask, format=format, block_size=block_size, rows=rows, plan="packed"
        )
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
                contenders = partial(_linear, shape, sparsity, rows, dtype, None)
                yield GpuCase("masked", label, contenders, moved)
        half = elements // 8 + elements // 2 * dtype.itemsize + elements * dtype.itemsize
        dense = partial(_unpacked, shape, 0.5, dtype)
        yield GpuCase("masked", f"to_dense, 50% pruned, {name}", dense, half)
    yield from _of_codes((side, side))


def _of_codes(shape: tuple[int, int]) -> Iterator[GpuCase]:
    """A mask and codes, beside dense bfloat16."""
    elements = shape[0] * shape[1]
    for numbers, sparsity, rows in product(_CODES, (0.5, 0.8), _ROWS):
        bits = strop.NumberFormat.get(numbers[0]).bits
        scales = elements // numbers[1][1] if numbers[1][1] > 0 else shape[0]
        packed = elements // 8 + round((1 - sparsity) * elements) * bits // 8 + 4 * scales
        moved = packed + rows * sum(shape) * 2
        label = f"packed_linear of {rows} rows, {sparsity:.0%} pruned, {numbers[0]}, {shape[0]}x{shape[1]}"
        yield GpuCase(
            "masked", label, partial(_linear, shape, sparsity, rows, torch.bfloat16, numbers), moved
        )
