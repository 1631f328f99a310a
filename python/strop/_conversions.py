"""Quantized tensors of other libraries as ours, to the bit. None of those libraries is imported."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from strop._formats import NumberFormat, format_name
from strop._quantize_codes import pack_bits, unpack_bits
from strop._quantized_tensor import QuantizedTensor

_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e5m2)
_MX = {
    torch.float8_e4m3fn: "mxfp8",
    torch.float8_e5m2: "mxfp8_e5m2",
    "fp6_e2m3": "mxfp6_e2m3",
    "fp6_e3m2": "mxfp6_e3m2",
    torch.float4_e2m1fn_x2: "mxfp4",
}


def _missing(op: str, tensor: object) -> TypeError:
    return TypeError(
        f"{op}: tensor is a {type(tensor).__name__}; torchao's MXTensor, NVFP4Tensor, Int8Tensor, "
        "IntxUnpackedToInt8Tensor or Float8Tensor is needed"
    )


def _blocks(op: str, shape: torch.Size, scale: Tensor) -> tuple[int, ...] | None:
    """The block size of which a scale's shape is the grid."""
    if scale.numel() == 1:
        return None
    if scale.dim() != len(shape):
        raise ValueError(f"{op}: scale has shape {tuple(scale.shape)} for a tensor {tuple(shape)}")
    block = []
    for n, count in zip(shape, scale.shape, strict=True):
        if count == 0 or n % count:
            raise ValueError(f"{op}: scale's {count} blocks do not divide an axis of {n}")
        block.append(-1 if count == 1 else n // count)
    return tuple(block)


def from_float8(
    tensor: Tensor, scale: Tensor | None = None, *, dtype: torch.dtype = torch.float32
) -> QuantizedTensor:
    """A torch.float8 tensor, whose values are multiplied by a scale."""
    op = "strop.QuantizedTensor.from_float8"
    if not isinstance(tensor, Tensor) or tensor.dtype not in _FLOAT8:
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{op}: tensor is {kind}; torch.float8_e4m3fn or _e5m2 is needed")
    scale = torch.ones((), device=tensor.device) if scale is None else scale.float()
    block = _blocks(op, tensor.shape, scale)
    codes = tensor.contiguous().view(torch.uint8)
    if tensor.dim() == 0:
        codes = codes.reshape(1)
    if block is None:
        scale = scale.reshape((1,) * tensor.dim())
    return QuantizedTensor(
        codes, scale, None, None, format_name(tensor.dtype), block, tuple(tensor.shape), dtype
    )


def from_torchao(tensor: Any) -> QuantizedTensor:
    """A quantized tensor of torchao: MX, NVFP4, integers of 8 bits or fewer, float8."""
    op = "strop.QuantizedTensor.from_torchao"
    convert = _TORCHAO.get(type(tensor).__name__)
    if convert is None or not hasattr(tensor, "qdata"):
        raise _missing(op, tensor)
    if getattr(tensor, "is_swizzled_scales", False):
        raise ValueError(f"{op}: tensor's scales are swizzled for a GPU's matrix units")
    return convert(op, tensor)


def _from_mx(op: str, tensor: Any) -> QuantizedTensor:
    name = _MX.get(tensor.elem_dtype)
    if name is None or tensor.block_size != 32:
        raise ValueError(
            f"{op}: tensor has {tensor.elem_dtype} in blocks of {tensor.block_size}; MX formats "
            "have blocks of 32"
        )
    codes = tensor.qdata.contiguous().view(torch.uint8)
    if NumberFormat.get(name).bits == 6:  # a byte each there
        codes = pack_bits(codes, 6)
    scale = tensor.scale.view(torch.uint8).reshape(*tensor.shape[:-1], -1)
    shape, dtype = tuple(tensor.shape), tensor.orig_dtype
    return QuantizedTensor(codes, scale, None, None, name, None, shape, dtype)


def _from_nvfp4(op: str, tensor: Any) -> QuantizedTensor:
    scale = tensor.scale.view(torch.uint8).reshape(*tensor.shape[:-1], -1)
    whole = tensor.per_tensor_scale
    whole = torch.ones((), device=scale.device) if whole is None else whole.float().reshape(())
    codes = tensor.qdata.contiguous().view(torch.uint8)
    shape = tuple(tensor.shape)
    return QuantizedTensor(codes, scale, None, whole, "nvfp4", None, shape, tensor.orig_dtype)


def _from_integers(op: str, tensor: Any) -> QuantizedTensor:
    target = getattr(tensor, "target_dtype", torch.int8)
    name = str(target).removeprefix("torch.")
    codes = tensor.qdata.contiguous().view(torch.uint8)
    bits = NumberFormat.get(name).bits
    codes = codes if bits == 8 else pack_bits(codes, bits)
    shape = tuple(tensor.qdata.shape)
    block = tuple(-1 if b == n else b for b, n in zip(tensor.block_size, shape, strict=True))
    scale, zero = tensor.scale.float(), tensor.zero_point
    return QuantizedTensor(codes, scale, zero, None, name, block, shape, tensor.dtype)


def _from_float8_tensor(op: str, tensor: Any) -> QuantizedTensor:
    return from_float8(tensor.qdata, tensor.scale, dtype=tensor.dtype)


_TORCHAO = {
    "MXTensor": _from_mx,
    "NVFP4Tensor": _from_nvfp4,
    "Int8Tensor": _from_integers,
    "IntxUnpackedToInt8Tensor": _from_integers,
    "Float8Tensor": _from_float8_tensor,
}


def from_bitsandbytes(packed: Tensor, quant_state: Any) -> QuantizedTensor:
    """What bitsandbytes' quantize_4bit gives for nf4: its blocks run along the last axis."""
    op = "strop.QuantizedTensor.from_bitsandbytes"
    if not isinstance(packed, Tensor) or packed.dtype != torch.uint8:
        raise TypeError(f"{op}: packed is no uint8 tensor")
    if quant_state.quant_type != "nf4":
        raise ValueError(f"{op}: quant_state is of {quant_state.quant_type}; nf4 is needed")
    shape, block = tuple(quant_state.shape), int(quant_state.blocksize)
    if not shape or (shape[-1] % block and len(shape) > 1):
        raise ValueError(
            f"{op}: blocks of {block} do not divide rows of {shape[-1:]}; they would be of several "
            "rows"
        )
    absmax = quant_state.absmax
    if quant_state.nested:  # quantized themselves
        inner = quant_state.state2
        values = inner.code[absmax.long()].float().view(-1)
        each = inner.absmax.repeat_interleave(inner.blocksize)[: values.numel()]
        absmax = values * each + quant_state.offset
    codes = packed.reshape(-1)
    codes = codes << 4 | codes >> 4  # the first code is in the high bits there
    codes = codes.reshape(*shape[:-1], (shape[-1] + 1) // 2)
    scale = absmax.float().reshape(*shape[:-1], -1)
    blocks = (*(1 for _ in shape[:-1]), block)
    return QuantizedTensor(codes, scale, None, None, "nf4", blocks, shape, quant_state.dtype)


def _unpacked_words(op: str, words: Tensor, bits: int, count: int) -> Tensor:
    """Numbers of so many bits along the last axis of int32 words, densely, low bits first."""
    have = words.shape[-1]
    if have != -(-count * bits // 32):
        raise ValueError(f"{op}: rows of {have} words do not hold {count} codes of {bits} bits")
    row = words.contiguous().view(torch.uint8)[..., : (count * bits + 7) // 8]
    return unpack_bits(row.contiguous(), bits, count).int()


def from_compressed_tensors(
    state: Mapping[str, Tensor],
    name: str = "",
    *,
    bits: int = 4,
    dtype: torch.dtype | None = None,
) -> QuantizedTensor:
    """A weight of a compressed-tensors checkpoint of format pack-quantized."""
    op = "strop.QuantizedTensor.from_compressed_tensors"
    prefix = f"{name}." if name else ""

    def take(key: str) -> Tensor | None:
        return state.get(f"{prefix}weight_{key}")

    words, scale, shape_tensor = take("packed"), take("scale"), take("shape")
    if words is None or scale is None or shape_tensor is None:
        raise ValueError(f"{op}: state lacks {prefix}weight_packed, weight_scale or weight_shape")
    if not isinstance(bits, int) or not 2 <= bits <= 8:
        raise ValueError(f"{op}: bits is {bits}; 2 to 8 are possible")
    order = take("g_idx")
    if order is not None and bool((order[1:] < order[:-1]).any()):
        raise ValueError(f"{op}: {prefix}weight_g_idx reorders columns, which blocks cannot")
    rows, columns = (int(n) for n in shape_tensor.tolist())
    offset, mask = 1 << (bits - 1), (1 << bits) - 1
    # (kept as unsigned numbers, the smallest code 0; ours is two's complement)
    codes = (_unpacked_words(op, words, bits, columns) - offset) & mask
    zero = take("zero_point")
    if zero is not None:
        if zero.dtype == torch.int32 and zero.shape[0] != rows:  # packed, down the columns
            zero = _unpacked_words(op, zero.T.contiguous(), bits, rows).T - offset
        zero = zero.to(torch.int8).contiguous()
    packed = pack_bits(codes.to(torch.uint8), bits)
    wide = scale.float()
    block = _blocks(op, torch.Size((rows, columns)), wide)
    shape = (rows, columns)
    return QuantizedTensor(
        packed, wide, zero, None, f"int{bits}", block, shape, dtype or scale.dtype
    )
