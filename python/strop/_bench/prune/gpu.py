"""Cases of pruning on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import strop
from strop._bench.case import Call
from strop._bench.gpu import GpuCase, Make

SIDE = 8192


def _matrix(device: torch.device, dtype: torch.dtype, side: int) -> Tensor:
    return torch.randn(side, side, device=device).to(dtype)


def _mask(
    dtype: torch.dtype, options: dict[str, Any], side: int, device: torch.device
) -> Mapping[str, Make]:
    def ours() -> Call:
        x = _matrix(device, dtype, side)
        return lambda: strop.prune_mask(x, **options)

    return {"strop": ours}


def _against_kthvalue(dtype: torch.dtype, side: int, device: torch.device) -> Mapping[str, Make]:
    pruned = round(0.8 * side * side)

    def theirs() -> Call:
        x = _matrix(device, dtype, side)
        return lambda: x.abs() > x.abs().flatten().kthvalue(pruned).values

    return {**_mask(dtype, {"sparsity": 0.8}, side, device), "kthvalue": theirs}


def _soft_threshold(dtype: torch.dtype, side: int, device: torch.device) -> Mapping[str, Make]:
    def ours() -> Call:
        x = _matrix(device, dtype, side)
        out = torch.empty_like(x)
        return lambda: strop.soft_threshold(x, 0.5, out=out)

    def theirs() -> Call:
        x = _matrix(device, dtype, side)
        return lambda: torch.nn.functional.softshrink(x, 0.5)

    return {"strop": ours, "softshrink": theirs}


def _bits(unpack: bool, side: int, device: torch.device) -> Mapping[str, Make]:
    def ours() -> Call:
        mask = _matrix(device, torch.float32, side) > 0
        if not unpack:
            return lambda: strop.pack_mask(mask)
        bits = strop.pack_mask(mask)
        return lambda: strop.unpack_mask(bits, side)

    return {"strop": ours}


def cases(side: int = SIDE) -> Iterator[GpuCase]:
    """Every case, on square matrices."""
    elements = side * side
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        moved = elements * (dtype.itemsize + 1)
        contenders = partial(_against_kthvalue, dtype, side)
        yield GpuCase("masked", f"prune_mask by sparsity, {name}", contenders, moved)
        for label, options in (
            ("by sparsity per row", {"sparsity": 0.8, "per": "row"}),
            ("by threshold", {"threshold": 0.5}),
            ("2:4", {"pattern": "2:4"}),
            ("blocks of 16 x 16", {"sparsity": 0.8, "pattern": (16, 16)}),
        ):
            masks = partial(_mask, dtype, options, side)
            yield GpuCase("masked", f"prune_mask {label}, {name}", masks, moved)
        soft = partial(_soft_threshold, dtype, side)
        yield GpuCase("masked", f"soft_threshold, {name}", soft, 2 * elements * dtype.itemsize)
    for unpack, name in ((False, "pack_mask"), (True, "unpack_mask")):
        moved = elements + elements // 8
        yield GpuCase("masked", name, partial(_bits, unpack, side), moved_bytes=moved)
