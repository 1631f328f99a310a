"""Whether a graph is being made, which has to hold public ops: what they are given is spelled out."""

from __future__ import annotations

from torch._C import _is_tracing
from torch.compiler import is_compiling


def is_tracing() -> bool:
    """Whether torch.compile, torch.export or torch.jit.trace is at work.

    A graph may be loaded in another process, where the numbers of interned specifications mean nothing,
    and be run with gradients and without.
    """
    return is_compiling() or _is_tracing()
