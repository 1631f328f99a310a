"""Which way a call goes: through torch's dispatcher, recorded by autograd, or to the kernel itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, is_grad_enabled
from torch._C import _are_functorch_transforms_active as transforms_active
from torch._C import _is_tracing
from torch.autograd import forward_ad
from torch.compiler import is_compiling
from torch.fx import Proxy

DISPATCHED, RECORDED, DIRECT = range(3)


class Paths(NamedTuple):
    """What a call runs, by its path: ``paths[call_path(...)](...)``."""

    dispatched: Callable[..., Any]
    recorded: Callable[..., Any]
    direct: Callable[..., Any]


def call_path(
    input: Any,
    second: Tensor | None = None,
    third: Tensor | None = None,
    fourth: Tensor | None = None,
    fifth: Tensor | None = None,
) -> int:
    """The path of a call with these tensors.

    ``DISPATCHED``: a graph is being made, or a transform is at work; both need the public op, through torch's
    dispatcher. ``RECORDED``: autograd has to record the call. ``DIRECT``: nobody looks; the kernel alone.

    (Written out, for each function that is called here costs 0.1 us, and a loop 0.2.)
    """
    if (
        is_compiling()
        or _is_tracing()
        or type(input) is Proxy
        or transforms_active()
        or forward_ad._current_level >= 0
    ):
        return DISPATCHED
    if is_grad_enabled() and (
        input.requires_grad
        or (second is not None and second.requires_grad)
        or (third is not None and third.requires_grad)
        or (fourth is not None and fourth.requires_grad)
        or (fifth is not None and fifth.requires_grad)
    ):
        return RECORDED
    return DIRECT


def is_tracing(tensor: object = None) -> bool:
    """Whether torch.compile, torch.export, torch.jit.trace or, on this tensor, torch.fx is at work.

    Their graphs have to hold public ops: a graph may be loaded in another process, where the numbers of
    interned specifications mean nothing, and be run with gradients and without.
    """
    return is_compiling() or _is_tracing() or is_symbol(tensor)


def is_symbol(tensor: object) -> bool:
    """Whether torch.fx traces something in place of a tensor."""
    return type(tensor) is Proxy


def transformed() -> bool:
    """Whether a transform of functorch, or forward-mode AD, is at work."""
    return transforms_active() or forward_ad._current_level >= 0
