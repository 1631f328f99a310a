"""Cases of pruning: masks, shrunk weights, masks of a bit an element."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import strop
from strop._bench.case import SIDE, Bar, Call, Case, faster_than, matrix, register

_Contenders = Mapping[str, Callable[[], Call]]
_ELEMENTS = SIDE * SIDE
_COPIED = 8 * _ELEMENTS  # bytes that a copy of a float32 matrix moves


def _copy(x: Tensor) -> Callable[[], Call]:
    out = torch.empty_like(x)
    return lambda: lambda: out.copy_(x)


def _of_copy(moved: int, limit: float) -> Bar:
    """The share of copy_'s rate at which bytes are moved."""
    return Bar("of copy_'s rate", lambda t: moved / t["strop"] * t["copy_"] / _COPIED, limit)


def _by_kthvalue(weight: Tensor, pruned: int) -> Tensor:
    return weight.abs() > weight.abs().flatten().kthvalue(pruned).values


def _sparsity(dtype: torch.dtype) -> _Contenders:
    x = matrix(dtype)
    return {
        "strop": lambda: lambda: strop.prune_mask(x, sparsity=0.8),
        "kthvalue": lambda: lambda: _by_kthvalue(x, round(0.8 * _ELEMENTS)),
    }


def _rows() -> _Contenders:
    x = matrix()

    def theirs() -> Tensor:
        least = x.abs().kthvalue(round(0.8 * SIDE), dim=1, keepdim=True).values
        return x.abs() > least

    return {
        "strop": lambda: lambda: strop.prune_mask(x, sparsity=0.8, per="row"),
        "kthvalue": lambda: theirs,
    }


def _threshold() -> _Contenders:
    x = matrix()
    return {
        "strop": lambda: lambda: strop.prune_mask(x, threshold=0.5),
        "torch": lambda: lambda: x.abs() > 0.5,
    }


def _two_of_four() -> _Contenders:
    x = matrix()

    def theirs() -> Tensor:
        groups = x.view(-1, 4).abs()
        best = groups.topk(2, dim=1, sorted=False).indices
        return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True).view_as(x)

    return {
        "strop": lambda: lambda: strop.prune_mask(x, pattern="2:4"),
        "torch": lambda: theirs,
        "copy_": _copy(x),
    }


def _model() -> _Contenders:
    layers = {f"layers.{i}.weight": w for i, w in enumerate(matrix().split(SIDE // 16))}

    def theirs() -> Call:
        from torch.nn.utils import prune

        def call() -> None:
            modules = [torch.nn.Linear(1, 1) for _ in layers]
            for module, weight in zip(modules, layers.values(), strict=True):
                module.weight = torch.nn.Parameter(weight)
            pairs = [(module, "weight") for module in modules]
            prune.global_unstructured(pairs, prune.L1Unstructured, amount=0.8)

        return call

    return {
        "strop": lambda: lambda: strop.prune_masks(layers, sparsity=0.8),
        "torch.nn.utils.prune": theirs,
    }


def _soft_threshold(dtype: torch.dtype) -> _Contenders:
    x = matrix(dtype)
    out = torch.empty_like(x)
    return {
        "strop": lambda: lambda: strop.soft_threshold(x, 0.5, out=out),
        "softshrink": lambda: lambda: torch.ops.aten.softshrink.out(x, 0.5, out=out),
        "copy_": lambda: lambda: out.copy_(x),
    }


def _soft_threshold_made() -> _Contenders:
    x = matrix()
    return {
        "strop": lambda: lambda: strop.soft_threshold(x, 0.5),
        "softshrink": lambda: lambda: functional.softshrink(x, 0.5),
    }


def _pack() -> _Contenders:
    mask = matrix() > 0.8
    array = mask.numpy()
    return {
        "strop": lambda: lambda: strop.pack_mask(mask),
        "numpy": lambda: lambda: np.packbits(array, axis=-1, bitorder="little"),
        "copy_": _copy(matrix()),
    }


def _unpack() -> _Contenders:
    bits = strop.pack_mask(matrix() > 0.8)
    array = bits.numpy()
    return {
        "strop": lambda: lambda: strop.unpack_mask(bits, SIDE),
        "numpy": lambda: lambda: np.unpackbits(array, axis=-1, bitorder="little"),
    }


def _case(name: str, contenders: Callable[[], _Contenders], moved: int, *bars: Bar) -> None:
    register(Case("masked", name, contenders, moved_bytes=moved, bars=bars))


def _register_masks() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        label = f"prune_mask by sparsity, {str(dtype).removeprefix('torch.')}"
        moved = _ELEMENTS * (dtype.itemsize + 1)
        _case(label, partial(_sparsity, dtype), moved, faster_than("kthvalue", 5.0))
    moved = _ELEMENTS * 5
    _case("prune_mask by sparsity per row, float32", _rows, moved, faster_than("kthvalue", 3.0))
    _case("prune_mask by threshold, float32", _threshold, moved, faster_than("torch", 3.0))
    bars = (faster_than("torch", 10.0), _of_copy(moved, 0.4))
    _case("prune_mask 2:4, float32", _two_of_four, moved, *bars)
    _case("prune_masks of 16 layers", _model, 0, faster_than("torch.nn.utils.prune", 20.0))


def _register_elements() -> None:
    for dtype, limit in ((torch.float32, 0.9), (torch.bfloat16, 0.5)):
        label = f"soft_threshold, {str(dtype).removeprefix('torch.')}, out="
        bars = (faster_than("copy_", limit), faster_than("softshrink", 1.0))
        moved = 2 * dtype.itemsize * _ELEMENTS
        _case(label, partial(_soft_threshold, dtype), moved, *bars)
    _case("soft_threshold, float32", _soft_threshold_made, _COPIED, faster_than("softshrink", 0.9))
    moved = _ELEMENTS + _ELEMENTS // 8
    _case("pack_mask", _pack, moved, faster_than("numpy", 0.8), _of_copy(moved, 0.5))
    _case("unpack_mask", _unpack, moved, faster_than("numpy", 0.8))


_register_masks()
_register_elements()
