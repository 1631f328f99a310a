"""The quantize family: from floats to a number format and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from strop._core.arguments import needed_number, seed_number
from strop._core.call_path import DISPATCHED, RECORDED, call_path
from strop._core.errors import translated
from strop._core.gradient import mark_written, refused
from strop._quantize import gradient as gradients
from strop._quantize import ops
from strop._quantize.formats import NumberFormat
from strop._quantize.options import Options, specification

_OP = "strop.fake_quantize"
_OP_IN_PLACE = "strop.fake_quantize_"

_Tensors = tuple[Tensor, Tensor | None, Tensor | None]


def _by_public_op(
    op: str,
    tensors: _Tensors,
    options: tuple[Any, ...],
    seed: object,
    grad_factor: object,
    out: Tensor | None = None,
) -> Tensor:
    """The op that takes every option by itself."""
    input, call = tensors[0], Options(*options).plain(op).explicit(op, seed, grad_factor)
    if isinstance(call.block_size, tuple) and not call.block_size and input.dim() > 0:
        raise ValueError(
            f"{op}: block_size has 0 entries for a {input.dim()}-D tensor; "
            "give one per dimension, -1 for a whole axis"
        )
    if op == _OP_IN_PLACE:
        gradients.public_in_place(*tensors, *call)
        return input
    if out is None:
        return cast(Tensor, gradients.public(*tensors, *call))
    gradients.public_out(*tensors, *call, out=out)
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
        format: a name, torch dtype (``torch.int4``, ``torch.float8_e4m3fn``...) or
            :class:`NumberFormat`; :func:`strop.formats` lists them:

            - whole numbers: ``int2``..``int8``, ``uint2``..``uint8``, ``int16``, and ``integer``, which
              has no bounds and needs a scale;
            - floats ``float8_e4m3fn``, ``float8_e5m2``, ``float6_e2m3fn``, ``float6_e3m2fn`` and
              ``float4_e2m1fn``, and the table ``nf4``, whose values take the place of the integers q;
            - recipes ``mxfp8``, ``mxfp8_e5m2``, ``mxfp6_e2m3``, ``mxfp6_e3m2``, ``mxfp4`` (blocks of 32
              along the last axis) and ``nvfp4`` (of 16), which choose their scales and keep them as bytes.
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
        A tensor of input's shape, dtype and strides; ``out`` if given. Under a given scale the gradient
        passes to input where q was in range; under a chosen one, everywhere. Those of scale and a floating
        zero_point are learned step size quantization's, times grad_factor.

    Raises:
        ValueError: a value or shape that does not fit, before anything is written.
        TypeError: a dtype or type that does not fit.
        RuntimeError: with ``out``, where a tensor requires a gradient.

    Example:
        >>> import strop, torch
        >>> x = torch.tensor([[0.1, -0.2, 0.35, 7.0]])
        >>> strop.fake_quantize(x, torch.tensor(0.25), format="int4")
        tensor([[ 0.0000, -0.2500,  0.2500,  1.7500]])
        >>> strop.fake_quantize(x, format="int8", block_size=(1, 2))
        tensor([[ 0.1004, -0.2008,  0.3294,  6.9725]])

    """
    options = (format, block_size, rounding, symmetric, quant_min, quant_max, eps)
    try:
        path = call_path(input, scale, zero_point, out)
        if (
            path == DISPATCHED
            or isinstance(seed, Tensor)
            or (spec := specification(_OP, options)) < 0
        ):
            return _by_public_op(_OP, (input, scale, zero_point), options, seed, grad_factor, out)
        if type(grad_factor) is not float:
            grad_factor = needed_number(_OP, "grad_factor", grad_factor)
        if seed is not None and type(seed) is not int:
            seed = cast(int, seed_number(_OP, seed))
        if path == RECORDED:
            if out is not None:
                raise refused(_OP)
            call = gradients.Interned(options, spec, seed, grad_factor)
            return gradients.recorded(input, scale, zero_point, call)
        if out is None:
            if seed is None:  # each argument costs
                return ops.packed(input, scale, zero_point, spec)
            return ops.packed(input, scale, zero_point, spec, seed)
        ops.packed_out(input, scale, zero_point, spec, seed, out=out)
        mark_written(out)
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

    Takes no memory beside the tensor. Raises as :func:`fake_quantize` does with ``out``.

    Example:
        >>> import strop, torch
        >>> x = torch.tensor([0.1, 0.9])
        >>> strop.fake_quantize_(x, torch.tensor(0.5))
        tensor([0., 1.])

    """
    options = (format, block_size, rounding, symmetric, quant_min, quant_max, eps)
    try:
        path = call_path(input, scale, zero_point)
        if (
            path == DISPATCHED
            or isinstance(seed, Tensor)
            or (spec := specification(_OP_IN_PLACE, options)) < 0
        ):
            return _by_public_op(
                _OP_IN_PLACE, (input, scale, zero_point), options, seed, grad_factor
            )
        if type(grad_factor) is not float:
            needed_number(_OP_IN_PLACE, "grad_factor", grad_factor)
        if seed is not None and type(seed) is not int:
            seed = cast(int, seed_number(_OP_IN_PLACE, seed))
        if path == RECORDED:
            raise refused(_OP_IN_PLACE)
        ops.packed_in_place(input, scale, zero_point, spec, seed)
        mark_written(input)
        return input
    except Exception as error:
        tensors = {"input": input, "scale": scale, "zero_point": zero_point}
        raise translated(_OP_IN_PLACE, error, tensors, seed) from None
