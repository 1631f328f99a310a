"""Quantized tensors of other libraries as ours, to the bit. None of those libraries is imported.

What a tensor's layout is, its dtypes and what is stated beside it say, never that sizes coincide.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from strop._core.arguments import instance, integer, named_kind
from strop._core.errors import check_tensors
from strop._quantize.bit_packing import pack_bits
from strop._quantize.formats import NumberFormat, block_grid, format_name
from strop._quantize.parts import Parts

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


def certain_blocks(op: str, shape: Sequence[int], scale: Tensor) -> tuple[int, ...]:
    """The block size of which a scale's shape is the grid, where no other would have that grid."""
    if scale.dim() != len(shape):
        raise ValueError(
            f"{op}: scale has shape {tuple(scale.shape)} for a tensor {tuple(shape)}; one entry per "
            "dimension is needed"
        )
    return tuple(_certain_block(op, n, c) for n, c in zip(shape, scale.shape, strict=True))


def _certain_block(op: str, n: int, count: int) -> int:
    if count == 1 or n == count == 0:
        return -1
    # ceil(n / block) == count
    sizes = range(-(-n // count), (n - 1) // (count - 1) + 1) if count else range(0)
    if not sizes:
        raise ValueError(f"{op}: scale has {count} blocks along an axis of {n}; no block size does")
    if len(sizes) > 1:
        raise ValueError(
            f"{op}: scale has {count} blocks along an axis of {n}, which may be of {sizes[0]} to "
            f"{sizes[-1]} elements each; give block_size"
        )
    return sizes[0]


def given_blocks(
    op: str, shape: Sequence[int], scale: Tensor, block_size: Sequence[int]
) -> tuple[int, ...]:
    """A block size of whose grid a scale is."""
    instance(op, "block_size", block_size, (tuple, list), "a tuple of ints or None")
    block_size = [integer(op, "an entry of block_size", size) for size in block_size]
    if len(block_size) != len(shape) or any(b < -1 or b == 0 for b in block_size):
        raise ValueError(
            f"{op}: block_size is {tuple(block_size)} for a {len(shape)}-D tensor; give one entry "
            "per dimension, 1 or more or -1 for a whole axis"
        )
    grid = block_grid(NumberFormat.get("float8_e4m3fn"), tuple(block_size), tuple(shape))
    fits = scale.numel() == 1 or (
        scale.dim() == len(grid)
        and all(n in (1, g) for n, g in zip(scale.shape, grid, strict=True))
    )
    if not fits:
        raise ValueError(
            f"{op}: scale has shape {tuple(scale.shape)}; blocks of {tuple(block_size)} of a tensor "
            f"{tuple(shape)} have {grid}"
        )
    return tuple(block_size)


def wide_scale(op: str, scale: Tensor) -> Tensor:
    """A scale as float32, or float64."""
    if not isinstance(scale, Tensor):
        raise TypeError(f"{op}: scale is a {type(scale).__name__}; a tensor is needed")
    if not scale.is_floating_point() or scale.dtype == torch.float4_e2m1fn_x2:
        raise TypeError(f"{op}: scale has dtype {scale.dtype}; a floating dtype is needed")
    return scale if scale.dtype == torch.float64 else scale.float()


def from_float8(
    tensor: Tensor,
    scale: Tensor | None = None,
    *,
    block_size: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    op: str = "strop.QuantizedTensor.from_float8",
) -> Parts:
    """A torch.float8 tensor, whose values are multiplied by a scale."""
    if not isinstance(tensor, Tensor) or tensor.dtype not in _FLOAT8:
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise TypeError(f"{op}: tensor is {kind}; torch.float8_e4m3fn or _e5m2 is needed")
    check_tensors(op, tensor=tensor, scale=scale)
    shape = tuple(tensor.shape)
    if scale is not None and scale.device != tensor.device:
        raise ValueError(f"{op}: scale is on {scale.device}, tensor is on {tensor.device}")
    scale = torch.ones((), device=tensor.device) if scale is None else wide_scale(op, scale)
    block: tuple[int, ...] | None = None
    if block_size is not None:
        block = given_blocks(op, shape, scale, block_size)
    elif scale.numel() != 1:
        block = certain_blocks(op, shape, scale)
    if scale.numel() == 1:
        scale = scale.reshape((1,) * len(shape))
    codes = tensor.contiguous().view(torch.uint8)
    if not shape:
        codes = codes.reshape(1)
    name = format_name(tensor.dtype)
    return Parts(codes, scale, None, None, name, block, shape, dtype)


def from_torchao(tensor: Any) -> Parts:
    """A quantized tensor of torchao: MX, NVFP4, integers of 8 bits or fewer, float8."""
    op = "strop.QuantizedTensor.from_torchao"
    convert = _TORCHAO.get(type(tensor).__name__)
    if convert is None or not hasattr(tensor, "qdata"):
        raise _missing(op, tensor)
    return convert(op, tensor)


def _swizzled(tensor: Any) -> bool:
    """Whether scales lie as matrix units read them; what says neither way may be so."""
    if hasattr(tensor, "swizzle_type"):  # after torchao 0.18
        return type(tensor.swizzle_type).__name__ != "NoSwizzle"
    return bool(getattr(tensor, "is_swizzled_scales", True))


def _recipe_scale(op: str, tensor: Any, shape: tuple[int, ...], block: int) -> Tensor:
    """The bytes of scales of blocks along the last axis."""
    if _swizzled(tensor):
        raise ValueError(f"{op}: tensor's scales are swizzled for a GPU's matrix units")
    scale: Tensor = tensor.scale
    grid = (*shape[:-1], shape[-1] // block)
    if tuple(scale.shape) != grid:  # after .t() they run down the columns
        raise ValueError(
            f"{op}: tensor has scales {tuple(scale.shape)}; blocks along the last axis, of shape "
            f"{grid}, are needed, as they are before a transpose"
        )
    return scale.contiguous().view(torch.uint8)


def _from_mx(op: str, tensor: Any) -> Parts:
    name = _MX.get(tensor.elem_dtype)
    if name is None or tensor.block_size != 32:
        raise ValueError(
            f"{op}: tensor has {tensor.elem_dtype} in blocks of {tensor.block_size}; MX formats "
            "have blocks of 32"
        )
    codes = tensor.qdata.contiguous().view(torch.uint8)
    bits = NumberFormat.get(name).bits  # two codes of 4 bits are in a byte there, one of 6
    shape = (*codes.shape[:-1], codes.shape[-1] * (2 if bits == 4 else 1))
    scale = _recipe_scale(op, tensor, shape, 32)
    codes = pack_bits(codes, 6) if bits == 6 else codes
    return Parts(codes, scale, None, None, name, None, shape, tensor.orig_dtype)


def _from_nvfp4(op: str, tensor: Any) -> Parts:
    codes = tensor.qdata.contiguous().view(torch.uint8)
    shape = (*codes.shape[:-1], codes.shape[-1] * 2)
    scale = _recipe_scale(op, tensor, shape, 16)
    whole = tensor.per_tensor_scale
    whole = torch.ones((), device=scale.device) if whole is None else whole.float()
    if whole.numel() != 1:
        raise ValueError(f"{op}: tensor has {whole.numel()} scales of whole tensors; one is needed")
    whole = whole.reshape(())
    return Parts(codes, scale, None, whole, "nvfp4", None, shape, tensor.orig_dtype)


def _stated_blocks(op: str, tensor: Any) -> tuple[int, ...]:
    """The block size that a tensor states, whose grid its scale has."""
    shape, scale = tuple(tensor.qdata.shape), tensor.scale
    block = tuple(-1 if b == n else int(b) for b, n in zip(tensor.block_size, shape, strict=True))
    return given_blocks(op, shape, scale, block)


def _from_integers(op: str, tensor: Any) -> Parts:
    # (an Int8Tensor has no other)
    target = tensor.target_dtype if hasattr(tensor, "target_dtype") else torch.int8
    try:
        format = NumberFormat.get(target)
    except ValueError:
        raise ValueError(f"{op}: tensor has {target}; 2 to 8 bits are possible") from None
    codes = tensor.qdata.contiguous().view(torch.uint8)
    codes = codes if format.bits == 8 else pack_bits(codes, format.bits)
    shape, block = tuple(tensor.qdata.shape), _stated_blocks(op, tensor)
    scale, zero = wide_scale(op, tensor.scale), tensor.zero_point
    if zero is not None and zero.is_floating_point():
        zero = zero.to(scale.dtype)
    return Parts(codes, scale, zero, None, format.name, block, shape, tensor.dtype)


def _from_float8_tensor(op: str, tensor: Any) -> Parts:
    block = _stated_blocks(op, tensor) if tensor.block_size else None  # (empty: the whole tensor)
    scale, dtype = tensor.scale, tensor.dtype
    return from_float8(tensor.qdata, scale, block_size=block, dtype=dtype, op=op)


_TORCHAO = {
    "MXTensor": _from_mx,
    "NVFP4Tensor": _from_nvfp4,
    "Int8Tensor": _from_integers,
    "IntxUnpackedToInt8Tensor": _from_integers,
    "Float8Tensor": _from_float8_tensor,
}


def from_bitsandbytes(packed: Tensor, quant_state: Any) -> Parts:
    """What bitsandbytes' quantize_4bit gives for nf4: its blocks run along the last axis."""
    op = "strop.QuantizedTensor.from_bitsandbytes"
    if not isinstance(packed, Tensor) or packed.dtype != torch.uint8:
        raise TypeError(f"{op}: packed is no uint8 tensor")
    check_tensors(op, packed=packed)
    if not hasattr(quant_state, "quant_type"):
        kind = named_kind(quant_state)
        raise TypeError(f"{op}: quant_state is {kind}; a QuantState of bitsandbytes is needed")
    if quant_state.quant_type != "nf4":
        raise ValueError(f"{op}: quant_state is of {quant_state.quant_type}; nf4 is needed")
    if getattr(quant_state, "packing_format_for_cpu", False):
        raise ValueError(f"{op}: packed is laid out anew for a CPU's matrix units")
    shape, block = tuple(quant_state.shape), int(quant_state.blocksize)
    elements, last = torch.Size(shape).numel(), shape[-1] if shape else 1
    if not shape or (last % block and elements > last):
        raise ValueError(
            f"{op}: blocks of {block} do not divide rows of {last}; they would be of several rows"
        )
    absmax = _absmax(quant_state)
    if packed.device != absmax.device:
        raise ValueError(f"{op}: packed is on {packed.device}, quant_state on {absmax.device}")
    if packed.numel() != (elements + 1) // 2 or absmax.numel() != -(-elements // block):
        raise ValueError(
            f"{op}: packed has {packed.numel()} bytes and absmax {absmax.numel()} elements; a tensor "
            f"{shape} in blocks of {block} has {(elements + 1) // 2} and {-(-elements // block)}"
        )
    codes = packed.detach().reshape(-1)
    codes = codes << 4 | codes >> 4  # the first code is in the high bits there
    if elements % 2:
        codes[-1] &= 15
    codes = codes.reshape(*shape[:-1], (last + 1) // 2)
    scale = absmax.reshape(*shape[:-1], -(-last // block))
    blocks = (*(1 for _ in shape[:-1]), block)
    return Parts(codes, scale, None, None, "nf4", blocks, shape, quant_state.dtype)


def _absmax(quant_state: Any) -> Tensor:
    """The blocks' largest magnitudes, restored where they are quantized themselves."""
    absmax: Tensor = quant_state.absmax
    if quant_state.nested:
        inner = quant_state.state2
        values = inner.code[absmax.long()].float().view(-1)
        each = inner.absmax.repeat_interleave(inner.blocksize)[: values.numel()]
        absmax = values * each + quant_state.offset
    return absmax.float()
