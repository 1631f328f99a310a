"""Products with weights that have a mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor
from torch._C import _is_any_autocast_enabled as any_autocast
from torch.autograd import Function
from torch.compiler import is_compiling, is_exporting
from torch.nn import functional

from strop._core.call_path import DIRECT, RECORDED, call_path, is_tracing, transformed
from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import below_autograd, differentiable, needs_gradient
from strop._core.library import FLOATING
from strop._core.op import op
from strop._linear import coded_linear, dense_ways, ops, plans
from strop._linear.activations import ACTIVATIONS
from strop._linear.dense_weight import DenseWeight
from strop._linear.masked_codes import MaskedCodes
from strop._linear.masked_weight import TENSORS, MaskedWeight
from strop._linear.results import copied, in_words, written

_OP = "strop.packed_linear"
_DENSE, _PREPACKED = plans.NUMBER_OF["dense"], plans.NUMBER_OF["prepacked"]
_BY_BITS = tuple(
    number for number, method in plans.METHOD_OF.items() if plans.FORM_OF[method] == "starts"
)
_FORM_OF = {number: plans.FORM_OF[method] for number, method in plans.METHOD_OF.items()}


def product(
    input: Tensor,
    weight: MaskedWeight,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor | None = None,
) -> Tensor:
    """:func:`strop.packed_linear` of a weight and an activation that are known to be right."""
    if is_tracing():
        y = public_op(input, weight, bias, activation)
        return y if out is None else out.copy_(y)
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
        choice = plans.method_of(weight.methods, input, weight.shape[1])
        if out is None:
            if choice == _DENSE:  # torch's own, which knows gradients and transforms
                return _dense(input, weight, bias, activation)
            if choice == _PREPACKED:
                return _prepacked(input, weight, bias, activation)
            if call_path(input, bias) != DIRECT or any_autocast():
                return public_op(input, weight, bias, activation)
            isa, activation = plans.ISA_OF[choice], activation or ""
            if choice in _BY_BITS:
                _check_columns(input, weight)
                return cast(Tensor, ops.by_bits(input, *_bitmap(weight), bias, activation, isa))
            layout, outputs = getattr(weight, _FORM_OF[choice]), weight.shape[0]
            return cast(Tensor, ops.by_layout(input, layout, outputs, bias, activation, isa))
        if call_path(input, bias, out) == RECORDED:
            raise RuntimeError(f"{_OP}: out is given, but a gradient is needed; call without")
        return _into(out, choice, input, weight, bias, activation or "")
    except Exception as error:
        raise in_words(error, input, weight, bias, out) from None


def product_of_codes(
    input: Tensor,
    weight: MaskedCodes,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor | None = None,
) -> Tensor:
    """The same where values follow codes, or a GPU multiplies with these."""
    if not is_tracing():
        weight.follow()
    if weight.by_codes:
        return coded_linear.product(input, weight, bias, activation, out)
    return product(input, weight, bias, activation, out)


def product_of_dense(
    input: Tensor,
    weight: DenseWeight,
    bias: Tensor | None,
    activation: str | None,
    out: Tensor | None = None,
) -> Tensor:
    """The same of a weight without a mask."""
    if is_tracing():
        y = _dense(input, weight, bias, activation)
        return y if out is None else out.copy_(y)
    try:
        weight.follow()
        choice = plans.method_of(weight.methods, input, weight.shape[1])
        if out is not None and call_path(input, bias, out) == RECORDED:
            raise RuntimeError(f"{_OP}: out is given, but a gradient is needed; call without")
        way = _prepacked if choice == _PREPACKED else _dense
        y = way(input, weight, bias, activation)
        return y if out is None else copied(_OP, y, out)
    except Exception as error:
        raise in_words(error, input, weight, bias, out) from None


def _into(
    out: Tensor,
    choice: int,
    x: Tensor,
    weight: MaskedWeight,
    bias: Tensor | None,
    activation: str,
) -> Tensor:
    if choice in (_DENSE, _PREPACKED) or transformed():
        return copied(_OP, product(x, weight, bias, activation or None), out)
    isa = plans.ISA_OF[choice]
    if choice in _BY_BITS:
        _check_columns(x, weight)
        return written(out, partial(ops.by_bits_out, x, *_bitmap(weight), bias, activation, isa))
    layout = getattr(weight, _FORM_OF[choice])
    by_layout = partial(ops.by_layout_out, x, layout, weight.shape[0], bias, activation, isa)
    return written(out, by_layout)


def _bitmap(weight: MaskedWeight) -> tuple[Tensor, Tensor, Tensor]:
    return weight.bits, weight.values, cast(Tensor, weight.starts)


def _check_columns(x: Tensor, weight: MaskedWeight | DenseWeight) -> None:
    """Of which the op knows the bytes alone."""
    if x.dim() == 0 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"{_OP}: input has shape {list(x.shape)}; the weight takes {weight.shape[1]} columns"
        )


def _prepacked(
    x: Tensor, weight: MaskedWeight | DenseWeight, bias: Tensor | None, activation: str | None
) -> Tensor:
    """By oneDNN, where nobody looks on; else as dense."""
    dtype = weight.input_dtype
    like = x.dim() > 1 and x.dtype == dtype and (bias is None or bias.dtype == dtype)
    if not like or call_path(x, bias) != DIRECT or any_autocast():
        return _dense(x, weight, bias, activation)
    ordered = weight.prepacked()
    if ordered is None:
        return _dense(x, weight, bias, activation)
    _check_beside(x, weight, bias)
    return dense_ways.product(x, ordered, bias, activation)


def _dense(
    x: Tensor, weight: MaskedWeight | DenseWeight, bias: Tensor | None, activation: str | None
) -> Tensor:
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


def _check_beside(x: Tensor, weight: MaskedWeight | DenseWeight, bias: Tensor | None) -> None:
    """Says in the words of the op what torch's linear, or a layout without data, does not."""
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
    weight: MaskedWeight,
    bias: Tensor | None,
    activation: str | None,
    kept: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """The op that graphs contain; kept: bits and values by which a module knows them."""
    if weight.starts is not None and isinstance(x, Tensor):  # (no proxy)
        _check_columns(x, weight)
    tensors = [*(kept or (weight.bits, weight.values)), *(getattr(weight, n) for n in TENSORS[2:])]
    methods = [_DENSE if method == _PREPACKED else method for method in weight.methods]
    made_of = weight.versions if is_compiling() and not is_exporting() else None
    return cast(
        Tensor,
        _public(x, *tensors, methods, bias, activation or "", made_of),
    )


def _whole(weight: ops.WeightArguments, columns: int) -> Tensor:
    """The dense weight, unpacked where the plan keeps none."""
    if weight.dense is not None:
        return weight.dense
    bits, values, starts = weight.bits, weight.values, weight.starts
    if starts is not None and starts.is_cuda:
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
        ctx.weight, ctx.versions = weight, ops.versions_of(weight)
        ctx.columns = x.shape[-1]
        ctx.bias_dtype = None if bias is None else bias.dtype
        return cast(Tensor, _direct(x, *weight, bias, "", *made_of))

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        of_x = of_bias = None
        if ctx.needs_input_grad[0]:
            ops.check_versions(ctx.weight, ctx.versions)
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
    weight, (bias, activation, *made_of) = ops.split(ops.WeightArguments, rest)
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


_public = op(
    "packed_linear.masked",
    fake=ops.on_one_device("packed_linear.masked", ops.fake_of_bits),
    vmap=ops.vmap_of(ops.WeightArguments),
    autograd=differentiable(composite=_composite, recorded=_recorded),
)
_direct = below_autograd(_public)
ops.cast_by_autocast(_public)
