"""Fakes of the ops that quantize, dequantize and pack: shapes and mutation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop import _C, _library
from strop._formats import (
    NumberFormat,
    block_grid,
    chooses_zero_point,
    codes_dtype,
    codes_shape,
    has_tensor_scale,
    scales_are_bytes,
)
from strop._quantize_ops import check_spelled
from strop._shapes import register_fake, register_vmap

_ops = _library.ops

quantize = _ops.quantize.default
choose_scale = _ops.choose_scale.default
dequantize = _ops.dequantize.default
dequantize_out = _ops.dequantize.out
pack_bits = _ops.pack_bits.default
unpack_bits = _ops.unpack_bits.default
unpack_bits_out = _ops.unpack_bits.out


def _made(
    x: Tensor,
    chosen: bool,
    format: str,
    block_size: Sequence[int],
    symmetric: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Fakes of (scale, zero_point, tensor_scale)."""
    of = NumberFormat.get(format)
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    grid = block_grid(of, tuple(block_size) or None, tuple(x.shape))
    zero = chosen and chooses_zero_point(of, symmetric)
    two_levels = chosen and has_tensor_scale(of)
    return (
        x.new_empty(grid if chosen else (0,), dtype=torch.uint8 if scales_are_bytes(of) else wide),
        x.new_empty(grid if zero else (0,), dtype=torch.int32),
        x.new_empty(() if two_levels else (0,), dtype=wide),
    )


def _fake_quantize(
    x: Tensor,
    scale: Tensor | None,
    zero_point: Tensor | None,
    format: str,
    block_size: Sequence[int],
    rounding: str,
    symmetric: bool,
    *rest: Any,
    **named: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_spelled(
        "strop.quantize",
        x,
        scale,
        zero_point,
        format,
        block_size,
        rounding,
        symmetric,
        *rest,
        **named,
    )
    of = NumberFormat.get(format)
    codes = x.new_empty(codes_shape(of, tuple(x.shape)), dtype=codes_dtype(of))
    return (codes, *_made(x, scale is None, format, block_size, symmetric))


def _fake_choose_scale(
    x: Tensor,
    format: str,
    block_size: Sequence[int],
    symmetric: bool,
    quant_min: int | None = None,
    quant_max: int | None = None,
    eps: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    _C.intern_quantize_spec(
        "strop.choose_scale",
        format=format,
        block_size=list(block_size) or None,
        symmetric=symmetric,
        quant_min=quant_min,
        quant_max=quant_max,
        eps=eps,
    )
    return _made(x, True, format, block_size, symmetric)


def _fake_dequantize(
    codes: Tensor,
    scale: Tensor,
    zero_point: Tensor | None,
    tensor_scale: Tensor | None,
    format: str,
    block_size: Sequence[int],
    shape: Sequence[int],
    dtype: torch.dtype,
) -> Tensor:
    return codes.new_empty(shape, dtype=dtype)


def _fake_pack_bits(codes: Tensor, bits: int) -> Tensor:
    return codes.new_empty(
        (*codes.shape[:-1], (codes.shape[-1] * bits + 7) // 8), dtype=torch.uint8
    )


def _fake_unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:
    return packed.new_empty((*packed.shape[:-1], count), dtype=torch.uint8)


def _fake_dequantize_out(*args: Any, out: Tensor) -> None:
    return None


def _fake_unpack_bits_out(*args: Any, out: Tensor) -> None:
    return None


_FAKES: dict[str, Callable[..., Any]] = {
    "quantize": _fake_quantize,
    "choose_scale": _fake_choose_scale,
    "dequantize": _fake_dequantize,
    "pack_bits": _fake_pack_bits,
    "unpack_bits": _fake_unpack_bits,
    "dequantize.out": _fake_dequantize_out,
    "unpack_bits.out": _fake_unpack_bits_out,
}
for _name, _fake in _FAKES.items():
    register_fake(_name, _fake)
for _name in ("quantize", "choose_scale", "dequantize", "pack_bits", "unpack_bits"):
    register_vmap(_name)
