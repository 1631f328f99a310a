"""What the kernels of a CPU read of a weight in codes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop import _C
from strop._core.errors import check_tensors, translated
from strop._linear import ops
from strop._quantize.bit_packing import unpack_bits
from strop._quantize.formats import NumberFormat, block_grid, decoded_scales
from strop._quantize.quantized_tensor import QuantizedTensor

_NAME = "strop.PackedWeight"
_KIND = 3  # LayoutKind::kCodes of csrc/linear/layout.h


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


def codes_layout(quantized: QuantizedTensor, activations: str) -> Tensor | None:
    """What kernels read: a byte a code, and a scale and a zero point for each group of each row."""
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
            )
            return made
    except Exception as error:
        raise translated(_NAME, error, {"codes": codes}) from None
