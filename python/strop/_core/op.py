"""The declaration of an op: all that torch has to know of it beside its kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from strop._core import library
from strop._core.failed_allocation import raises_memory_errors
from strop._core.fake import fake_of
from strop._core.gradient import Kernel, below_autograd, written_places
from strop._core.vmap import Rule, of_any_batch

_declarations = torch.library.Library("strop", "FRAGMENT")


def op(
    name: str,
    *,
    fake: Callable[..., Any],
    vmap: Rule | None = None,
    autograd: Kernel | None = None,
    on_devices: str = "{0} is on {2}, {1} is on {3}",
) -> OpOverload:
    """Declares an op whose kernels are in C++, and returns it.

    Args:
        name: of the op, with that of its overload, without the namespace.
        fake: the result for tensors without data. Where csrc/core/torch/backends.h has the op as well, that checks
            and gives the result, and this does where sizes are symbols.
        vmap: ``vmap(op, info, in_dims, *arguments)`` gives the result for a batch, and its dimensions; None
            is for ops that no transform meets.
        autograd: ``autograd(below, *arguments)`` gives the result, recorded where a gradient is needed;
            ``below`` is the op without a record. None falls through to the kernel, for no time: the results
            are constants. That is right where they have no gradient, and for private ops that run within a
            torch.autograd.Function. A backward that may be differentiated again needs one around such an op.
        on_devices: what is said of two tensors on different devices, by their names and devices.

    """
    overload = _overload(name)
    torch.library.register_fake(overload, fake_of(name, fake, on_devices), lib=_declarations)
    if vmap is not None:
        torch.library.register_vmap(overload, of_any_batch(overload, vmap), lib=_declarations)
    kernel = torch.library.fallthrough_kernel
    if autograd is not None:
        kernel = raises_memory_errors(_bound(autograd, below_autograd(overload)))
    _declarations.impl(overload, kernel, "Autograd")
    for place, written in written_places(overload):
        _declarations.impl(overload, _through_copy(overload, written, place), "Negative")
    return overload


def composite_op(schema: str, function: Callable[..., Any]) -> OpOverload:
    """Declares an op that consists of torch's, whose fakes, transforms and gradients are its own."""
    _declarations.define(schema)
    name = schema.partition("(")[0]
    _declarations.impl(name, function, "CompositeImplicitAutograd")
    return _overload(name)


def _overload(name: str) -> OpOverload:
    packet, _, overload = name.partition(".")
    found: OpOverload = getattr(getattr(library.ops, packet), overload or "default")
    return found


def _bound(kernel: Kernel, below: Callable[..., Any]) -> Callable[..., Any]:
    def bound(*given: Any, **options: Any) -> Any:
        return kernel(below, *given, **options)

    return bound


def _through_copy(op: OpOverload, written: str, place: int) -> Callable[..., None]:
    """The kernel of an op that writes to tensors whose negation torch puts off (``x.conj().imag``).

    torch's fallback resolves what an op reads. Of one that writes it expects the tensor back, and strop's
    return nothing; so it runs on a copy, which is written to the tensor afterwards.
    """

    def kernel(*given: Any, **options: Any) -> None:
        target: Tensor = options[written] if written in options else given[place]
        copies: dict[int, Tensor] = {}

        def resolved(tensor: Tensor) -> Tensor:
            return copies.setdefault(id(tensor), tensor.resolve_neg())

        given, options = pytree.tree_map_only(Tensor, resolved, (given, options))
        op(*given, **options)
        if target.is_neg():
            target.copy_(copies[id(target)])

    return kernel
