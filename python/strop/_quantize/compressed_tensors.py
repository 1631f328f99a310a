"""Weights of compressed-tensors checkpoints. The library is not imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from strop._core.arguments import instance, integer
from strop._core.tensor_dataclass import check_state
from strop._quantize.bit_packing import pack_bits, unpack_bits
from strop._quantize.conversions import certain_blocks, from_float8, given_blocks, wide_scale
from strop._quantize.parts import Parts

_OP = "strop.QuantizedTensor.from_compressed_tensors"


def from_compressed_tensors(
    state: Mapping[str, Tensor],
    name: str = "",
    *,
    bits: int = 4,
    block_size: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
) -> Parts:
    """A weight of format pack-quantized, int-quantized or float-quantized."""
    check_state(_OP, state)
    instance(_OP, "name", name, str, "a string")
    bits = integer(_OP, "bits", bits)
    if dtype is not None:
        instance(_OP, "dtype", dtype, torch.dtype, "a torch.dtype")
    weight = f"{name}.weight" if name else "weight"
    if not 2 <= bits <= 8:
        raise ValueError(f"{_OP}: bits is {bits}; 2 to 8 are possible")
    scale, stored = state.get(f"{weight}_scale"), state.get(weight)
    words, whole = state.get(f"{weight}_packed"), state.get(f"{weight}_shape")
    if scale is None or (stored is None and (words is None or whole is None)):
        raise ValueError(
            f"{_OP}: state lacks {weight}_packed, {weight}_scale or {weight}_shape; or {weight} and "
            f"{weight}_scale"
        )
    dtype = scale.dtype if dtype is None else dtype
    if words is not None and whole is not None:
        codes, shape = _packed_codes(f"{weight}_packed", words, whole, bits)
    else:
        assert stored is not None  # one of the two is
        if stored.dtype != torch.int8:
            block_size = _blocks(stored.shape, scale, block_size)
            return from_float8(stored, scale, block_size=block_size, dtype=dtype, op=_OP)
        codes, shape = _plain_codes(weight, stored, bits)
    block = _blocks(shape, scale, block_size)
    _check_order(state.get(f"{weight}_g_idx"), f"{weight}_g_idx", shape[1], block)
    zero = state.get(f"{weight}_zero_point")
    if zero is not None:
        zero = _zero_point(
            f"{weight}_zero_point", zero, bits if words is not None else 0, scale, shape
        )
    scale = wide_scale(_OP, scale)
    if scale.numel() == 1:
        scale = scale.reshape(1, 1)
    packed = pack_bits(codes, bits)
    return Parts(packed, scale, zero, None, f"int{bits}", block, shape, dtype)


def _packed_codes(
    name: str, words: Tensor, whole: Tensor, bits: int
) -> tuple[Tensor, tuple[int, int]]:
    """Codes a byte each, and their shape, of a weight in words."""
    if whole.numel() != 2:
        raise ValueError(f"{_OP}: weight_shape has {whole.numel()} entries; a matrix has 2")
    rows, columns = (int(n) for n in whole.tolist())
    if words.dim() != 2 or words.shape[0] != rows:
        raise ValueError(f"{_OP}: {name} has shape {tuple(words.shape)}; {rows} rows are needed")
    # (kept as unsigned numbers, the smallest code 0; ours is two's complement)
    return _unpacked_words(name, words, bits, columns) - (1 << (bits - 1)), (rows, columns)


def _plain_codes(name: str, stored: Tensor, bits: int) -> tuple[Tensor, tuple[int, int]]:
    """Codes a byte each, and their shape, of a weight in int8."""
    if stored.dim() != 2:
        raise ValueError(f"{_OP}: {name} has shape {tuple(stored.shape)}; a matrix is needed")
    half = 1 << (bits - 1)
    if bits < 8 and bool(((stored < -half) | (stored >= half)).any()):
        raise ValueError(f"{_OP}: {name} has codes of more than {bits} bits; give bits")
    return stored.contiguous().view(torch.uint8), (stored.shape[0], stored.shape[1])


def _unpacked_words(name: str, words: Tensor, bits: int, count: int) -> Tensor:
    """Numbers of so many bits along the last axis of int32 words, densely, low bits first."""
    if words.dtype != torch.int32:
        raise TypeError(
            f"{_OP}: {name} has dtype {words.dtype}; pack-quantized has int32 (mxfp4- and "
            "nvfp4-pack-quantized have bytes, which are other formats)"
        )
    have, need, older = words.shape[-1], -(-count * bits // 32), -(-count // (32 // bits))
    if have != need:
        hint = ", and whole codes to a word, as older versions pack, are not known"
        raise ValueError(
            f"{_OP}: {name}: rows of {have} words do not hold {count} codes of {bits} bits"
            f"{hint if have == older else ''}"
        )
    # (flat first: a view of other elements wants steps of 1, which one column need not have)
    bytes = words.reshape(-1).view(torch.uint8).view(words.shape[0], 4 * have)
    return unpack_bits(bytes[:, : (count * bits + 7) // 8].contiguous(), bits, count)


def _blocks(
    shape: Sequence[int], scale: Tensor, block_size: Sequence[int] | None
) -> tuple[int, ...] | None:
    """The block size, where it is not given by the strategies tensor, channel and group.

    A group divides a row there. Blocks (the strategy block) may be short at the end.
    """
    if block_size is not None:
        return given_blocks(_OP, shape, scale, block_size)
    if scale.numel() == 1 and scale.dim() < 2:
        return None
    if len(shape) == 2 and scale.dim() == 2 and scale.shape[0] == shape[0]:
        groups, columns = scale.shape[1], shape[1]
        if groups and columns % groups == 0:
            return (1, -1 if groups == 1 else columns // groups)
    return certain_blocks(_OP, shape, scale)


def _zero_point(
    name: str, zero: Tensor, bits: int, scale: Tensor, shape: tuple[int, int]
) -> Tensor:
    """Zero points of a block each.

    Of weights that are packed, in so many bits, those of the strategies channel and group are as well, in
    int32 words down the columns. All others are int8, or what the configuration says.
    """
    rows = shape[0]
    of_rows = scale.dim() == 2 and scale.shape[0] == rows
    if bits and of_rows and zero.dtype == torch.int32:
        grid = (-(-rows * bits // 32), scale.shape[1])
        if tuple(zero.shape) != grid:
            raise ValueError(
                f"{_OP}: {name} has shape {tuple(zero.shape)}; int32 words of {rows} rows in {bits} "
                f"bits have {grid}"
            )
        down = _unpacked_words(name, zero.T, bits, rows).T.short()
        return (down - (1 << (bits - 1))).to(torch.int8).contiguous()
    if zero.shape != scale.shape and not zero.numel() == scale.numel() == 1:
        raise ValueError(
            f"{_OP}: {name} has shape {tuple(zero.shape)}; {tuple(scale.shape)}, the scale's, is "
            "needed"
        )
    zero = zero.reshape(1, 1) if zero.numel() == 1 else zero
    return (
        wide_scale(_OP, zero).to(wide_scale(_OP, scale).dtype) if zero.is_floating_point() else zero
    )


def _check_order(
    order: Tensor | None, name: str, columns: int, block: tuple[int, ...] | None
) -> None:
    """Refuses columns whose groups are not neighbours; where there is no order all are -1."""
    if order is None or bool((order == -1).all()):
        return
    group = columns if block is None or block[1] < 0 else block[1]
    in_order = torch.arange(columns, device=order.device) // max(group, 1)
    if order.shape != in_order.shape or not torch.equal(order.long(), in_order):
        raise ValueError(f"{_OP}: {name} reorders columns, which blocks cannot")
