"""Rules of ops for ``torch.func.vmap``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

Rule = Callable[..., Any]
"""Called with the op, torch's info on the batch, its dimensions, and what the op was given."""


def of_any_batch(op: OpOverload, rule: Rule) -> Callable[..., Any]:
    """A rule as torch takes it, which knows what a batch of no samples gives."""

    def complete(info: Any, in_dims: Any, *given: Any, **options: Any) -> Any:
        if info.batch_size == 0:
            return _of_no_samples(op, in_dims, given, options)
        return rule(op, info, in_dims, *given, **options)

    return complete


def each_sample(
    op: OpOverload, info: Any, in_dims: Sequence[int | None], *given: Any, **options: Any
) -> Any:
    """The rule that runs an op for each sample."""
    results = []
    for i in range(info.batch_size):
        sample = [
            value.select(dim, i) if isinstance(value, Tensor) and dim is not None else value
            for value, dim in zip(given, in_dims, strict=True)
        ]
        results.append(op(*sample, **options))
    if isinstance(results[0], Tensor):
        return torch.stack(results), 0
    stacked = tuple(torch.stack(parts) for parts in zip(*results, strict=True))
    return stacked, (0,) * len(stacked)


def _of_no_samples(op: Callable[..., Any], in_dims: Any, given: Any, options: Any) -> Any:
    """[0, ...] of what one sample would give."""
    device = next(t.device for t in pytree.tree_leaves(given) if isinstance(t, Tensor))

    def sample(value: Any, dim: Any) -> Any:
        if isinstance(value, list | tuple):
            dims = dim if isinstance(dim, list | tuple) else [dim] * len(value)
            return [sample(v, d) for v, d in zip(value, dims, strict=True)]
        if not isinstance(value, Tensor):
            return value
        shape = [
            n for axis, n in enumerate(value.shape) if dim is None or axis != dim % value.dim()
        ]
        return torch.empty(shape, dtype=value.dtype, device="meta")

    result = op(*sample(given, in_dims), **options)
    made = pytree.tree_map_only(
        Tensor, lambda t: _empty((0, *t.shape), t.dtype, device, given), result
    )
    return made, pytree.tree_map_only(Tensor, lambda t: 0, result)


def _empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, given: Any) -> Tensor:
    """Recorded by autograd as what is made from the given tensors would be."""
    made = torch.empty(shape, dtype=dtype, device=device)
    for tensor in pytree.tree_leaves(given):
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and dtype.is_floating_point:
            made = made + (tensor * 0).sum().to(dtype)
    return made
