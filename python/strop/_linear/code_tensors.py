"""The tensors of weights in codes: of the whole weight, of what a mask keeps, and as kernels of a CPU read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop import _C
from strop._core.errors import check_tensors, in_the_name_of, translated
from strop._linear import ops, plans
from strop._prune import ops as prune_ops
from strop._quantize.bit_packing import pack_bits, unpack_bits
from strop._quantize.formats import NumberFormat, block_grid, decoded_scales
from strop._quantize.quantize import quantize
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
_KIND = 3  # LayoutKind::kCodes of csrc/linear/layout.h
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


def with_zeros(quantized: QuantizedTensor, bits: Tensor) -> QuantizedTensor:
    """The same with a code that stands for 0 where a mask keeps nothing.

    Raises:
        ValueError: where there is no such code.

    """
    width, columns = NumberFormat.get(quantized.format).bits, quantized.shape[1]
    kept = prune_ops.unpack_mask(bits, columns)
    codes = torch.where(kept, unpack_bits(quantized.codes, width, columns), _zero_codes(quantized))
    fields = {name: getattr(quantized, name) for name in (*SCALES, "format", "block_size")}
    made = QuantizedTensor._trusted(
        codes=pack_bits(codes, width), **fields, shape=quantized.shape, dtype=quantized.dtype
    )
    if bool(made.dequantize()[~kept].count_nonzero()):
        raise ValueError(f"{_NAME}: zero_point leaves no code that is 0, which masked weights need")
    return made


def _zero_codes(quantized: QuantizedTensor) -> Tensor:
    """The codes that 0 becomes, a byte each."""
    format, shape = NumberFormat.get(quantized.format), quantized.shape
    if format.block is not None:  # recipes, whose elements are floats
        return torch.zeros(shape, dtype=torch.uint8, device=quantized.device)
    zeros = torch.zeros(shape, dtype=quantized.dtype, device=quantized.device)
    scales = (quantized.scale, quantized.zero_point)
    made = quantize(zeros, *scales, format=format, block_size=quantized.block_size)
    return unpack_bits(made.codes, format.bits, shape[1])


def check_codes_layout(layout: Tensor, shape: tuple[int, ...], device: torch.device) -> None:
    """Raises where a layout is not one of codes of such a weight."""
    check_tensors(_NAME, layout=layout)
    if layout.device != device:
        raise ValueError(f"{_NAME}: layout is on {layout.device}, codes on {device}")
    if isinstance(layout, FakeTensor) or device.type != "cpu":
        raise ValueError(f"{_NAME}: layout is no tensor with data on a CPU, where kernels read it")
    if layout.dtype != torch.uint8 or layout.dim() != 1:
        raise TypeError(f"{_NAME}: layout is no uint8 tensor of one dimension")
    try:
        _C.check_layout(layout.detach().numpy(), *shape)
    except (TypeError, ValueError) as error:
        text = str(error).partition(": ")[2]
        raise type(error)(f"{_NAME}: layout: {text}") from None
    if layout[:24].view(torch.int64)[2] != _KIND:
        raise ValueError(f"{_NAME}: layout is that of another kind of weight")


def keeps_apart(format: str, activations: str) -> bool:
    """Whether kernels read the codes that a mask keeps, and its bits, rather than all with zeros between them.

    Bytes beside quantized activations gain where they are put into place by one instruction; nibbles are read as
    fast as they are put there, and float activations wait for arithmetic.
    """
    return bool(activations) and NumberFormat.get(format).bits > 4 and _C.isa() in plans.EXPANDING


def codes_layout(
    quantized: QuantizedTensor, activations: str, bits: Tensor | None = None
) -> Tensor | None:
    """What kernels read: a byte a code, and a scale and a zero point for each group of each row.

    Beside the bits of a mask it has the codes of those alone; the others are then the code of 0.
    """
    codes = quantized.codes
    if codes.device.type != "cpu" or isinstance(codes, FakeTensor):
        return None
    format = NumberFormat.get(quantized.format)
    rows, columns = quantized.shape
    grid = block_grid(format, quantized.block_size, quantized.shape)
    scale = decoded_scales(format, quantized.scale)
    if quantized.tensor_scale is not None:
        scale = quantized.tensor_scale * scale
    whole = (1, format.block) if format.block else (-1, -1)
    block_rows, group = quantized.block_size or whole
    block_rows, group = (rows if block_rows < 0 else block_rows), (columns if group < 0 else group)

    def of_groups(numbers: Tensor) -> Tensor:
        each = numbers.float().expand(grid).repeat_interleave(max(block_rows, 1), 0)[:rows]
        return each.reshape(rows, -1) if columns else each.new_ones(rows, 1)

    zero = quantized.zero_point
    try:
        with torch.inference_mode(False), torch.no_grad():
            made: Tensor = ops.codes_layout(
                unpack_bits(codes, format.bits, columns),
                of_groups(scale).contiguous(),
                None if zero is None else of_groups(zero).contiguous(),
                max(group, 1),
                format.name,
                activations,
                bits,
            )
            return made
    except Exception as error:
        raise translated(_NAME, error, {"codes": codes}) from None
