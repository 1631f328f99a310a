"""Tensors whose negation torch puts off (``x.conj().imag``), where an op writes to them.

torch's fallback resolves what an op reads. Of one that writes it expects the tensor back, and strop's return
nothing; here they are run on a copy, which is written to the tensor afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from strop._core import library


def _through_copy(op: Callable[..., Any], written: str, position: int) -> Callable[..., None]:
    def kernel(*given: Any, **options: Any) -> None:
        target: Tensor = options[written] if written in options else given[position]
        copies: dict[int, Tensor] = {}

        def resolved(tensor: Tensor) -> Tensor:
            return copies.setdefault(id(tensor), tensor.resolve_neg())

        given, options = pytree.tree_map_only(Tensor, resolved, (given, options))
        op(*given, **options)
        if target.is_neg():
            target.copy_(copies[id(target)])

    return kernel


_kernels = torch.library.Library("strop", "IMPL")
for _name in torch._C._dispatch_get_all_op_names():
    _packet, _, _overload = _name.removeprefix("strop::").partition(".")
    if _name.startswith("strop::"):
        _op = getattr(getattr(library.ops, _packet), _overload or "default")
        for _place, _argument in enumerate(_op._schema.arguments):
            if _argument.alias_info is not None and _argument.alias_info.is_write:
                _kernels.impl(_op, _through_copy(_op, _argument.name, _place), "Negative")
