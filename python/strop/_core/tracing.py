"""Whether a graph is being made, which has to hold public ops: what they are given is spelled out."""

from __future__ import annotations

from torch._C import _is_tracing
from torch.compiler import is_compiling
from torch.fx import Proxy


def is_tracing(tensor: object = None) -> bool:
    """Whether torch.compile, torch.export, torch.jit.trace or, on this tensor, torch.fx is at work.

    A graph may be loaded in another process, where the numbers of interned specifications mean nothing,
    and be run with gradients and without.
    """
    return is_compiling() or _is_tracing() or is_symbol(tensor)


def is_symbol(tensor: object) -> bool:
    """Whether torch.fx traces something in place of a tensor."""
    return type(tensor) is Proxy
