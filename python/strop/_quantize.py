"""The quantize family: from floats to a number format and back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, is_grad_enabled

from strop import _C
from strop import _quantize_gradient as gradients
from strop import _quantize_ops as ops
from strop._core.arguments import boolean, instance, integer, needed_number, number, seed_number
from strop._core.errors import translated
from strop._core.tracing import is_tracing
from strop._formats import NumberFormat, format_name

_OP = "strop.fake_quantize"
_OP_IN_PLACE = "strop.fake_quantize_"

# As a caller wrote them.
_OPTION_NAMES = (
    "format",
    "block_size",
    "rounding",
    "symmetric",
    "quant_min",
    "quant_max",
    "eps",
)
_Options = tuple[Any, Any, Any, Any, Any, Any, Any]
_Tensors = tuple[Tensor, Tensor | None, Tensor | None]

# Note [Specification cache]
# The specifications of all calls so far, by their options: an index into the table of
# csrc/kernels/quantize_spec.h, or -1 where that is full. One dictionary look-up checks and packs
# seven arguments; both tables only grow, to a bound.
_specifications: dict[_Options, int] = {}
_MOST_SPECIFICATIONS = 16384


def _specification(op: str, options: _Options) -> int:
    """The interned specification of a call's options, or -1 for an op that spells them out."""
    try:
        return _specifications[options]
    except (KeyError, TypeError):  # unknown so far, or a list as block_size
        pass
    plain = plain_options(op, options)
    index = _C.intern_quantize_spec(op, **dict(zip(_OPTION_NAMES, plain, strict=True)))
    if len(_specifications) < _MOST_SPECIFICATIONS:
        _specifications[plain] = index
        with suppress(TypeError):
            _specifications[options] = index
    return index


def plain_options(op: str, options: _Options) -> _Options:
    """The options as plain values of the right types, or a TypeError that names the wrong one."""
    format, block_size, rounding, symmetric, quant_min, quant_max, eps = options

    kinds = (str, torch.dtype, NumberFormat)
    instance(op, "format", format, kinds, "a name, dtype or NumberFormat")
    if block_size is not None:
        instance(op, "block_size", block_size, (tuple, list), "a tuple of ints or None")
        block_size = tuple([integer(op, "an entry of block_size", size) for size in block_size])
    instance(op, "rounding", rounding, str, "a string")
    symmetric = boolean(op, "symmetric", symmetric)
    if quant_min is not None:
        quant_min = integer(op, "quant_min", quant_min, "an int or None")
    if quant_max is not None:
        quant_max = integer(op, "quant_max", quant_max, "an int or None")
    eps = number(op, "eps", eps, "a float or None")
    return (format_name(format), block_size, rounding, symmetric, quant_min, quant_max, eps)


def _spelled(
    op: str, options: _Options, seed: int | Tensor | None, grad_factor: float
) -> gradients.Spelled:
    """The options as the public op takes them."""
    factor = needed_number(op, "grad_factor", grad_factor)
    return gradients.Spelled.of(plain_options(op, options), seed_number(op, seed), factor)


def _spelled_out(
    op: str, tensors: _Tensors, call: gradients.Spelled, out: Tensor | None = None
) -> Tensor:
    """The public op, which takes every option by itself."""
    input = tensors[0]
    if isinstance(call.block_size, tuple) and not call.block_size and input.dim() > 0:
        raise ValueError(
            f"{op}: block_size has 0 entries for a {input.dim()}-D tensor; "
            "give one per dimension, -1 for a whole axis"
        )
    if op == _OP_IN_PLACE:
        ops.public_in_place(*tensors, *call)
        return input
    if out is None:
        return cast(Tensor, ops.public(*tensors, *call))
    ops.public_out(*tensors, *call, out=out)
    return out


