"""Cases of the quantize family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import strop
from strop._bench.case import (
    SIDE,
    Bar,
    Call,
    Case,
    at_least_gbps,
    at_most_us,
    faster_than,
    matrix,
    register,
)

_EPS = torch.finfo(torch.float32).tiny
_Contenders = Mapping[str, Callable[[], Call]]


def _scales(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 0.02 + 0.01


def _copy(x: Tensor, out: Tensor) -> Call:
    return lambda: out.copy_(x)


def _against_copy(
    dtype: torch.dtype, scale: tuple[int, ...] | None, options: dict[str, Any]
) -> _Contenders:
    x = matrix(dtype)
    out = torch.empty_like(x)
    scales = None if scale is None else _scales(*scale)
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, scales, out=out, **options),
        "copy_": lambda: _copy(x, out),
    }


def _register_against_copy() -> None:
    per_row: dict[str, Any] = {"block_size": (1, -1)}
    cases: list[tuple[str, tuple[int, ...] | None, dict[str, Any], float, float]] = [
        ("static int8 per tensor", (), {}, 1.3, 0.85),
        ("static int8 per row", (SIDE, 1), per_row, 1.0, 0.7),
        ("static int8 groups of 32", (SIDE, SIDE // 32), {"block_size": (1, 32)}, 1.0, 0.7),
        ("dynamic int4 groups of 32", None, {"format": "int4", "block_size": (1, 32)}, 0.8, 0.5),
        ("dynamic int4 groups of 128", None, {"format": "int4", "block_size": (1, 128)}, 0.8, 0.5),
        ("dynamic int4 per row", None, {"format": "int4", **per_row}, 0.8, 0.5),
        ("dynamic int4 per tensor", None, {"format": "int4"}, 0.55, 0.55),
    ]
    for name, scale, options, wide, narrow in cases:
        for dtype, ratio in ((torch.float32, wide), (torch.bfloat16, narrow)):
            label = str(dtype).removeprefix("torch.")
            register(
                Case(
                    "quantize",
                    f"{name}, {label}, out=",
                    partial(_against_copy, dtype, scale, options),
                    moved_bytes=2 * SIDE * SIDE * dtype.itemsize,
                    bars=(faster_than("copy_", ratio),),
                    most_extra_kib=1024,
                )
            )
    register(
        Case(
            "quantize",
            "static int8 per tensor, float32, in place",
            _in_place,
            moved_bytes=8 * SIDE * SIDE,
            most_extra_kib=1024,
        )
    )


def _in_place() -> _Contenders:
    x = matrix()
    scale = torch.tensor(0.02)
    return {
        "strop": lambda: lambda: strop.fake_quantize_(x, scale),
        "copy_": lambda: _copy(x, torch.empty_like(x)),
    }


def _against_torch(per_channel: bool, with_out: bool) -> _Contenders:
    x = matrix()
    out = torch.empty_like(x) if with_out else None
    scale = _scales(SIDE)
    zeros = torch.zeros(SIDE, dtype=torch.int32)
    if per_channel:
        column = scale[:, None]
        return {
            "strop": lambda: lambda: strop.fake_quantize(x, column, block_size=(1, -1), out=out),
            "torch": lambda: (
                lambda: torch.fake_quantize_per_channel_affine(x, scale, zeros, 0, -128, 127)
            ),
        }
    one = torch.tensor(0.02)
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, one, out=out),
        "torch": lambda: lambda: torch.fake_quantize_per_tensor_affine(x, 0.02, 0, -128, 127),
    }


def _register_against_torch() -> None:
    for per_channel, name in ((False, "per tensor"), (True, "per channel")):
        for with_out, ratio in ((False, 3.0), (True, 18.0)):
            register(
                Case(
                    "quantize",
                    f"torch's fake_quantize {name}, {'out=' if with_out else 'fresh output'}",
                    partial(_against_torch, per_channel, with_out),
                    moved_bytes=8 * SIDE * SIDE,
                    bars=(faster_than("torch", ratio),),
                )
            )


def _torchao_groups(x: Tensor) -> Tensor:
    from torchao.quantization.quant_primitives import (
        MappingType,
        choose_qparams_affine,
        dequantize_affine,
        quantize_affine,
    )

    block, kind, low, high = (1, 32), torch.int8, -8, 7
    scale, zero = choose_qparams_affine(
        x, MappingType.SYMMETRIC, block, kind, low, high, eps=_EPS, scale_dtype=torch.float32
    )
    codes = quantize_affine(x, block, scale, zero, kind, low, high)
    result: Tensor = dequantize_affine(codes, block, scale, zero, kind, low, high)
    return result


def _against_torchao() -> _Contenders:
    x = matrix()
    out = torch.empty_like(x)

    def eager() -> Call:
        _torchao_groups(x[:1])  # raises ImportError where torchao is absent
        return lambda: _torchao_groups(x)

    def compiled() -> Call:
        _torchao_groups(x[:1])
        call = torch.compile(_torchao_groups, fullgraph=True)
        call(x)
        return lambda: call(x)

    return {
        "strop": lambda: lambda: strop.fake_quantize(x, format="int4", block_size=(1, 32), out=out),
        "torchao": eager,
        "torchao compiled": compiled,
    }


def _small(count: int) -> _Contenders:
    x = torch.randn(count)
    out = torch.empty_like(x)
    scale = torch.tensor(0.02)
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, scale, out=out),
        "copy_": lambda: _copy(x, out),
    }


def _tiny() -> _Contenders:
    x = torch.randn(16)
    scale = torch.tensor(0.02)
    return {
        "strop": lambda: lambda: strop.fake_quantize(x, scale),
        "torch": lambda: lambda: torch.fake_quantize_per_tensor_affine(x, 0.02, 0, -128, 127),
    }


def _two_threads() -> _Contenders:
    x = matrix()
    out = torch.empty_like(x)
    scale = torch.tensor(0.02)

    def strop_call() -> Call:
        return lambda: strop.fake_quantize(x, scale, out=out)

    def copy_call() -> Call:
        return _copy(x, out)

    return {
        "strop": strop_call,
        "copy_": copy_call,
        "strop, 2 threads": strop_call,
        "copy_, 2 threads": copy_call,
    }


def _scaling(t: Mapping[str, float]) -> float:
    return t["strop"] / t["strop, 2 threads"] / (t["copy_"] / t["copy_, 2 threads"])


def _register_others() -> None:
    register(
        Case(
            "quantize",
            "torchao's choose_qparams + fake_quantize, int4 groups of 32, out=",
            _against_torchao,
            moved_bytes=8 * SIDE * SIDE,
            bars=(faster_than("torchao", 35.0), faster_than("torchao compiled", 5.0)),
        )
    )
    small = 2 * 256 * 1024
    register(
        Case(
            "quantize",
            "static int8 per tensor, 256 KiB float32, out=",
            partial(_small, 65536),
            moved_bytes=small,
            bars=(at_least_gbps(small, 20.0),),
        )
    )
    register(Case("quantize", "a call on 16 elements", _tiny, bars=(at_most_us(6.0),)))
    register(
        Case(
            "quantize",
            "static int8 per tensor, 2 threads against 1",
            _two_threads,
            moved_bytes=8 * SIDE * SIDE,
            bars=(Bar("x copy_'s scaling", _scaling, 0.9),),
            threads={"strop, 2 threads": 2, "copy_, 2 threads": 2},
        )
    )


_register_against_copy()
_register_against_torch()
_register_others()
