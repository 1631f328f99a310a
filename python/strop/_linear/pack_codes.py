"""Packs weights in codes, with a mask or without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop._core.arguments import instance
from strop._core.errors import check_tensors, in_the_name_of, unfit
from strop._linear import plans
from strop._linear.code_tensors import with_zeros
from strop._linear.coded_weight import MULTIPLIED, CodedWeight, check
from strop._linear.masked_codes import MaskedCodes
from strop._linear.pack_masked import Planning, kept_of, planned_weight
from strop._linear.packed_weight import PackedWeight
from strop._linear.planning import codes_are_faster
from strop._quantize.formats import NumberFormat
from strop._quantize.quantize import quantize
from strop._quantize.quantized_tensor import QuantizedTensor

_OP = "strop.pack_weight"
_GROUP = 32  # columns that share a scale below 8 bits, unless block_size says so
Format = str | torch.dtype | NumberFormat


class Numbers(NamedTuple):
    """How a weight is quantized, as of :func:`strop.quantize`."""

    format: Format
    block_size: Sequence[int] | None
    scale: Tensor | None
    zero_point: Tensor | None
    symmetric: bool

    def of(self, weight: Tensor) -> QuantizedTensor:
        """The codes of a weight."""
        with in_the_name_of(_OP):
            known, block_size = NumberFormat.get(self.format), self.block_size
            if block_size is None and known.block is None:
                block_size = (1, -1 if known.bits >= 8 else _GROUP)
            scales = (self.scale, self.zero_point)
            return quantize(
                weight, *scales, format=known, block_size=block_size, symmetric=self.symmetric
            )


def coded_weight(
    weight: Tensor,
    mask: Tensor | None,
    numbers: Numbers,
    activations: str | None,
    planning: Planning,
) -> PackedWeight:
    """The part of :func:`strop.pack_weight` that is of weights with a format."""
    _check_tensor(weight, numbers.format)
    if mask is not None:
        kept_of(weight, mask)  # which checks it
        weight = torch.where(mask, weight.detach(), 0)
    return packed_codes(numbers.of(weight.detach()), mask, activations, planning)


def packed_codes(
    quantized: QuantizedTensor, mask: Tensor | None, activations: str | None, planning: Planning
) -> PackedWeight:
    """The same of what is quantized already."""
    with in_the_name_of(_OP):
        check(quantized, activations or "")
        if mask is None:
            return CodedWeight.of(quantized, activations or "", planning.plan, planning.classes)
    bits, values = kept_of(quantized.dequantize(), mask)
    if activations is not None:
        with in_the_name_of(_OP):
            zeroed = with_zeros(quantized, bits)
            return CodedWeight.of(zeroed, activations, planning.plan, bits=bits)
    if (coded := _by_codes(quantized, bits, values, planning)) is not None:
        return coded
    kept = MaskedCodes.with_codes_alone(bits, quantized, planning.plan, planning.classes)
    if kept is not None:
        return kept
    rows, columns = quantized.shape
    masked = planned_weight(bits, values, (rows, columns), quantized.dtype, planning)
    return MaskedCodes.of(masked, quantized)


def _by_codes(
    quantized: QuantizedTensor, bits: Tensor, values: Tensor, planning: Planning
) -> CodedWeight | None:
    """A weight in codes with zeros between them, where that is faster than values for all the rows."""
    shape, dtype = (quantized.shape[0], quantized.shape[1]), quantized.dtype
    classes, plan, _ = planning
    costs = plans.Costs(shape, values.shape[0], dtype, dtype)
    if bits.is_cuda or plan == "dense" or not codes_are_faster(costs, classes):
        return None
    try:
        zeroed = with_zeros(quantized, bits)
    except ValueError:  # no code stands for 0
        return None
    return CodedWeight.of(zeroed, "", plan, classes, bits)


def _check_tensor(weight: Tensor, format: Format) -> None:
    if (problem := unfit(weight, "a tensor or a QuantizedTensor")) is not None:
        raise TypeError(f"{_OP}: weight {problem}")
    check_tensors(_OP, weight=weight)
    kinds = (str, torch.dtype, NumberFormat)
    instance(_OP, "format", format, kinds, "a string, torch.dtype or NumberFormat")
    if weight.dtype not in MULTIPLIED:
        dtype = str(weight.dtype).removeprefix("torch.")
        raise TypeError(f"{_OP}: weight has dtype {dtype}; float32, bfloat16 or float16 is needed")
    if isinstance(weight, FakeTensor) or weight.is_meta:
        raise ValueError(f"{_OP}: weight has a shape alone; values to pack are needed")
    if weight.dim() != 2:
        raise ValueError(f"{_OP}: weight has shape {list(weight.shape)}; two dimensions are needed")
