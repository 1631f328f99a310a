"""Rows of quantized tensors: what an index of the first axis picks."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strop._quantize.parts import Parts

_NAME = "strop.QuantizedTensor"
_SEQUENCES = (list, np.ndarray)


def picked(q: Parts, index: Any) -> Parts:
    """The rows of an index as a quantized tensor, restored to the bits that they have in q.

    Where several rows shared scales each gets its own, but for those that all rows share.
    """
    if len(q.shape) < 2:
        raise TypeError(
            f"{_NAME}: index of a {len(q.shape)}-D tensor, which has no rows; dequantize() first"
        )
    rows, axes = _row_index(q, index)
    codes = q.codes[rows]
    block = q.block_size
    height = 1 if block is None else block[0]
    height = height if height > 0 else max(q.shape[0], 1)
    own = False

    def of_rows(parameter: Tensor | None) -> Tensor | None:
        nonlocal own
        if parameter is None:
            return None
        missing = len(q.shape) - parameter.dim()
        parameter = parameter.reshape((1,) * missing + tuple(parameter.shape))
        if parameter.shape[0] == 1:
            return parameter.reshape((1,) * axes + tuple(parameter.shape[1:]))
        own = True
        return parameter[rows if height == 1 else _blocks_of(rows, q.shape[0], height)]

    scale, zero_point = of_rows(q.scale), of_rows(q.zero_point)
    assert scale is not None
    if block is not None:
        block = ((1 if own else -1),) * axes + block[1:]
    shape = (*codes.shape[:axes], *q.shape[1:])
    return Parts(codes, scale, zero_point, q.tensor_scale, q.format, block, shape, q.dtype)


def _blocks_of(rows: Any, count: int, height: int) -> Any:
    """The block that each of the rows lies in."""
    if isinstance(rows, slice):
        return torch.arange(count)[rows] // height
    if isinstance(rows, Tensor) and rows.dtype == torch.bool:
        return rows.nonzero().view(-1) // height
    return rows % max(count, 1) // height  # (from the end on where it is negative)


def _row_index(q: Parts, index: Any) -> tuple[Any, int]:
    """An index of the first axis, and the axes of what it picks."""
    parts = index if isinstance(index, tuple) else (index,)
    if sum(part is not Ellipsis for part in parts) > len(q.shape):
        raise IndexError(f"{_NAME}: {len(parts)} indices of a {len(q.shape)}-D tensor")
    if not parts or parts[0] is Ellipsis:
        parts = (slice(None), *parts[1:])
    first, *others = parts
    if not all(_is_whole(part) for part in others):
        raise TypeError(
            f"{_NAME}: index of more than rows, which share bytes and scales; dequantize() first"
        )
    if isinstance(first, slice):
        return first, 1
    if isinstance(first, _SEQUENCES):
        first = torch.as_tensor(first) if len(first) else torch.empty(0, dtype=torch.int64)
    if isinstance(first, Tensor):
        return first, _axes(q, first)
    if first is not None and not isinstance(first, bool):
        try:
            return operator.index(first), 0
        except TypeError:
            pass
    raise TypeError(
        f"{_NAME}: index is a {type(first).__name__}; an int, a slice, an int64 or int32 tensor or a "
        "bool mask of rows is needed"
    )


def _axes(q: Parts, index: Tensor) -> int:
    """Of what an index tensor picks."""
    if index.dtype == torch.bool:
        if tuple(index.shape) != q.shape[:1]:
            raise IndexError(
                f"{_NAME}: mask has shape {tuple(index.shape)}; ({q.shape[0]},), a bit a row, is "
                "needed"
            )
        return 1
    if index.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{_NAME}: index has dtype {index.dtype}; int64, int32 or bool is needed")
    return index.dim()


def _is_whole(part: Any) -> bool:
    if part is Ellipsis:
        return True
    return (
        isinstance(part, slice)
        and part.start is None
        and part.stop is None
        and part.step in (None, 1)
    )
