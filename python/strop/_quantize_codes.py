"""The quantize family: tensors kept as codes, and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from strop import _quantize_codes_ops as ops
from strop._core.arguments import integer
from strop._core.call_path import call_path
from strop._core.errors import check_tensors, in_the_name_of, translated
from strop._core.library import FLOATING
from strop._formats import NumberFormat
from strop._quantize_options import Options
from strop._quantized_tensor import QuantizedTensor, Scales, decoded_scales


def quantize(
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
    seed: int | Tensor | None = None,
) -> QuantizedTensor:
    """Quantizes a tensor to codes, packed densely below 8 bits, in one pass over memory.

    ``dequantize(quantize(x, ...))`` equals ``fake_quantize(x, ...)`` to the bit. The exception is NaN
    under a given scale in a format without NaN, whose code is 0. No gradient passes.

    Args:
        input: as of :func:`strop.fake_quantize`, and so are all others.
        scale: float32 (float64 for float64); None chooses one for each block.
        zero_point: of an integer format.
        format: any but ``integer``, whose codes have no bound.
        block_size: elements that share a scale; a recipe has its own.
        rounding: of :func:`strop.fake_quantize`'s.
        symmetric: of a chosen scale.
        quant_min: narrows an integer format.
        quant_max: narrows an integer format.
        eps: the smallest scale that is chosen.
        seed: of stochastic rounding.

    Returns:
        A :class:`QuantizedTensor`. Given scales are kept as they are, not copied.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> q = strop.quantize(torch.tensor([[0.1, -0.2, 0.35, 7.0]]), torch.tensor(0.25), format="int4")
        >>> q.codes  # 0 and -1, 1 and 7: two to a byte, low bits first
        tensor([[240, 113]], dtype=torch.uint8)
        >>> strop.dequantize(q)
        tensor([[ 0.0000, -0.2500,  0.2500,  1.7500]])

    """
    op = "strop.quantize"
    options = (format, block_size, rounding, symmetric, quant_min, quant_max, eps)
    try:
        plain = Options(*options).plain(op)
        with torch.no_grad():
            made = ops.quantize(input, scale, zero_point, *plain.spelled(op, seed)[:-1])
        codes, made_scale, made_zero, tensor_scale = made
    except Exception as error:
        tensors = {"input": input, "scale": scale, "zero_point": zero_point}
        raise translated(op, error, tensors, seed) from None
    if scale is None:
        scale = made_scale
        zero_point = _present(made_zero)
    with in_the_name_of(op):
        return QuantizedTensor(
            codes=codes,
            scale=scale,
            zero_point=zero_point,
            tensor_scale=_present(tensor_scale),
            format=plain.format,
            block_size=plain.block_size,
            shape=tuple(input.shape),
            dtype=input.dtype,
        )


def choose_scale(
    input: Tensor,
    *,
    format: str | torch.dtype | NumberFormat,
    block_size: Sequence[int] | None = None,
    symmetric: bool = True,
    quant_min: int | None = None,
    quant_max: int | None = None,
    eps: float | None = None,
) -> Scales:
    """The scales, and zero points, that :func:`strop.fake_quantize` chooses for a tensor's blocks.

    No gradient passes.

    Args:
        input: as of :func:`strop.fake_quantize`, and so are all others.
        format: any but ``integer``.
        block_size: elements that share a scale; a recipe has its own.
        symmetric: whether zero points are 0, or the middle of an unsigned range.
        quant_min: narrows an integer format.
        quant_max: narrows an integer format.
        eps: the smallest scale that is chosen.

    Returns:
        ``Scales(scale, zero_point, tensor_scale)``: scale float32 (float64 for float64) of shape
        ``ceil(input.shape / block_size)``; zero_point int32 likewise, or None where it is 0
        throughout; tensor_scale None but for ``nvfp4``, whose blocks' scales it multiplies.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> x = torch.tensor([[0.1, -0.2, 0.35, 7.5]])
        >>> strop.choose_scale(x, format="int4", block_size=(1, 2)).scale
        tensor([[0.0267, 1.0000]])

    """
    op = "strop.choose_scale"
    options = (format, block_size, "half_even", symmetric, quant_min, quant_max, eps)
    try:
        name, blocks, _, *rest = Options(*options).plain(op)
        with torch.no_grad():
            scale, zero_point, tensor_scale = ops.choose_scale(input, name, blocks or [], *rest)
    except Exception as error:
        raise translated(op, error, {"input": input}) from None
    scale = decoded_scales(NumberFormat.get(name), scale)
    return Scales(scale, _present(zero_point), _present(tensor_scale))


def _present(tensor: Tensor) -> Tensor | None:
    """None for what an op did not make: one dimension, of no elements."""
    return None if tensor.dim() == 1 and tensor.shape[0] == 0 else tensor


def dequantize(
    q: QuantizedTensor, *, dtype: torch.dtype | None = None, out: Tensor | None = None
) -> Tensor:
    """Restores a quantized tensor: ``(code - zero_point) * scale``.

    In float32, or float64 where the scales are; then rounded to ``dtype``, within its largest number.

    Args:
        q: of any format.
        dtype: float32, bfloat16, float16 or float64; None is the dtype that was quantized.
        out: of q's shape and of dtype, any strides; must not overlap q's tensors.

    Returns:
        A contiguous tensor of q's shape; ``out`` if given.

    Raises:
        ValueError: a value or shape that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: where a scale, a zero point or ``out`` requires a gradient: there is none.

    Example:
        >>> import strop, torch
        >>> q = strop.quantize(torch.tensor([0.1, 0.9, -0.4]), format="mxfp4")
        >>> strop.dequantize(q, dtype=torch.bfloat16)
        tensor([ 0.1250,  0.7500, -0.3750], dtype=torch.bfloat16)

    """
    op = "strop.dequantize"
    if not isinstance(q, QuantizedTensor):
        raise TypeError(f"{op}: q is a {type(q).__name__}; a QuantizedTensor is needed")
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise TypeError(f"{op}: dtype is a {type(dtype).__name__}; a torch.dtype is needed")
    check_tensors(op, out=out)
    if out is not None and dtype not in (None, out.dtype):
        raise TypeError(f"{op}: out has dtype {out.dtype}, dtype is {dtype}; give one of them")
    for name, given in (("dtype", dtype), ("out's dtype", None if out is None else out.dtype)):
        if given not in (None, *FLOATING):
            known = "float32, bfloat16, float16 or float64"
            raise TypeError(f"{op}: {name} is {given}; {known} is needed")
    kept = (q.codes.contiguous(), q.scale, q.zero_point, q.tensor_scale, q.format)
    blocks = list(q.block_size or [])
    try:
        path = call_path(q.codes, q.scale, q.zero_point, q.tensor_scale, out)
        if out is None:
            shape = list(q.shape)
            return cast(Tensor, ops.DEQUANTIZE[path](*kept, blocks, shape, dtype or q.dtype))
        if tuple(out.shape) != q.shape:
            raise ValueError(f"{op}: out has shape {tuple(out.shape)}; q has {q.shape}")
        ops.DEQUANTIZE_OUT[path](*kept, blocks, out=out)
        return out
    except Exception as error:
        tensors: dict[str, Any] = {"codes": q.codes, "scale": q.scale, "out": out}
        raise translated(op, error, tensors) from None


def pack_bits(codes: Tensor, bits: int) -> Tensor:
    """Packs codes of a byte each densely, low bits first, each row of the last axis by itself.

    Args:
        codes: uint8 (or int8) of shape [..., count]; bits beyond ``bits`` are ignored.
        bits: of a code, 1 to 8.

    Returns:
        uint8 of shape [..., ceil(count * bits / 8)].

    Raises:
        ValueError: for bits out of range, or a tensor without dimensions.
        TypeError: for another dtype.

    Example:
        >>> import strop, torch
        >>> strop.pack_bits(torch.tensor([1, 2, 3], dtype=torch.uint8), 4)
        tensor([33,  3], dtype=torch.uint8)

    """
    op = "strop.pack_bits"
    bits = integer(op, "bits", bits)
    try:
        return cast(Tensor, ops.pack_bits(codes, bits))
    except Exception as error:
        raise translated(op, error, {"codes": codes}) from None


def unpack_bits(packed: Tensor, bits: int, count: int, *, out: Tensor | None = None) -> Tensor:
    """Restores what :func:`pack_bits` packed.

    Args:
        packed: uint8 of shape [..., ceil(count * bits / 8)].
        bits: of a code, 1 to 8.
        count: codes of a row.
        out: uint8 of shape [..., count], contiguous.

    Returns:
        uint8 of shape [..., count]; ``out`` if given.

    Raises:
        ValueError: for bits, a count or a shape that does not fit.
        TypeError: for another dtype.

    Example:
        >>> import strop, torch
        >>> strop.unpack_bits(torch.tensor([33, 3], dtype=torch.uint8), 4, 3)
        tensor([1, 2, 3], dtype=torch.uint8)

    """
    op = "strop.unpack_bits"
    bits, count = integer(op, "bits", bits), integer(op, "count", count)
    try:
        if out is None:
            return cast(Tensor, ops.unpack_bits(packed, bits, count))
        ops.UNPACK_BITS_OUT[call_path(packed, out)](packed, bits, count, out=out)
        return out
    except Exception as error:
        raise translated(op, error, {"packed": packed, "out": out}) from None
