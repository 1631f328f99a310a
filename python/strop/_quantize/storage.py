"""How many bytes a quantized tensor takes, without making one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from strop._quantize.formats import (
    NumberFormat,
    block_grid,
    chooses_zero_point,
    codes_dtype,
    codes_shape,
    has_tensor_scale,
    scales_are_bytes,
)


@dataclass(frozen=True)
class StoredBytes:
    """Of each part of a quantized tensor."""

    codes: int
    scales: int
    zero_points: int = 0
    tensor_scale: int = 0

    @property
    def total(self) -> int:
        """Of all parts."""
        return self.codes + self.scales + self.zero_points + self.tensor_scale


def stored_bytes(
    shape: Sequence[int],
    format: NumberFormat,
    block_size: Sequence[int] | None = None,
    *,
    symmetric: bool = True,
    dtype: torch.dtype = torch.float32,
) -> StoredBytes:
    """How many bytes a tensor would take, quantized: ``strop.quantize(...).nbytes``.

    Codes are packed densely, each row of the last axis to whole bytes. A scale is a float32 (a
    float64 where the tensor is float64), in a recipe one byte; a zero point is an int32, where the
    format is unsigned or the rule is not symmetric.

    Args:
        shape: of the tensor.
        format: of the codes.
        block_size: as :func:`strop.fake_quantize` takes it; a recipe has its own.
        symmetric: whether the zero point is the format's own.
        dtype: of the tensor.

    Raises:
        ValueError: for a format whose codes have no size.

    Example:
        >>> import strop
        >>> stored_bytes((8, 100), strop.NumberFormat.get("int4"), (1, 32))
        StoredBytes(codes=400, scales=128, zero_points=0, tensor_scale=0)
        >>> stored_bytes((8, 100), strop.NumberFormat.get("nvfp4"))
        StoredBytes(codes=400, scales=56, zero_points=0, tensor_scale=4)

    """
    if format.bits == 0:
        raise ValueError(f"strop: codes of format {format.name} have no fixed size")
    shape = tuple(shape)
    codes = math.prod(codes_shape(format, shape)) * codes_dtype(format).itemsize
    blocks = math.prod(block_grid(format, None if block_size is None else tuple(block_size), shape))
    a_float = 8 if dtype == torch.float64 else 4
    if scales_are_bytes(format):
        return StoredBytes(codes, blocks, 0, a_float if has_tensor_scale(format) else 0)
    zero_points = blocks * 4 if chooses_zero_point(format, symmetric) else 0
    return StoredBytes(codes, blocks * a_float, zero_points)
