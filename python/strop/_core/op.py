"""What ops give for tensors without data: fakes, and batches of no samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.utils import _pytree as pytree

from strop._core import errors, library

Fake = Callable[..., Any]
_CALLED = {"x": "input", "amount_tensor": "amount", "seed_tensor": "seed"}
_CALLED |= {"mean_tensor": "mean", "std_tensor": "std"}
_SYMBOLS = (torch.SymInt, torch.SymFloat, torch.SymBool)


def register_fake(name: str, symbolic: Fake, words: str = "{0} is on {2}, {1} is on {3}") -> None:
    """Registers the fake of an op that csrc/torch/shapes.cpp has as well.

    Where every size is known, that checks what the op would, in the same words. ``symbolic`` gives the
    result where some are symbols, and checks what can be told without them.
    """
    packet, _, overload = name.partition(".")
    of_shapes = getattr(getattr(library.shapes, packet), overload or "default")
    arguments = [_CALLED.get(a.name, a.name) for a in of_shapes._schema.arguments]

    def fake(*given: Any, **options: Any) -> Any:
        check_devices(f"strop.{packet}", dict(zip(arguments, given, strict=False)) | options, words)
        if _has_symbols((given, options)):
            return symbolic(*given, **options)
        try:
            return _of_fakes(of_shapes, given, options)
        except RuntimeError as error:
            raise errors.argument_error(error) or error from None

    torch.library.register_fake(f"strop::{name}", fake)


def _of_fakes(op: Callable[..., Any], given: Any, options: Any) -> Any:
    """An op's result for fake tensors, by those of the meta device.

    (A FakeTensorMode would do that by itself, and log a refusal as if it were a fault.)
    """
    fakes = [t for t in pytree.tree_leaves((given, options)) if isinstance(t, FakeTensor)]
    if not fakes:
        return op(*given, **options)
    device = fakes[0].device
    with unset_fake_temporarily():
        given, options = pytree.tree_map_only(Tensor, _on_meta, (given, options))
        made = op(*given, **options)
    return pytree.tree_map_only(Tensor, lambda t: _like(t, device), made)


def _on_meta(tensor: Tensor) -> Tensor:
    return _like(tensor, torch.device("meta"))


def _like(tensor: Tensor, device: torch.device) -> Tensor:
    shape, stride = tuple(tensor.shape), tensor.stride()
    return torch.empty_strided(shape, stride, dtype=tensor.dtype, device=device)


def check_devices(op: str, given: dict[str, Any], words: str) -> None:
    """Raises where tensors are on several devices."""
    tensors = [(name, t) for name, t in given.items() if isinstance(t, Tensor)]
    for name, tensor in tensors[1:]:
        first, beside = tensors[0]
        if tensor.device != beside.device:
            raise ValueError(f"{op}: {words.format(name, first, tensor.device, beside.device)}")


def _has_symbols(given: Any) -> bool:
    for leaf in pytree.tree_leaves(given):
        if isinstance(leaf, _SYMBOLS):
            return True
        if isinstance(leaf, Tensor) and leaf._has_symbolic_sizes_strides:
            return True
    return False


def register_vmap(name: str, rule: Callable[..., Any] | None = None) -> None:
    """Registers the rule of an op for ``torch.func.vmap``; None runs it for each sample."""
    op = getattr(library.ops, name).default
    over = rule or _each(op)

    def of_any_batch(info: Any, in_dims: Any, *given: Any, **options: Any) -> Any:
        if info.batch_size == 0:
            return _of_no_samples(op, in_dims, given, options)
        return over(info, in_dims, *given, **options)

    torch.library.register_vmap(f"strop::{name}", of_any_batch)


def _each(op: Callable[..., Any]) -> Callable[..., Any]:
    def rule(info: Any, in_dims: Sequence[int | None], *given: Any, **options: Any) -> Any:
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

    return rule


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
