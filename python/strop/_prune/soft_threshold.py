"""Weights shrunk toward zero: soft_threshold, its gradients and its ops.

The gradient of the weight is what passes where ``|w| > amount``; of an amount in a tensor it is
``-sign(w)`` times that, summed to the amount's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd.function import Function

from strop._core.arguments import number
from strop._core.call_path import call_path
from strop._core.errors import translated
from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import (
    below_autograd,
    differentiable,
    needs_gradient,
    paths_of,
    written_to,
)
from strop._core.op import op

Amount = float | None


def soft_threshold(weight: Tensor, amount: float | Tensor, *, out: Tensor | None = None) -> Tensor:
    """Shrinks weights toward zero: ``sign(w) * max(|w| - amount, 0)``.

    The proximal operator of ``amount * |w|``: a step of it after each step of an optimizer makes
    weights zero that the loss does not hold. In float32 for 16-bit weights, rounded once. What becomes
    zero is +0, and a weight of zero stays that. NaN stays NaN.

    Args:
        weight: float32, bfloat16, float16 or float64, any strides.
        amount: a number of 0 or more that float32 holds (float64 for float64); or a tensor that
            broadcasts to weight ([N, 1] for an amount per row), of weight's dtype or float32, in which a
            negative amount moves weights away from zero.
        out: of weight's shape and dtype; weight itself, or a tensor apart from it.

    Returns:
        A tensor of weight's shape and dtype; ``out`` if given. The gradient passes to weight where
        ``|w| > amount``, and ``-sign(w)`` times that is summed to an amount's.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: with ``out``, where a tensor requires a gradient.

    Example:
        >>> import strop, torch
        >>> strop.soft_threshold(torch.tensor([0.5, -0.25, -2.0]), 0.25)
        tensor([ 0.2500,  0.0000, -1.7500])

    """
    name = "strop.soft_threshold"
    try:
        value, tensor = _amount(name, weight, amount)
        path = call_path(weight, tensor, out)
        if out is None:
            return cast(Tensor, _NEW[path](weight, value, tensor))
        _WRITTEN[path](weight, value, tensor, out=out)
        return out
    except Exception as error:
        raise translated(name, error, _tensors(weight, amount) | {"out": out}) from None


def soft_threshold_(weight: Tensor, amount: float | Tensor) -> Tensor:
    """:func:`soft_threshold` in place.

    Args:
        weight: as of :func:`soft_threshold`; is written to.
        amount: as of :func:`soft_threshold`.

    Returns:
        weight.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: where a tensor requires a gradient; call it under ``torch.no_grad()``.

    Example:
        >>> import strop, torch
        >>> w = torch.tensor([0.5, -0.25, -2.0])
        >>> strop.soft_threshold_(w, torch.tensor([0.5, 0.5, 0.5]))
        tensor([ 0.0000,  0.0000, -1.5000])

    """
    name = "strop.soft_threshold_"
    try:
        value, tensor = _amount(name, weight, amount)
        _IN_PLACE[call_path(weight, tensor)](weight, value, tensor)
        return weight
    except Exception as error:
        raise translated(name, error, _tensors(weight, amount)) from None


def _tensors(weight: object, amount: object) -> dict[str, object]:
    return {"weight": weight, "amount": amount if isinstance(amount, Tensor) else None}


def _amount(name: str, weight: Tensor, amount: object) -> tuple[float | None, Tensor | None]:
    """An amount as the ops have it."""
    if not isinstance(amount, Tensor):
        if amount is None:
            raise TypeError(f"{name}: amount is None; a number or a tensor is needed")
        return number(name, "amount", amount), None
    if isinstance(weight, Tensor) and amount.dtype == weight.dtype and amount.itemsize == 2:
        return None, amount.float()  # that of the arithmetic
    return None, amount


def _passed(gradient: Tensor, weight: Tensor, amount: Amount, tensor: Tensor | None) -> Tensor:
    """What passes of a gradient; may be differentiated by it again."""
    if needs_gradient(gradient):
        return cast(Tensor, cast(Any, _Passed).apply(gradient, weight, amount, tensor))
    return cast(Tensor, _gradient_op(gradient, weight, amount, tensor))


def _of_amount(passing: Tensor, weight: Tensor, tensor: Tensor) -> Tensor:
    """The amount's gradient, summed in its own type, which is that of the arithmetic."""
    signed = -(torch.sign(weight) * passing).to(tensor.dtype)
    return signed.sum_to_size(tensor.shape)


