"""Cases of the formats that are no integers, and of tensors that are kept as codes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import strop
from strop._bench.case import SIDE, Bar, Call, Case, faster_than, matrix, register
from strop._quantize.storage import stored_bytes

_Contenders = Mapping[str, Callable[[], Call]]
_NF4: dict[str, Any] = {"format": "nf4", "block_size": (1, 64)}
_INT4: dict[str, Any] = {"format": "int4", "block_size": (1, 32)}
_COPIED = 8 * SIDE * SIDE  # bytes that a copy of a float32 matrix moves


def _copy(x: Tensor) -> Callable[[], Call]:
    out = torch.empty_like(x)
    return lambda: lambda: out.copy_(x)


def _of_copy(moved: float, limit: float) -> Bar:
    """The share of copy_'s rate at which bytes are moved."""
    return Bar("of copy_'s rate", lambda t: moved / t["strop"] * t["copy_"] / _COPIED, limit)


def _fake(options: dict[str, Any], dtype: torch.dtype) -> _Contenders:
    x = matrix(dtype)
    out = torch.empty_like(x)
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, out=out, **options),
        "copy_": _copy(x),
    }


def _stochastic() -> _Contenders:
    x = matrix()
    out = torch.empty_like(x)
    scale = torch.tensor(0.02)
    options: dict[str, Any] = {"rounding": "stochastic", "seed": 1}
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, scale, out=out, **options),
        "copy_": _copy(x),
    }


def _against_torchao(format: str, elements: torch.dtype) -> _Contenders:
    x = matrix()
    out = torch.empty_like(x)

    def theirs() -> Call:
        from torchao.prototype.mx_formats.mx_tensor import MXTensor

        return lambda: MXTensor.to_mx(x, elements, 32).dequantize(torch.float32)

    return {
        "strop": lambda: lambda: strop.fake_quantize(x, format=format, out=out),
        "torchao": theirs,
    }


def _quantize(options: dict[str, Any]) -> _Contenders:
    x = matrix()
    return {"strop": lambda: lambda: strop.quantize(x, **options), "copy_": _copy(x)}


def _dequantize(options: dict[str, Any], dtype: torch.dtype) -> _Contenders:
    x = matrix()
    q = strop.quantize(x, **options)
    out = torch.empty(SIDE, SIDE, dtype=dtype)
    return {"strop": lambda: lambda: strop.dequantize(q, out=out), "copy_": _copy(x)}


def _unpack(bits: int) -> _Contenders:
    codes = torch.randint(0, 1 << bits, (SIDE, SIDE), dtype=torch.uint8)
    packed, out = strop.pack_bits(codes, bits), torch.empty_like(codes)
    return {
        "strop": lambda: lambda: strop.unpack_bits(packed, bits, SIDE, out=out),
        "copy_": _copy(matrix()),
    }


def _quantize_4bit() -> _Contenders:
    x = matrix()

    def theirs() -> Call:
        from bitsandbytes.functional import quantize_4bit

        return lambda: quantize_4bit(x, blocksize=64, quant_type="nf4")

    return {"strop": lambda: lambda: strop.quantize(x, **_NF4), "bitsandbytes": theirs}


def _dequantize_4bit() -> _Contenders:
    x = matrix()[:1024, :1024].contiguous()
    q = strop.quantize(x, **_NF4)
    out = torch.empty_like(x)

    def theirs() -> Call:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        packed, state = quantize_4bit(x, blocksize=64, quant_type="nf4")
        return lambda: dequantize_4bit(packed, state)

    return {"strop": lambda: lambda: strop.dequantize(q, out=out), "bitsandbytes": theirs}


def _case(name: str, contenders: Callable[[], _Contenders], moved: float, *bars: Bar) -> None:
    register(Case("quantize", name, contenders, moved_bytes=int(moved), bars=bars))


def _register_formats() -> None:
    formats: list[tuple[str, dict[str, Any], float]] = [
        *((name, {"format": name}, 0.6) for name in ("mxfp8", "mxfp6_e3m2", "mxfp4")),
        ("nvfp4", {"format": "nvfp4"}, 0.4),
        ("nf4 blocks of 64", _NF4, 0.6),
    ]
    for name, options, limit in formats:
        for dtype in (torch.float32, torch.bfloat16):
            label = f"{name}, {str(dtype).removeprefix('torch.')}, out="
            bars = (faster_than("copy_", limit),) if dtype == torch.float32 else ()
            moved = 2 * SIDE * SIDE * dtype.itemsize
            _case(label, partial(_fake, options, dtype), moved, *bars)
    _case("static int8 stochastic, float32, out=", _stochastic, _COPIED, faster_than("copy_", 0.35))
    for name, elements, ratio in (
        ("mxfp8", torch.float8_e4m3fn, 25.0),
        ("mxfp4", torch.float4_e2m1fn_x2, 70.0),
    ):
        label = f"torchao's {name} and back, out="
        contenders = partial(_against_torchao, name, elements)
        _case(label, contenders, _COPIED, faster_than("torchao", ratio))


def _register_codes() -> None:
    elements = SIDE * SIDE
    kept = stored_bytes((SIDE, SIDE), strop.NumberFormat.get("int4"), (1, 32)).total
    moved = 4 * elements + kept
    name = "int4 groups of 32"
    _case(f"quantize to {name}, float32", partial(_quantize, _INT4), moved, _of_copy(moved, 0.75))
    for dtype in (torch.float32, torch.bfloat16):
        label = f"dequantize from {name}, {str(dtype).removeprefix('torch.')}, out="
        moved = dtype.itemsize * elements + kept
        _case(label, partial(_dequantize, _INT4, dtype), moved, _of_copy(moved, 0.75))
    moved = elements + elements // 2
    _case("unpack_bits of 4, out=", partial(_unpack, 4), moved, _of_copy(moved, 0.7))
    moved = 4 * elements + stored_bytes((SIDE, SIDE), strop.NumberFormat.get("nf4"), (1, 64)).total
    peer = "bitsandbytes"
    _case(f"{peer}' quantize_4bit, nf4", _quantize_4bit, moved, faster_than(peer, 40.0))
    label = f"{peer}' dequantize_4bit, nf4, 1024x1024, out="
    _case(label, _dequantize_4bit, 4 * 1024 * 1024 * 1.15, faster_than(peer, 4.0))


_register_formats()
_register_codes()
