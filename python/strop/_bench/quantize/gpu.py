"""Cases of the quantize family on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import strop
from strop import _C
from strop._bench.case import Call
from strop._bench.gpu import GpuCase, Make
from strop._quantize import ops
from strop._quantize.storage import stored_bytes

SIDE = 8192
_ROWS: dict[str, Any] = {"block_size": (1, -1)}


def _matrix(device: torch.device, dtype: torch.dtype, side: int) -> Tensor:
    return torch.randn(side, side, device=device).to(dtype)


def _scales(device: torch.device, shape: tuple[int, ...]) -> Tensor:
    return torch.rand(shape, device=device) * 0.02 + 0.01


def _forward(
    dtype: torch.dtype,
    grid: tuple[int, ...] | None,
    options: dict[str, Any],
    side: int,
    device: torch.device,
) -> Mapping[str, Make]:
    scale = None if grid is None else _scales(device, grid)

    def ours() -> Call:
        x = _matrix(device, dtype, side)
        out = torch.empty_like(x)
        return lambda: strop.fake_quantize(x, scale, out=out, **options)

    def copy() -> Call:
        x = _matrix(device, dtype, side)
        out = torch.empty_like(x)
        return lambda: out.copy_(x)

    return {"strop": ours, "copy_": copy}


def _against_torch(per_channel: bool, side: int, device: torch.device) -> Mapping[str, Make]:
    scale = _scales(device, (side,))
    zeros = torch.zeros(side, device=device, dtype=torch.int32)
    column, one = scale[:, None], torch.tensor(0.02, device=device)

    def ours() -> Call:
        x = _matrix(device, torch.float32, side)
        if per_channel:
            return lambda: strop.fake_quantize(x, column, **_ROWS)
        return lambda: strop.fake_quantize(x, one)

    def theirs() -> Call:
        x = _matrix(device, torch.float32, side)
        if per_channel:
            return lambda: torch.fake_quantize_per_channel_affine(x, scale, zeros, 0, -128, 127)
        return lambda: torch.fake_quantize_per_tensor_affine(x, 0.02, 0, -128, 127)

    return {"strop": ours, "torch": theirs}


def _with_mask(side: int, device: torch.device) -> Mapping[str, Make]:
    spec = _C.intern_quantize_spec("strop", format="int8")
    one = torch.tensor(0.02, device=device)

    def ours() -> Call:
        x = _matrix(device, torch.float32, side)
        return lambda: ops.packed_with_mask(x, one, None, spec)

    return {"strop": ours}


def _masked(dtype: torch.dtype, side: int, device: torch.device) -> Mapping[str, Make]:
    spec = _C.intern_quantize_spec("strop", format="int8")
    one = torch.tensor(0.02, device=device)

    def ours() -> Call:
        x = _matrix(device, dtype, side)
        out = torch.empty_like(x)
        mask = ops.packed_with_mask(x, one, None, spec)[1]
        return lambda: ops.masked_gradient_out(x, mask, out=out)

    return {"strop": ours}


def _learned(options: dict[str, Any], side: int, device: torch.device) -> Mapping[str, Make]:
    spec = _C.intern_quantize_spec("strop", format="int4", **options)
    grid = (side, 1) if options == _ROWS else (side, side // 32)
    scale = _scales(device, grid)

    def ours() -> Call:
        x, dy = (_matrix(device, torch.float32, side) for _ in range(2))
        return lambda: ops.packed_learned_gradient(dy, x, scale, None, spec)

    return {"strop": ours}


_STORED: dict[str, dict[str, Any]] = {
    "int4 groups of 32": {"format": "int4", "block_size": (1, 32)},
    "mxfp8": {"format": "mxfp8"},
    "nf4 blocks of 64": {"format": "nf4", "block_size": (1, 64)},
}


def _quantize(options: dict[str, Any], side: int, device: torch.device) -> Mapping[str, Make]:
    def ours() -> Call:
        x = _matrix(device, torch.float32, side)
        return lambda: strop.quantize(x, **options)

    return {"strop": ours}


def _dequantize(
    options: dict[str, Any], dtype: torch.dtype, side: int, device: torch.device
) -> Mapping[str, Make]:
    def ours() -> Call:
        q = strop.quantize(_matrix(device, torch.float32, side), **options)
        out = torch.empty(side, side, device=device, dtype=dtype)
        return lambda: strop.dequantize(q, out=out)

    return {"strop": ours}


def _stored_cases(side: int) -> Iterator[GpuCase]:
    for name, options in _STORED.items():
        format = strop.NumberFormat.get(options["format"])
        kept = stored_bytes((side, side), format, options.get("block_size")).total
        yield GpuCase(
            "quantize",
            f"quantize to {name}, float32",
            partial(_quantize, options, side),
            moved_bytes=4 * side * side + kept,
        )
        for dtype in (torch.float32, torch.bfloat16):
            yield GpuCase(
                "quantize",
                f"dequantize from {name}, {str(dtype).removeprefix('torch.')}, out=",
                partial(_dequantize, options, dtype, side),
                moved_bytes=dtype.itemsize * side * side + kept,
            )


def _tiny(device: torch.device) -> Mapping[str, Make]:
    x = torch.randn(16, device=device)
    scale = torch.tensor(0.02, device=device)
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, scale),
        "torch": lambda: lambda: torch.fake_quantize_per_tensor_affine(x, 0.02, 0, -128, 127),
    }


def _forward_cases(side: int) -> Iterator[GpuCase]:
    groups: dict[str, Any] = {"block_size": (1, 32)}
    kinds: list[tuple[str, tuple[int, ...] | None, dict[str, Any]]] = [
        ("static int8 per tensor", (), {}),
        ("static int8 per row", (side, 1), _ROWS),
        ("static int8 groups of 32", (side, side // 32), groups),
        ("static int8 stochastic", (), {"rounding": "stochastic", "seed": 1}),
        ("dynamic int4 groups of 32", None, {"format": "int4", **groups}),
        ("dynamic int4 groups of 128", None, {"format": "int4", "block_size": (1, 128)}),
        ("dynamic int4 groups of 33", None, {"format": "int4", "block_size": (1, 33)}),
        ("dynamic int4 per row", None, {"format": "int4", **_ROWS}),
        ("dynamic int4 per column", None, {"format": "int4", "block_size": (-1, 1)}),
        ("dynamic int4 per tensor", None, {"format": "int4"}),
        ("mxfp8", None, {"format": "mxfp8"}),
        ("mxfp4", None, {"format": "mxfp4"}),
        ("nvfp4", None, {"format": "nvfp4"}),
        ("nf4 blocks of 64", None, {"format": "nf4", "block_size": (1, 64)}),
    ]
    for name, grid, options in kinds:
        for dtype in (torch.float32, torch.bfloat16):
            yield GpuCase(
                "quantize",
                f"{name}, {str(dtype).removeprefix('torch.')}, out=",
                partial(_forward, dtype, grid, options, side),
                moved_bytes=2 * side * side * dtype.itemsize,
            )


def cases(side: int = SIDE) -> Iterator[GpuCase]:
    """Every case, on square matrices."""
    yield from _forward_cases(side)
    elements = side * side
    for per_channel, name in ((False, "per tensor"), (True, "per channel")):
        yield GpuCase(
            "quantize",
            f"torch's fake_quantize {name}, float32",
            partial(_against_torch, per_channel, side),
            moved_bytes=8 * elements,
        )
    bits = elements // 8
    yield GpuCase(
        "quantize",
        "forward that writes the mask, float32",
        partial(_with_mask, side),
        8 * elements + bits,
    )
    for dtype in (torch.float32, torch.bfloat16):
        yield GpuCase(
            "quantize",
            f"backward by mask, {str(dtype).removeprefix('torch.')}",
            partial(_masked, dtype, side),
            moved_bytes=2 * elements * dtype.itemsize + bits,
        )
    for options, name in ((_ROWS, "per row"), ({"block_size": (1, 32)}, "groups of 32")):
        yield GpuCase(
            "quantize",
            f"backward of a learned scale {name}, float32",
            partial(_learned, options, side),
            moved_bytes=12 * elements,
        )
    yield from _stored_cases(side)
    yield GpuCase("quantize", "a call on 16 elements, the calling thread", _tiny, on_host=True)
