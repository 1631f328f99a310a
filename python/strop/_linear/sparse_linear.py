"""The sparse family: linear layers whose weight is pruned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as any_autocast
from torch.autograd import Function
from torch.compiler import is_compiling, is_exporting
from torch.nn import functional

from strop._core.call_path import DIRECT, RECORDED, call_path, is_tracing, transformed
from strop._core.errors import translated
from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import below_autograd, differentiable, mark_written, needs_gradient
from strop._core.library import FLOATING
from strop._core.op import op
from strop._linear import ops, plans
from strop._linear.activations import ACTIVATIONS, checked_activation
from strop._linear.given_out import copied
from strop._linear.sparse_weight import TENSORS, SparseWeight

_OP = "strop.sparse_linear"
_MANY = 130
_CLASS_OF = [plans.row_class(n) for n in range(_MANY)]  # looked up, not searched, in a call
_DENSE = plans.NUMBER_OF["dense"]  # those after it are a GPU's


def sparse_linear(
    input: Tensor,
    weight: SparseWeight,
    bias: Tensor | None = None,
    *,
    activation: str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    r"""A linear layer with a pruned weight, and an activation in the same pass.

    .. math:: y = \mathrm{activation}(x W^T + b)

    Sums are float32, in an order that the plan fixes: deterministic, whatever the number of threads.
    Where the plan is sparse a pruned weight contributes nothing, even for an Inf or a NaN of the
    input; where it is dense it contributes 0 times that. ``weight.plan()`` tells which it is.

    Gradients: of input and bias; the weight is frozen. The input's gradient uses the transposed
    weight if ``pack_sparse(..., backward=True)`` prepared it, else the dense one.

    Args:
        input: [..., K], float32, bfloat16 or float16, whatever the weight's values are; float64 with
            values of float64 (the reference loop).
        weight: a :class:`SparseWeight` of shape (N, K).
        bias: [N], of a dtype that the input may have.
        activation: None, ``relu``, ``gelu`` (by erf), ``gelu_tanh`` or ``silu``.
        out: [..., N], which must not overlap the arguments; any strides.

    Returns:
        [..., N], of the input's dtype; ``out`` if given. Under autocast the input is cast as
        ``torch.nn.functional.linear`` casts it; the weight stays.

    Raises:
        ValueError: a value or shape that does not fit, before anything is written.
        TypeError: a dtype or type that does not fit.
        RuntimeError: for ``out`` where a gradient would be needed.

    Example:
        >>> import strop, torch
        >>> w = strop.pack_sparse(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, -1.0]]))
        >>> strop.sparse_linear(torch.tensor([[1.0, 2.0, 3.0]]), w, torch.tensor([0.5, 0.0]))
        tensor([[ 4.5000, -2.0000]])
        >>> strop.sparse_linear(torch.tensor([[1.0, 2.0, 3.0]]), w, activation="relu")
        tensor([[4., 0.]])

    """
    if not isinstance(weight, SparseWeight):
        raise TypeError(f"{_OP}: weight is a {type(weight).__name__}; a SparseWeight is needed")
    checked_activation(_OP, activation)
    if is_tracing():
        y = public_op(input, weight, bias, activation)
        return y if out is None else out.copy_(y)
    return eager_linear(input, weight, bias, activation, out)


def eager_linear(
    input: Tensor,
    weight: SparseWeight,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor | None = None,
) -> Tensor:
    """:func:`sparse_linear` of a weight and an activation that are known to be right."""
    try:
        made_of, bits, values = weight._made_of, weight.bits, weight.values
        if made_of is None:  # maybe without data, where nobody else looks
            weight.follow()
            _check_beside(input, weight, bias)
        elif (  # (as follow() asks; each call costs)
            made_of[0] != bits._version
            or made_of[1] != values._version
            or made_of[2] != bits.data_ptr()
            or made_of[3] != values.data_ptr()
        ):
            weight.follow()
        columns = weight.shape[1]
        rows = input.numel() // columns if columns else _MANY
        choice = weight.methods[_CLASS_OF[rows] if rows < _MANY else -1]
        if out is None:
            if choice == _DENSE:  # torch's own, which knows gradients and transforms
                return _dense(input, weight, bias, activation)
            if call_path(input, bias) != DIRECT or any_autocast():
                return public_op(input, weight, bias, activation)
            if choice > _DENSE:
                _check_columns(input, weight)
                return cast(Tensor, ops.by_bits(input, *_bitmap(weight), bias, activation or ""))
            layout = getattr(weight, plans.METHOD_OF[choice])
            outputs = weight.shape[0]
            return cast(Tensor, ops.by_layout(input, layout, outputs, bias, activation or ""))
        if call_path(input, bias, out) == RECORDED:
            raise RuntimeError(f"{_OP}: out is given, but a gradient is needed; call without")
        return _into(out, choice, input, weight, bias, activation or "")
    except Exception as error:
        if isinstance(input, Tensor) and input.device != weight.device:
            raise ValueError(
                f"{_OP}: input is on {input.device}; the weight is on {weight.device}"
            ) from None
        raise translated(_OP, error, {"input": input, "bias": bias, "out": out}) from None


def _into(
    out: Tensor,
    choice: int,
    x: Tensor,
    weight: SparseWeight,
    bias: Tensor | None,
    activation: str,
) -> Tensor:
    if choice == _DENSE or transformed():
        y = sparse_linear(x, weight, bias, activation=activation or None)
        return copied(_OP, y, out)
    into = out if out.is_contiguous() else out.new_empty(out.shape)
    if choice > _DENSE:
        _check_columns(x, weight)
        ops.by_bits_out(x, *_bitmap(weight), bias, activation, out=into)
    else:
        layout = getattr(weight, plans.METHOD_OF[choice])
        ops.by_layout_out(x, layout, weight.shape[0], bias, activation, out=into)
    if into is not out:
        return out.copy_(into)
    mark_written(out)
    return out


def _bitmap(weight: SparseWeight) -> tuple[Tensor, Tensor, Tensor]:
    return weight.bits, weight.values, cast(Tensor, weight.starts)


def _check_columns(x: Tensor, weight: SparseWeight) -> None:
    """Of which the op knows the bytes alone."""
    if x.dim() == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{_OP}: input has shape {list(x.shape)}; the weight takes {weight.shape[1]} columns"
        )


def _dense(x: Tensor, weight: SparseWeight, bias: Tensor | None, activation: str | None) -> Tensor:
    dense = cast(Tensor, weight.dense)
    if x.dtype != dense.dtype and not any_autocast() and _goes_with(x.dtype, dense.dtype):
        y = _dense(x.to(dense.dtype), weight, bias, activation)
        return y.to(x.dtype)
    if bias is not None and bias.dtype != dense.dtype and _goes_with(bias.dtype, dense.dtype):
        bias = bias.to(dense.dtype)
    try:
        y = functional.linear(x, dense, bias)
    except Exception:
        _check_beside(x, weight, bias)
        raise
    if bias is not None and bias.dim() != 1:  # torch would have it
        _check_beside(x, weight, bias)
    return y if activation is None else ACTIVATIONS[activation](y)


def _check_beside(x: Tensor, weight: SparseWeight, bias: Tensor | None) -> None:
    """Says in the words of the sparse op what torch's linear, or a layout without data, does not."""
    for name, tensor in (("input", x), ("bias", bias)):
        if tensor is not None and not _goes_with(tensor.dtype, weight.dtype):
            wide = weight.dtype == torch.float64
            raise TypeError(
                f"{_OP}: {name} has dtype {_dtype_name(tensor)}; beside values of "
                f"{_dtype_name(weight.values)} {'float64' if wide else 'float32, bfloat16 or float16'} "
                "is needed"
            )
    _check_columns(x, weight)
    if bias is not None and tuple(bias.shape) != weight.shape[:1]:
        raise ValueError(f"{_OP}: bias has shape {list(bias.shape)}; [{weight.shape[0]}] is needed")


