"""Kernels of ops for autograd, and what they are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.autograd.graph import increment_version

from strop._core.call_path import Paths, transformed

Kernel = Callable[..., Any]
"""A kernel for autograd: called with the op below autograd, then with what the op was given."""


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether something is differentiated by one of these: autograd records, or a tangent goes along."""
    if is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors):
        return True
    return forward_ad._current_level >= 0 and any(map(_has_tangent, tensors))


def _has_tangent(tensor: Tensor | None) -> bool:
    return (
        tensor is not None
        and tensor.is_floating_point()
        and forward_ad.unpack_dual(tensor).tangent is not None
    )


def written_places(op: OpOverload) -> list[tuple[int, str]]:
    """Place and name of each argument that an op writes to."""
    return [
        (place, argument.name)
        for place, argument in enumerate(op._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]


def mark_written(tensor: Tensor) -> None:
    """Tells autograd that an op wrote to a tensor: C++ ops of the stable ABI do not."""
    increment_version((tensor,))


def below_autograd(op: OpOverload) -> Callable[..., Any]:
    """An op without a record; what it writes to is marked as written."""
    call, guard = op._op, torch._C._AutoDispatchBelowAutograd

    def direct(*given: Any, **options: Any) -> Any:
        with guard():
            return call(*given, **options)

    written = written_places(op)
    if not written:
        return direct
    ((place, name),) = written

    def writing(*given: Any, **options: Any) -> None:
        direct(*given, **options)
        mark_written(options[name] if name in options else given[place])

    return writing


def paths_of(op: OpOverload, recorded: Callable[..., Any] | None = None) -> Paths:
    """The paths of calls of an op, which refuses gradients by itself where there is no ``recorded``."""
    return Paths(op, recorded or op, below_autograd(op))


def differentiable(*, composite: Callable[..., Any], recorded: Callable[..., Any]) -> Kernel:
    """The kernel of an op that has a gradient.

    Args:
        composite: gives the result by ops that torch can differentiate again, for functorch's transforms
            and forward-mode AD.
        recorded: gives the result by a torch.autograd.Function.

    """

    def kernel(below: Callable[..., Any], *given: Any) -> Any:
        if transformed():
            return composite(*given)
        if needs_gradient(*(t for t in given if isinstance(t, Tensor))):
            return recorded(*given)
        return below(*given)

    return kernel


def refusing(text: str) -> Kernel:
    """The kernel of an op that has no gradient, and says so where one would be needed."""

    def kernel(below: Callable[..., Any], *given: Any, **options: Any) -> Any:
        tensors = (t for t in (*given, *options.values()) if isinstance(t, Tensor))
        if needs_gradient(*tensors):
            raise RuntimeError(text)
        return below(*given, **options)

    return kernel


def written_to(op: str) -> Kernel:
    """The kernel of an op that writes its result to a given tensor."""
    return refusing(str(refused(op)))


def refused(op: str) -> RuntimeError:
    """What to raise where a result is written to a given tensor and a gradient would be needed."""
    return RuntimeError(
        f"{op}: a tensor requires a gradient, which an op that writes to a given tensor does not "
        "have; give no out, detach the tensor, or call under torch.no_grad()"
    )
