"""Gradients of soft_threshold.

Of the weight: what passes where ``|w| > amount``. Of an amount in a tensor: ``-sign(w)`` times that,
summed to the amount's shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd.function import Function

from strop import _prune_ops as ops
from strop._core.failed_allocation import raises_memory_errors
from strop._core.op import register_vmap
from strop._quantize_gradient import refused, transformed
from strop._quantize_ops import mark_written

Amount = float | None


def passed(gradient: Tensor, weight: Tensor, amount: Amount, tensor: Tensor | None) -> Tensor:
    """What passes of a gradient; may be differentiated by it again."""
    if is_grad_enabled() and gradient.requires_grad:
        return cast(Tensor, cast(Any, _Passed).apply(gradient, weight, amount, tensor))
    return cast(Tensor, ops.soft_threshold_gradient(gradient, weight, amount, tensor))


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
        return cast(Tensor, ops.soft_threshold_gradient(gradient, weight, amount, tensor))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, tensor = ctx.saved_tensors
        return passed(gradient, weight, ctx.amount, tensor), None, None, None


class _SoftThreshold(Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, amount: Amount, tensor: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, tensor)
        ctx.amount = amount
        return below_autograd(weight, amount, tensor)

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        weight, tensor = ctx.saved_tensors
        passing = passed(gradient, weight.detach(), ctx.amount, _plain(tensor))
        of_weight = passing if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[2]:
            return of_weight, None, None
        return of_weight, None, _of_amount(passing, weight.detach(), tensor)


def _plain(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def below_autograd(weight: Tensor, amount: Amount, tensor: Tensor | None) -> Tensor:
    """The op without a record."""
    with torch._C._AutoDispatchBelowAutograd():
        return cast(Tensor, ops.soft_threshold(weight, amount, tensor))


def _composite(weight: Tensor, amount: Amount, tensor: Tensor | None) -> Tensor:
    """The result by ops that torch can differentiate again, as often as asked."""
    # Detached from every transform around this one as well: each adds its own gradient.
    y = below_autograd(weight.detach(), amount, _plain(tensor)).detach()
    wide = weight if weight.dtype == torch.float64 else weight.float()  # as the op compares it
    least: Any = amount if tensor is None else tensor
    keeps = wide.detach().abs() > (least if tensor is None else least.detach())
    left = torch.where(keeps, wide - torch.sign(wide.detach()) * least, torch.zeros_like(wide))
    # What is Inf is the result itself: less itself it would be NaN.
    infinite = left.detach().isinf()
    finite = torch.where(infinite, torch.zeros_like(left), left)
    y = y + (finite - finite.detach()).to(weight.dtype)
    return torch.where(infinite, left.to(weight.dtype), y)


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Whether autograd would record an op on these tensors."""
    return is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


recorded: Callable[..., Tensor] = cast(Any, _SoftThreshold).apply


def _public(weight: Tensor, amount: Amount = None, tensor: Tensor | None = None) -> Tensor:
    if transformed():
        return _composite(weight, amount, tensor)
    if needs_gradient(weight, tensor):
        return recorded(weight, amount, tensor)
    return below_autograd(weight, amount, tensor)


def _public_out(
    weight: Tensor, amount: Amount = None, tensor: Tensor | None = None, *, out: Tensor
) -> None:
    if needs_gradient(weight, tensor, out):
        raise refused("strop.soft_threshold")
    with torch._C._AutoDispatchBelowAutograd():
        ops.soft_threshold_out(weight, amount, tensor, out=out)
    mark_written(out)


def _public_in_place(weight: Tensor, amount: Amount = None, tensor: Tensor | None = None) -> None:
    if needs_gradient(weight, tensor):
        raise refused("strop.soft_threshold_")
    with torch._C._AutoDispatchBelowAutograd():
        ops.soft_threshold_in_place(weight, amount, tensor)
    mark_written(weight)


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
    info: Any,
    in_dims: Sequence[int | None],
    weight: Tensor,
    amount: Amount = None,
    tensor: Tensor | None = None,
) -> tuple[Tensor, int]:
    weight = _batch_first(weight, in_dims[0], info.batch_size)
    tensor = _amount_of_batch(tensor, in_dims[2:], weight.dim())
    return ops.soft_threshold(weight, amount, tensor), 0


def _vmap_gradient(
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
    return ops.soft_threshold_gradient(gradient, weight, amount, tensor), 0


register_vmap("soft_threshold", _vmap)
register_vmap("_soft_threshold_gradient", _vmap_gradient)
_kernels = torch.library.Library("strop", "IMPL")
_kernels.impl("soft_threshold", raises_memory_errors(_public), "Autograd")
_kernels.impl("soft_threshold.out", _public_out, "Autograd")
_kernels.impl("soft_threshold_", _public_in_place, "Autograd")
_kernels.impl("_soft_threshold_gradient", torch.library.fallthrough_kernel, "Autograd")
for _name in ("prune_mask", "prune_masks", "pack_mask", "unpack_mask"):
    _kernels.impl(_name, torch.library.fallthrough_kernel, "Autograd")