def _goes_with(dtype: torch.dtype, values: torch.dtype) -> bool:
    return dtype in FLOATING and (dtype == torch.float64) == (values == torch.float64)


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def public_op(
    x: Tensor,
    weight: SparseWeight,
    bias: Tensor | None,
    activation: str | None,
    kept: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The op that graphs contain; kept: bits and values by which a module knows them."""
    if weight.starts is not None:
        _check_columns(x, weight)
    tensors = [*(kept or (weight.bits, weight.values)), *(getattr(weight, n) for n in TENSORS[2:])]
    made_of = weight.versions if is_compiling() and not is_exporting() else None
    return cast(
        Tensor,
        _public(x, *tensors, list(weight.methods), bias, activation or "", made_of),
    )


def _whole(weight: ops.WeightArguments, columns: int) -> Tensor:
    """The dense weight, unpacked where the plan keeps none."""
    if weight.dense is not None:
        return weight.dense
    bits, values, starts = weight.bits, weight.values, weight.starts
    if starts is not None:
        return cast(Tensor, ops.unpack_by_starts(bits, values, starts, columns))
    return cast(Tensor, ops.unpack_masked(bits, values, columns))


class _Linear(Function):
    """Without activation, which torch's own differentiates."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        bias: Tensor | None,
        weight: ops.WeightArguments,
        made_of: tuple[Any, ...],
    ) -> Tensor:
        ctx.weight = weight
        ctx.columns = x.shape[-1]
        ctx.bias_dtype = None if bias is None else bias.dtype
        return cast(Tensor, _direct(x, *weight, bias, "", *made_of))

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            quads, pairs = ctx.weight.back_quads, ctx.weight.back_pairs
            again = needs_gradient(gradient)
            if quads is not None and pairs is not None and not again:
                of_x = ops.transposed(gradient, quads, pairs, ctx.columns)
            else:
                of_x = gradient @ _whole(ctx.weight, ctx.columns).to(gradient.dtype)
        if ctx.needs_input_grad[1]:
            of_bias = ops.bias_gradient(gradient, ctx.bias_dtype)
        return of_x, of_bias, None, None


