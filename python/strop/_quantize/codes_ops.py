"""The ops that quantize, dequantize and pack, and what torch has to know of them beside their kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from strop._core.gradient import paths_of, refusing, written_to
from strop._core.op import op
from strop._core.vmap import each_sample
from strop._quantize.formats import (
    NumberFormat,
    block_grid,
    chooses_zero_point,
    codes_dtype,
    codes_shape,
    has_tensor_scale,
    scales_are_bytes,
)
from strop._quantize.ops import check_explicit
from strop._quantize.options import ExplicitOptions, Options


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
    x: Tensor, scale: Tensor | None, zero_point: Tensor | None, *options: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    check_explicit("strop.quantize", x, scale, zero_point, *options, **named)
    call = ExplicitOptions(*options, **named)
    of = NumberFormat.get(call.format)
    codes = x.new_empty(codes_shape(of, tuple(x.shape)), dtype=codes_dtype(of))
    return (codes, *_made(x, scale is None, call.format, call.block_size, call.symmetric))


def _fake_choose_scale(
    x: Tensor, format: str, block_size: Sequence[int], symmetric: bool, *bounds: Any, **named: Any
) -> tuple[Tensor, Tensor, Tensor]:
    options = Options(format, list(block_size) or None, "half_even", symmetric, *bounds, **named)
    options.interned("strop.choose_scale")
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


def _fake_written(*given: Any, out: Tensor) -> None:
    return None


# Codes and the scales that are chosen are constants to autograd: no gradient passes.
quantize = op("quantize", fake=_fake_quantize, vmap=each_sample)
choose_scale = op("choose_scale", fake=_fake_choose_scale, vmap=each_sample)
_no_gradient = refusing(
    "strop.dequantize: a tensor requires a gradient, which restoring codes does not have; "
    "fake_quantize has it"
)
dequantize = op("dequantize", fake=_fake_dequantize, vmap=each_sample, autograd=_no_gradient)
dequantize_out = op("dequantize.out", fake=_fake_written, autograd=_no_gradient)
pack_bits = op("pack_bits", fake=_fake_pack_bits, vmap=each_sample)
unpack_bits = op("unpack_bits", fake=_fake_unpack_bits, vmap=each_sample)
unpack_bits_out = op(
    "unpack_bits.out", fake=_fake_written, autograd=written_to("strop.unpack_bits")
)

DEQUANTIZE = paths_of(dequantize)
DEQUANTIZE_OUT = paths_of(dequantize_out)
UNPACK_BITS_OUT = paths_of(unpack_bits_out)