def fake_quantize(
    input: Tensor,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    format: str | torch.dtype | NumberFormat = "int8",
    block_size: Sequence[int] | None = None,
    rounding: str = "half_even",
    symmetric: bool = True,
    quant_min: int | None = None,
    quant_max: int | None = None,
    eps: float | None = None,
    grad_factor: float = 1.0,
    seed: int | Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    r"""Rounds every element to a number format and back, in one pass over memory.

    .. math::
        q = \mathrm{clamp}(\mathrm{round}(x \cdot \tfrac{1}{scale}) + zero\_point,
                           quant\_min, quant\_max), \qquad
        y = (q - zero\_point) \cdot scale

    in float32 (float64 for float64), bit-equal to ``torch.fake_quantize_per_tensor_affine`` and
    ``torch.fake_quantize_per_channel_affine`` for finite input. A floating zero_point is added
    before rounding. NaN stays NaN, Inf saturates, and so does a result that the dtype cannot hold: finite
    input gives no Inf. The values of scale are taken as they are.

    Without a scale, each block's is chosen from its elements: symmetric
    ``max(amax / ((quant_max - quant_min) / 2), eps)``, else from the smallest and the largest
    element (torchao's ``choose_qparams_affine``). A block with an element that is not finite becomes
    NaN.

    A fresh output costs several times the kernel in page faults when it is large: give ``out``, or
    use :func:`fake_quantize_`.

    Args:
        input: float32, bfloat16, float16 or float64; any shape of up to 16 dimensions, any strides.
        scale: float32 (float64 for float64), of shape ``ceil(input.shape / block_size)`` or
            broadcastable to it.
        zero_point: any integer dtype, or the dtype of scale; of a shape as scale's. It may lie
            outside the format's range.
        format: ``int2``..``int8``, ``uint2``..``uint8``, ``int16``, ``integer`` (no bounds; needs a
            scale), a torch dtype (``torch.int4``, ``torch.float8_e4m3fn``...) or a
            :class:`NumberFormat`.
        block_size: elements that share a scale: one entry per dimension, -1 for a whole axis; None is
            the whole tensor. A last block may be short.
        rounding: ``half_even``, ``half_away``, ``floor``, ``ceil``, ``trunc`` or ``stochastic``.
        symmetric: of a chosen scale.
        quant_min: narrows an integer format.
        quant_max: narrows an integer format.
        eps: the smallest scale that is chosen; the smallest normal float32 by default. float32 has to
            hold its inverse.
        grad_factor: of the gradients of scale and zero_point.
        seed: of stochastic rounding: an int, or an int64 tensor of one element. Equal seeds give
            equal results on every device, instruction set and number of threads.
        out: of input's shape and dtype; may be input itself, but not overlap it in part.

    Returns:
        A tensor of input's shape, dtype and strides; ``out`` if given.

    Raises:
        ValueError: a value or shape that does not fit, before anything is written.
        TypeError: a dtype or type that does not fit.
        RuntimeError: where a gradient would be needed; it has none yet.

    Example:
        >>> import strop, torch
        >>> x = torch.tensor([[0.1, -0.2, 0.35, 7.0]])
        >>> strop.fake_quantize(x, torch.tensor(0.25), format="int4")
        tensor([[ 0.0000, -0.2500,  0.2500,  1.7500]])
        >>> strop.fake_quantize(x, format="int8", block_size=(1, 2))
        tensor([[ 0.1004, -0.2008,  0.3294,  6.9725]])

    """
    options = (format, block_size, rounding, symmetric, quant_min, quant_max, eps)
    if is_tracing(input):
        spelled = _spelled(_OP, options, seed, grad_factor)
        return _spelled_out(_OP, (input, scale, zero_point), spelled, out)
    try:
        spec = _specification(_OP, options)
        if type(grad_factor) is not float:
            grad_factor = needed_number(_OP, "grad_factor", grad_factor)
        if seed is not None and type(seed) is not int:
            seed = seed_number(_OP, seed)
        if spec < 0 or isinstance(seed, Tensor) or gradients.transformed():
            spelled = _spelled(_OP, options, seed, grad_factor)
            return _spelled_out(_OP, (input, scale, zero_point), spelled, out)
        if out is None:
            if is_grad_enabled() and gradients.needs_gradient(input, scale, zero_point):
                call = gradients.Packed(options, spec, seed, grad_factor)
                return gradients.differentiable(input, scale, zero_point, call)
            if seed is None:  # each argument costs
                return ops.packed(input, scale, zero_point, spec)
            return ops.packed(input, scale, zero_point, spec, seed)
        if is_grad_enabled() and gradients.needs_gradient(input, scale, zero_point, out):
            raise gradients.refused(_OP)
        ops.packed_out(input, scale, zero_point, spec, seed, out=out)
        ops.mark_written(out)
        return out
    except Exception as error:
        tensors = {"input": input, "scale": scale, "zero_point": zero_point, "out": out}
        raise translated(_OP, error, tensors, seed) from None


def fake_quantize_(
    input: Tensor,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    *,
    format: str | torch.dtype | NumberFormat = "int8",
    block_size: Sequence[int] | None = None,
    rounding: str = "half_even",
    symmetric: bool = True,
    quant_min: int | None = None,
    quant_max: int | None = None,
    eps: float | None = None,
    grad_factor: float = 1.0,
    seed: int | Tensor | None = None,
) -> Tensor:
    """:func:`fake_quantize` in place: overwrites and returns ``input``.

    Takes no memory beside the tensor. Raises as :func:`fake_quantize` does.

    Example:
        >>> import strop, torch
        >>> x = torch.tensor([0.1, 0.9])
        >>> strop.fake_quantize_(x, torch.tensor(0.5))
        tensor([0., 1.])

    """
    options = (format, block_size, rounding, symmetric, quant_min, quant_max, eps)
    if is_tracing(input):
        spelled = _spelled(_OP_IN_PLACE, options, seed, grad_factor)
        return _spelled_out(_OP_IN_PLACE, (input, scale, zero_point), spelled)
    try:
        spec = _specification(_OP_IN_PLACE, options)
        if type(grad_factor) is not float:
            grad_factor = needed_number(_OP_IN_PLACE, "grad_factor", grad_factor)
        if seed is not None and type(seed) is not int:
            seed = seed_number(_OP_IN_PLACE, seed)
        if spec < 0 or isinstance(seed, Tensor) or gradients.transformed():
            spelled = _spelled(_OP_IN_PLACE, options, seed, grad_factor)
            return _spelled_out(_OP_IN_PLACE, (input, scale, zero_point), spelled)
        if is_grad_enabled() and gradients.needs_gradient(input, scale, zero_point):
            raise gradients.refused(_OP_IN_PLACE)
        ops.packed_in_place(input, scale, zero_point, spec, seed)
        ops.mark_written(input)
        return input
    except Exception as error:
        tensors = {"input": input, "scale": scale, "zero_point": zero_point}
        raise translated(_OP_IN_PLACE, error, tensors, seed) from None
