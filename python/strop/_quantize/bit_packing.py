"""Codes of few bits, packed densely and unpacked."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from strop._core.arguments import integer
from strop._core.call_path import call_path
from strop._core.errors import translated
from strop._quantize import codes_ops as ops


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