def _activated(
    rest: Sequence[Any],
) -> tuple[ops.WeightArguments, Tensor | None, Callable[[Tensor], Tensor], Sequence[Any]]:
    """Weight, bias, activation and versions of what follows the public op's input."""
    weight, (bias, activation, *made_of) = ops.WeightArguments.split(rest)
    if activation not in ACTIVATIONS:
        raise ValueError(f"{_OP}: activation {activation!r} is not known")
    return weight, bias, ACTIVATIONS[activation], made_of


def _composite(input: Tensor, *rest: Any) -> Tensor:
    weight, bias, activated, _ = _activated(rest)
    full = _whole(weight, input.shape[-1]).to(input.dtype)
    bias = None if bias is None else bias.to(input.dtype)
    return activated(functional.linear(input, full, bias))


def _recorded(input: Tensor, *rest: Any) -> Tensor:
    weight, bias, activated, made_of = _activated(rest)
    return activated(cast(Any, _Linear).apply(input, bias, weight, made_of))


def _autocast(device: str) -> Callable[..., Tensor]:
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, f"Autocast{device.upper()}"))

    def kernel(input: Tensor, *rest: Any) -> Tensor:
        with torch._C._ExcludeDispatchKeyGuard(keys):
            if input.dtype != torch.float64:
                input = input.to(torch.get_autocast_dtype(device))
            return cast(Tensor, _public(input, *rest))

    return kernel


_public = op(
    "packed_linear.masked",
    fake=ops.on_one_device("packed_linear.masked", ops.fake_of_bits),
    vmap=ops.vmap,
    autograd=differentiable(composite=_composite, recorded=_recorded),
)
_direct = below_autograd(_public)
_kernels = torch.library.Library("strop", "IMPL")
_kernels.impl("packed_linear.masked", _autocast("cpu"), "AutocastCPU")
_kernels.impl("packed_linear.masked", _autocast("cuda"), "AutocastCUDA")
