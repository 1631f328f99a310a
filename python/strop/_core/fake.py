"""Fakes: what ops give for tensors without data."""

from __future__ import annotations

from collections.abc import Callable
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


def fake_of(name: str, symbolic: Fake, on_devices: str) -> Fake:
    """The fake of an op.

    Where every size is known, the op's twin of csrc/core/torch/backends.h checks what the op would, in the same
    words. ``symbolic`` gives the result where some are symbols, and checks what can be told without them;
    it is the fake of an op without a twin.
    """
    packet, _, overload = name.partition(".")
    twin = getattr(getattr(library.shapes, packet, None), overload or "default", None)
    if twin is None:
        return symbolic
    arguments = [_CALLED.get(a.name, a.name) for a in twin._schema.arguments]

    def fake(*given: Any, **options: Any) -> Any:
        named = dict(zip(arguments, given, strict=False)) | options
        check_devices(f"strop.{packet}", named, on_devices)
        if _has_symbols((given, options)):
            return symbolic(*given, **options)
        try:
            return _of_fakes(twin, given, options)
        except RuntimeError as error:
            raise errors.argument_error(error) or error from None

    return fake


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
