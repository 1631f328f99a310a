"""Fakes of the ops on pruned weights: shapes and mutation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop import _library
from strop._failed_allocation import raises_memory_errors

_ops = _library.ops

sparse_linear = _ops.sparse_linear.default
by_layout = _ops._sparse_linear.default
by_layout_out = _ops._sparse_linear.out
transposed = _ops._sparse_transposed.default
by_bits = _ops._sparse_linear_bits.default
by_bits_out = _ops._sparse_linear_bits.out
unpack_by_starts = raises_memory_errors(_ops._sparse_unpack.default)
pack_sparse = _ops.pack_sparse.default
unpack_sparse = raises_memory_errors(_ops.unpack_sparse.default)
layout = raises_memory_errors(_ops._sparse_layout.default)


def _fake_sparse_linear(input: Tensor, bits: Tensor, *rest: Any) -> Tensor:
    return input.new_empty((*input.shape[:-1], bits.shape[0]))


def _fake_by_layout(input: Tensor, layout: Tensor, outputs: int, *rest: Any) -> Tensor:
    return input.new_empty((*input.shape[:-1], outputs))


def _fake_out(input: Tensor, *rest: Any, out: Tensor) -> None:
    return None


def _fake_unpack_by_starts(bits: Tensor, values: Tensor, starts: Tensor, columns: int) -> Tensor:
    return values.new_empty((bits.shape[0], columns))


def _fake_transposed(gradient: Tensor, quads: Tensor, pairs: Tensor, columns: int) -> Tensor:
    return gradient.new_empty((*gradient.shape[:-1], columns))


def _fake_pack_sparse(weight: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    count = torch.library.get_ctx().new_dynamic_size()
    bits = weight.new_empty((weight.shape[0], (weight.shape[1] + 7) // 8), dtype=torch.uint8)
    return bits, weight.new_empty((count,))


def _fake_unpack_sparse(bits: Tensor, values: Tensor, columns: int) -> Tensor:
    return values.new_empty((bits.shape[0], columns))


def _fake_layout(bits: Tensor, values: Tensor, columns: int, layout: str) -> Tensor:
    if layout == "starts":
        return bits.new_empty((bits.shape[0] + 1,), dtype=torch.int64)
    return bits.new_empty((torch.library.get_ctx().new_dynamic_size(),))


_FAKES: dict[str, Callable[..., Any]] = {
    "sparse_linear": _fake_sparse_linear,
    "_sparse_linear": _fake_by_layout,
    "_sparse_linear.out": _fake_out,
    "_sparse_linear_bits": _fake_sparse_linear,
    "_sparse_linear_bits.out": _fake_out,
    "_sparse_unpack": _fake_unpack_by_starts,
    "_sparse_transposed": _fake_transposed,
    "pack_sparse": _fake_pack_sparse,
    "unpack_sparse": _fake_unpack_sparse,
    "_sparse_layout": _fake_layout,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"strop::{_name}", _fake)


def vmapped(
    info: Any, in_dims: Sequence[int | None], input: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    """The batch as one more leading dimension of the input."""
    weight, (bias, activation, *made_of) = rest[:10], rest[10:]
    input_dim, *dims = in_dims
    if any(d is not None for d in dims[:9]):  # the weight's tensors
        raise NotImplementedError("strop.sparse_linear: vmap over a SparseWeight is not supported")
    size = info.batch_size
    x = input.expand(size, *input.shape) if input_dim is None else input.movedim(input_dim, 0)
    if dims[10] is None:
        return sparse_linear(x, *weight, bias, activation, *made_of), 0
    bias = bias.movedim(dims[10], 0)
    results = [sparse_linear(x[i], *weight, bias[i], activation, *made_of) for i in range(size)]
    return torch.stack(results), 0


torch.library.register_vmap("strop::sparse_linear", vmapped)
