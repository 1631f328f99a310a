"""What products have in common beside the product: results that are written to ``out``, and errors."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from strop._core.errors import translated
from strop._core.gradient import mark_written
from strop._linear.packed_weight import PackedWeight

_OP = "strop.packed_linear"


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


def written(out: Tensor, write: Callable[..., object]) -> Tensor:
    """``out``, after ``write(out=...)`` wrote to it, or to a contiguous tensor in its place."""
    if not out.is_contiguous():
        into = out.new_empty(out.shape)
        write(out=into)
        return out.copy_(into)
    write(out=out)
    mark_written(out)
    return out


def in_words(
    error: Exception, input: object, weight: PackedWeight, bias: object, out: object
) -> Exception:
    """An error of a product, in the words of :func:`strop.packed_linear`."""
    if isinstance(input, Tensor) and input.device != weight.device:
        return ValueError(f"{_OP}: input is on {input.device}; the weight is on {weight.device}")
    return translated(_OP, error, {"input": input, "bias": bias, "out": out})