class _Passed(Function):
    """The weight's backward, which is linear in the gradient and its own backward."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, weight: Tensor, amount: Amount, tensor: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(weight, tensor)
        ctx.amount = amount
        return cast(Tensor, _gradient_op(gradient, weight, amount, tensor))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, tensor = ctx.saved_tensors
        return _passed(gradient, weight, ctx.amount, tensor), None, None, None


class _SoftThreshold(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, amount: Amount, tensor: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, tensor)
        ctx.amount = amount
        return cast(Tensor, _direct(weight, amount, tensor))

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, tensor = ctx.saved_tensors
        passing = _passed(gradient, weight.detach(), ctx.amount, _plain(tensor))
        of_weight = passing if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[2]:
            return of_weight, None, None
        return of_weight, None, _of_amount(passing, weight.detach(), tensor)


def _plain(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _recorded(weight: Tensor, amount: Amount = None, tensor: Tensor | None = None) -> Tensor:
    return cast(Tensor, cast(Any, _SoftThreshold).apply(weight, amount, tensor))


def _composite(weight: Tensor, amount: Amount = None, tensor: Tensor | None = None) -> Tensor:
    """The result by ops that torch can differentiate again, as often as asked."""
    # Detached from every transform around this one as well: each adds its own gradient.
    y = _direct(weight.detach(), amount, _plain(tensor)).detach()
    wide = weight if weight.dtype == torch.float64 else weight.float()  # as the op compares it
    least: Any = amount if tensor is None else tensor
    keeps = wide.detach().abs() > (least if tensor is None else least.detach())
    left = torch.where(keeps, wide - torch.sign(wide.detach()) * least, torch.zeros_like(wide))
    # What is Inf is the result itself: less itself it would be NaN.
    infinite = left.detach().isinf()
    finite = torch.where(infinite, torch.zeros_like(left), left)
    y = y + (finite - finite.detach()).to(weight.dtype)
    return torch.where(infinite, left.to(weight.dtype), y)


def _fake(weight: Tensor, amount: Amount = None, tensor: Tensor | None = None) -> Tensor:
    if not weight.is_floating_point():
        raise TypeError(
            f"strop.soft_threshold: weight has dtype {weight.dtype}; a floating dtype is needed"
        )
    return torch.empty_like(weight)


def _fake_written(*tensors: Any, **options: Any) -> None:
    return None


def _fake_gradient(
    gradient: Tensor, weight: Tensor, amount: Amount = None, tensor: Tensor | None = None
) -> Tensor:
    return torch.empty_like(weight)


def _batch_first(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _amount_of_batch(tensor: Tensor | None, dims: Sequence[int | None], rank: int) -> Tensor | None:
    """An amount as it broadcasts to a weight of ``rank`` dimensions, of which the first is the batch."""
    dim = dims[0] if dims else None
    if tensor is None or dim is None:
        return tensor
    tensor = tensor.movedim(dim, 0)
    ones = (1,) * (rank - tensor.dim())
    return tensor.reshape(tensor.shape[:1] + ones + tensor.shape[1:])


def _vmap(
    op: OpOverload,
    info: Any,
    in_dims: Sequence[int | None],
    weight: Tensor,
    amount: Amount = None,
    tensor: Tensor | None = None,
) -> tuple[Tensor, int]:
    weight = _batch_first(weight, in_dims[0], info.batch_size)
    tensor = _amount_of_batch(tensor, in_dims[2:], weight.dim())
    return op(weight, amount, tensor), 0


def _vmap_gradient(
    op: OpOverload,
    info: Any,
    in_dims: Sequence[int | None],
    gradient: Tensor,
    weight: Tensor,
    amount: Amount = None,
    tensor: Tensor | None = None,
) -> tuple[Tensor, int]:
    gradient = _batch_first(gradient, in_dims[0], info.batch_size)
    weight = _batch_first(weight, in_dims[1], info.batch_size)
    tensor = _amount_of_batch(tensor, in_dims[3:], weight.dim())
    return op(gradient, weight, amount, tensor), 0


_op = op(
    "soft_threshold",
    fake=_fake,
    vmap=_vmap,
    autograd=differentiable(composite=_composite, recorded=_recorded),
)
_op_out = op("soft_threshold.out", fake=_fake_written, autograd=written_to("strop.soft_threshold"))
_op_in_place = op(
    "soft_threshold_", fake=_fake_written, autograd=written_to("strop.soft_threshold_")
)
_gradient_op = op("_soft_threshold_gradient", fake=_fake_gradient, vmap=_vmap_gradient)
_direct = below_autograd(_op)
_NEW = paths_of(_op, _recorded)
_WRITTEN = paths_of(_op_out)
_IN_PLACE = paths_of(_op_in_place)
