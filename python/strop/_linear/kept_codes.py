"""Codes of the weights that a mask keeps, as they are saved, and of the whole weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor

from strop._core.errors import in_the_name_of
from strop._prune import ops as prune_ops
from strop._quantize.bit_packing import pack_bits, unpack_bits
from strop._quantize.formats import NumberFormat
from strop._quantize.quantize import quantize
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
SCALES = ("scale", "zero_point", "tensor_scale")


def kept_codes(quantized: QuantizedTensor, bits: Tensor) -> Tensor:
    """The codes whose bit is set, row by row, packed densely as one row."""
    columns, width = quantized.shape[1], NumberFormat.get(quantized.format).bits
    codes = unpack_bits(quantized.codes, width, columns)
    return pack_bits(codes[prune_ops.unpack_mask(bits, columns)], width)


def whole_codes(
    bits: Tensor,
    tensors: Mapping[str, Tensor | None],
    shape: tuple[int, int],
    numbers: Mapping[str, Any],
) -> QuantizedTensor:
    """Codes of the whole weight, of those that a mask keeps; where it does not, the code whose bits are 0.

    Args:
        bits: of the mask.
        tensors: codes and scales.
        shape: (N, K).
        numbers: ``format``, ``block_size`` and ``dtype``.

    Raises:
        ValueError: where they do not fit each other.

    """
    with in_the_name_of(_NAME):
        width, codes = NumberFormat.get(numbers["format"]).bits, cast(Tensor, tensors["codes"])
        kept = _checked_mask(bits, shape)
        count = int(kept.count_nonzero())
        if codes.dtype != torch.uint8 or tuple(codes.shape) != (-(-count * width // 8),):
            raise ValueError(
                f"{_NAME}: codes is {codes.dtype} of shape {tuple(codes.shape)}; uint8 of shape "
                f"{(-(-count * width // 8),)} is needed for the {count} bits that are set"
            )
        scales = {name: cast(Any, tensors[name]) for name in SCALES}
        packed = pack_bits(spread(codes, kept, width), width)
        return QuantizedTensor(codes=packed, **scales, shape=shape, **numbers)


def spread(codes: Tensor, kept: Tensor, width: int) -> Tensor:
    """Codes of so many bits, a byte each, where a mask keeps something, row by row; else 0."""
    if codes.shape[0] == 0:
        return torch.zeros_like(kept, dtype=torch.uint8)
    each = unpack_bits(codes, width, codes.shape[0] * 8 // width)
    place = (kept.flatten().cumsum(0) - 1).clamp_(min=0).view(kept.shape)
    return torch.where(kept, each[place], 0)


def _checked_mask(bits: Tensor, shape: tuple[int, int]) -> Tensor:
    rows, columns = shape
    if bits.dtype != torch.uint8 or tuple(bits.shape) != (rows, (columns + 7) // 8):
        raise ValueError(
            f"{_NAME}: bits is {bits.dtype} of shape {tuple(bits.shape)}; uint8 of shape "
            f"{(rows, (columns + 7) // 8)} is needed"
        )
    if columns % 8 and rows and bool((bits[:, -1] >> columns % 8).any()):
        raise ValueError(f"{_NAME}: bits of a row are set beyond its {columns} columns")
    return cast(Tensor, prune_ops.unpack_mask(bits, columns))


def with_zeros(quantized: QuantizedTensor, bits: Tensor) -> QuantizedTensor | None:
    """The same with a code that stands for 0 where a mask keeps nothing; None where there is no such code."""
    width, columns = NumberFormat.get(quantized.format).bits, quantized.shape[1]
    kept = prune_ops.unpack_mask(bits, columns)
    codes = torch.where(kept, unpack_bits(quantized.codes, width, columns), _zero_codes(quantized))
    fields = {name: getattr(quantized, name) for name in (*SCALES, "format", "block_size")}
    made = QuantizedTensor._trusted(
        codes=pack_bits(codes, width), **fields, shape=quantized.shape, dtype=quantized.dtype
    )
    return None if bool(made.dequantize()[~kept].count_nonzero()) else made


def _zero_codes(quantized: QuantizedTensor) -> Tensor:
    """The codes that 0 becomes, a byte each."""
    format, shape = NumberFormat.get(quantized.format), quantized.shape
    if format.block is not None:  # recipes, whose elements are floats
        return torch.zeros(shape, dtype=torch.uint8, device=quantized.device)
    zeros = torch.zeros(shape, dtype=quantized.dtype, device=quantized.device)
    scales = (quantized.scale, quantized.zero_point)
    made = quantize(zeros, *scales, format=format, block_size=quantized.block_size)
    return unpack_bits(made.codes, format.bits, shape[1])
