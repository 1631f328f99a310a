"""Results that are copied to ``out``."""

from __future__ import annotations

from torch import Tensor


def copied(op: str, y: Tensor, out: Tensor) -> Tensor:
    """``out``, after y was written to it; an error where it does not fit."""
    if out.shape != y.shape:
        raise ValueError(f"{op}: out has shape {list(out.shape)}; {list(y.shape)} is needed")
    if out.dtype != y.dtype:
        here, there = (str(t.dtype).removeprefix("torch.") for t in (out, y))
        raise TypeError(f"{op}: out has dtype {here}; input has {there}")
    if out.device != y.device:
        raise ValueError(f"{op}: out is on {out.device}; input is on {y.device}")
    return out.copy_(y)
