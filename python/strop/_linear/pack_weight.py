"""Packs weights in codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.compiler import is_compiling

from strop._core.arguments import instance
from strop._core.errors import check_tensors, in_the_name_of, unfit
from strop._linear.coded_weight import DTYPES, PackedWeight, check
from strop._quantize.formats import NumberFormat
from strop._quantize.quantize import quantize
from strop._quantize.quantized_tensor import QuantizedTensor

_OP = "strop.pack_weight"
_GROUP = 32  # columns that share a scale below 8 bits, unless block_size says so


def pack_weight(
    weight: Tensor | QuantizedTensor,
    *,
    format: str | torch.dtype | NumberFormat | None = None,
    block_size: Sequence[int] | None = None,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
    symmetric: bool = True,
    activations: str | None = None,
) -> PackedWeight:
    """Packs a weight in codes of at most 8 bits for :func:`strop.packed_linear`.

    Done once, when the layer is made: what the kernels read is prepared here.

    Args:
        weight: [N, K] as of ``torch.nn.Linear``, float32, bfloat16 or float16, any strides; or a
            :class:`strop.QuantizedTensor`, whose codes and scales are kept as they are.
        format: a number format with codes of at most 8 bits, as :func:`strop.quantize` takes it; None for a
            QuantizedTensor, which has one.
        block_size: weights that share a scale, as :func:`strop.quantize` takes it; None is a scale a row
            for formats of 8 bits and one for 32 columns below. Recipes have their own.
        scale: of the blocks; None chooses it.
        zero_point: likewise.
        symmetric: of a chosen scale.
        activations: None multiplies the input with the values of the codes, in float32. ``int8`` and
            ``uint8`` quantize each row of the input first, symmetric and asymmetric, and multiply
            integers: faster, and to the bit the same everywhere. The format is an integer then. What GELU
            and ReLU give fits ``uint8`` better.

    Returns:
        A :class:`PackedWeight`; no gradient passes to the weight.

    Raises:
        ValueError: for shapes and values that do not fit, and unknown names.
        TypeError: for dtypes and types that do not fit.

    Example:
        >>> import strop, torch
        >>> weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
        >>> w = strop.pack_weight(weight, format="int8", activations="uint8")
        >>> sum(t.nbytes for t in w.state_dict().values()) / weight.nbytes < 0.28
        True

    """
    if is_compiling():
        raise RuntimeError(f"{_OP}: packing happens once, outside of compiled code")
    if activations is not None:
        instance(_OP, "activations", activations, str, "a string or None")
        if activations == "":
            raise ValueError(f"{_OP}: activations is ''; None, int8 and uint8 are known")
    if isinstance(weight, QuantizedTensor):
        options: dict[str, object] = {"format": format, "block_size": block_size}
        options |= {"scale": scale, "zero_point": zero_point}
        for name, option in options.items():
            if option is not None:
                raise ValueError(f"{_OP}: {name} is given, but weight is quantized already")
        quantized = weight
    else:
        quantized = _quantized(weight, format, block_size, scale, zero_point, symmetric)
    with in_the_name_of(_OP):
        check(quantized, activations or "")
        return PackedWeight.of(quantized, activations or "")


def _quantized(
    weight: Tensor,
    format: str | torch.dtype | NumberFormat | None,
    block_size: Sequence[int] | None,
    scale: Tensor | None,
    zero_point: Tensor | None,
    symmetric: bool,
) -> QuantizedTensor:
    if (problem := unfit(weight, "a tensor or a QuantizedTensor")) is not None:
        raise TypeError(f"{_OP}: weight {problem}")
    check_tensors(_OP, weight=weight)
    if format is None:
        raise ValueError(f"{_OP}: format is None; weights without a format are for pack_sparse")
    kinds = (str, torch.dtype, NumberFormat)
    instance(_OP, "format", format, kinds, "a string, torch.dtype or NumberFormat")
    if weight.dtype not in DTYPES:
        dtype = str(weight.dtype).removeprefix("torch.")
        raise TypeError(f"{_OP}: weight has dtype {dtype}; float32, bfloat16 or float16 is needed")
    if isinstance(weight, FakeTensor) or weight.is_meta:
        raise ValueError(f"{_OP}: weight has a shape alone; values to pack are needed")
    if weight.dim() != 2:
        raise ValueError(f"{_OP}: weight has shape {list(weight.shape)}; two dimensions are needed")
    with in_the_name_of(_OP):
        known = NumberFormat.get(format)
        if block_size is None and known.block is None:
            block_size = (1, -1 if known.bits >= 8 else _GROUP)
        return quantize(
            weight.detach(),
            scale,
            zero_point,
            format=known,
            block_size=block_size,
            symmetric=symmetric,
        )
