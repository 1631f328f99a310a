"""The quantize family: tensors kept as codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from strop._core.errors import in_the_name_of, translated
from strop._quantize import codes_ops as ops
from strop._quantize.formats import NumberFormat, decoded_scales
from strop._quantize.options import Options
from strop._quantize.quantized_tensor import QuantizedTensor, Scales


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
            made = ops.quantize(input, scale, zero_point, *plain.explicit(op, seed)[:-1])
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
