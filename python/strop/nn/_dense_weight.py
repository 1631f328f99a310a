"""The weight that a layer would have were it dense, for models that read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from typing_extensions import Self

from strop._core.tensors import METADATA
from strop._linear.packed_weight import PackedWeight

_ASSIGNING = {"__setitem__", "__set__"} | {
    f"__i{name}__"
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
}


class DenseWeight(Tensor):
    """The dense form of a packed weight: computed where it is used, each time, and never kept.

    Its dtype, shape and device cost nothing. Every operation gives plain tensors. Nothing can be written
    to it: it would be lost.
    """

    _packed: PackedWeight

    @staticmethod
    def __new__(cls, packed: PackedWeight) -> Self:
        made: Self = Tensor._make_wrapper_subclass(
            cls, packed.shape, dtype=packed.input_dtype, device=packed.device
        )
        made._packed = packed
        return made

    def __init__(self, packed: PackedWeight) -> None:
        super().__init__()

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        _check_unwritten(_written(func, args, kwargs))
        return func(*_dense(args), **_dense(kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        _check_unwritten(_written(func, args, kwargs))
        return func(*_dense(args), **_dense(kwargs))


def _written(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Sequence[object]:
    """The arguments that a function writes to: by its schema, or by the names of torch."""
    if isinstance(func, torch._ops.OpOverload):
        mutable = [a for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
        places = {a.name: n for n, a in enumerate(func._schema.arguments)}
        return [
            args[places[a.name]] if places[a.name] < len(args) else kwargs.get(a.name)
            for a in mutable
        ]
    name = getattr(func, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    first = args[:1] or tuple(kwargs.values())  # (torch.nn.init names its tensor)
    return [*(first if in_place or name in _ASSIGNING else ()), kwargs.get("out")]


def _dense(given: Any) -> Any:
    return pytree.tree_map_only(DenseWeight, computed, given)


def computed(weight: DenseWeight) -> Tensor:
    """A plain tensor of it."""
    return dense_of(weight._packed)


def dense_of(packed: PackedWeight) -> Tensor:
    """A packed weight as a layer would have it, of the dtype that its input has."""
    with torch._C.DisableTorchFunctionSubclass():
        return packed.to_dense().to(packed.input_dtype)


def _check_unwritten(written: Sequence[object]) -> None:
    if any(isinstance(tensor, DenseWeight) for tensor in written):
        raise RuntimeError(
            "strop.nn.PackedLinear: weight is computed of what is packed, and cannot be written to; "
            "load a state dict"
        )
