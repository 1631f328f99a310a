"""Quantized tensors: codes of few bits, packed densely, the scales to restore them by; and restored."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from typing_extensions import Self

from strop._core.call_path import call_path
from strop._core.errors import check_tensors, in_the_name_of, translated
from strop._core.library import FLOATING
from strop._core.tensor_dataclass import TensorDataclass, parsed_to, tensor_dataclass
from strop._quantize import codes_ops as ops
from strop._quantize.formats import (
    NumberFormat,
    block_grid,
    codes_dtype,
    codes_shape,
    format_name,
    has_tensor_scale,
    scales_are_bytes,
)
from strop._quantize.parts import Parts


class Scales(NamedTuple):
    """What quantization chooses for a tensor, by :func:`strop.choose_scale`."""

    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None


@tensor_dataclass
class QuantizedTensor(TensorDataclass):
    """A tensor as :func:`strop.quantize` keeps it, for :func:`strop.dequantize` to restore.

    Frozen, checked when it is made, and a pytree of its tensors. ``q[rows]`` is the quantized tensor
    of these rows, by an int, a slice, an index tensor or a mask of the first axis, with the bits that
    ``q.dequantize()[rows]`` has. :class:`strop.nn.Held` makes a module of it, for a model that has it
    to move and save it.

    Attributes:
        codes: uint8; below 8 bits packed densely, low bits first, each row of the last axis from a
            byte of its own on. Of int16: int16, of the tensor's shape.
        scale: float32 (float64 for float64) of a shape that broadcasts to the grid of blocks; bytes
            as uint8 for MX (e8m0) and NVFP4 (float8_e4m3fn).
        zero_point: integers or floats likewise; None is 0.
        tensor_scale: of NVFP4, one float32; else None.
        format: the format's name.
        block_size: as :func:`strop.quantize` takes it; None for recipes.
        shape: of the tensor.
        dtype: of the tensor, which :func:`strop.dequantize` gives back.

    Raises:
        ValueError: for shapes or values that do not fit each other.
        TypeError: for dtypes that do not fit.

    Example:
        >>> import strop, torch
        >>> q = strop.quantize(torch.linspace(-1, 1, 64).view(2, 32), format="int4", block_size=(1, 32))
        >>> q.codes.shape, q.scale.shape, q.nbytes
        (torch.Size([2, 16]), torch.Size([2, 1]), 40)
        >>> q.dequantize().shape, q[0].shape
        (torch.Size([2, 32]), (32,))

    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    tensor_scale: Tensor | None
    format: str
    block_size: tuple[int, ...] | None
    shape: tuple[int, ...]
    dtype: torch.dtype

    def __post_init__(self) -> None:
        if isinstance(self.format, _FORMATS):  # as quantize takes them
            object.__setattr__(self, "format", format_name(self.format))
        super().__post_init__()

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.codes.device

    def numel(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """On another device, or of another dtype to restore: arguments as of ``torch.Tensor.to``.

        Codes and scales stay what they are.
        """
        move = parsed_to(self.device, self.dtype, *args, **kwargs)
        fields: dict[str, Any] = {
            name: None if tensor is None else tensor.to(move.device, **move.options)
            for name, tensor in self._tensors()
        }
        fields["dtype"] = move.dtype
        return self._with(fields)

    def applied(self, fn: Callable[[Tensor], Tensor]) -> Self:
        """See :meth:`TensorDataclass.applied`: a cast is one of the dtype to restore."""
        fields: dict[str, Any] = {
            name: None if tensor is None else _by_bytes(tensor, fn)
            for name, tensor in self._tensors()
        }
        fields["dtype"] = fn(torch.empty(0, dtype=self.dtype)).dtype
        return self._with(fields)

    def dequantize(self, dtype: torch.dtype | None = None, *, out: Tensor | None = None) -> Tensor:
        """The tensor restored, as :func:`strop.dequantize` does."""
        return dequantize(self, dtype=dtype, out=out)

    def _parts(self) -> Parts:
        return Parts(*(getattr(self, name) for name in Parts._fields))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{_NAME}: a 0-D tensor has no length")
        return self.shape[0]

    def __getitem__(self, rows: Any) -> QuantizedTensor:
        from strop._quantize.rows import picked

        return QuantizedTensor(*picked(self._parts(), rows))

    @staticmethod
    def from_torchao(tensor: Any) -> QuantizedTensor:
        """From a quantized tensor of torchao, which restores to the same bits.

        Args:
            tensor: MXTensor, NVFP4Tensor, Int8Tensor, IntxUnpackedToInt8Tensor or Float8Tensor,
                scales not swizzled.

        Raises:
            TypeError: for another kind.
            ValueError: for one of them that has no counterpart.

        """
        from strop._quantize.conversions import from_torchao

        return QuantizedTensor(*from_torchao(tensor))

    @staticmethod
    def from_bitsandbytes(packed: Tensor, quant_state: Any) -> QuantizedTensor:
        """From what ``bitsandbytes.functional.quantize_4bit`` gives for ``nf4``.

        Args:
            packed: uint8, two codes to a byte.
            quant_state: its state; absmax may be quantized as well.

        Raises:
            TypeError: for codes that are no uint8.
            ValueError: for fp4, and for blocks that cross rows.

        """
        from strop._quantize.conversions import from_bitsandbytes

        return QuantizedTensor(*from_bitsandbytes(packed, quant_state))

    @staticmethod
    def from_float8(
        tensor: Tensor,
        scale: Tensor | None = None,
        *,
        block_size: Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> QuantizedTensor:
        """From a torch.float8_e4m3fn or torch.float8_e5m2 tensor, whose bytes are kept.

        Args:
            tensor: the values.
            scale: that they are multiplied by (DeepSeek's ``weight_scale_inv`` is such a one): one
                element, or one for each block; None is 1.
            block_size: elements that share a scale: one entry per dimension, -1 for a whole axis. A
                last block may be short. None: what the scale's shape leaves no doubt of, such as one
                scale for the tensor, each row or each column. [192, 128] with scales [2, 1] may be
                blocks of 128 as well as of 96.
            dtype: to restore.

        Raises:
            TypeError: for another dtype.
            ValueError: for a scale whose shape is no grid of blocks, or one of several block sizes.

        Example:
            >>> import strop, torch
            >>> x = torch.tensor([1.0, -2.0]).to(torch.float8_e4m3fn)
            >>> strop.dequantize(strop.QuantizedTensor.from_float8(x, torch.tensor(0.5)))
            tensor([ 0.5000, -1.0000])
            >>> x, scale = torch.ones(192, 128).to(torch.float8_e4m3fn), torch.rand(2, 1)
            >>> strop.QuantizedTensor.from_float8(x, scale, block_size=(128, 128)).scale.shape
            torch.Size([2, 1])

        """
        from strop._quantize.conversions import from_float8

        return QuantizedTensor(*from_float8(tensor, scale, block_size=block_size, dtype=dtype))

    @staticmethod
    def from_compressed_tensors(
        state: Mapping[str, Tensor],
        name: str = "",
        *,
        bits: int = 4,
        block_size: Sequence[int] | None = None,
        dtype: torch.dtype | None = None,
    ) -> QuantizedTensor:
        """From a weight of a compressed-tensors checkpoint.

        Of format pack-quantized, whose codes lie densely in int32 words (of 3, 5, 6 and 7 bits older
        versions left bits of every word unused, which is another layout); or int-quantized and
        float-quantized, which keep a byte a weight.

        Zero points of packed weights are packed as well, in int32, where each row has scales of its
        own (the strategies channel and group); all others are int8.

        Args:
            state: with ``weight_packed``, ``weight_scale``, ``weight_shape`` and, where they are,
                ``weight_zero_point`` and ``weight_g_idx``; or with ``weight`` and ``weight_scale``.
            name: of the module whose weight it is, such as ``model.layers.0.mlp.up_proj``.
            bits: of a code, as the checkpoint's configuration says.
            block_size: of the strategy block, such as (128, 128). None: the strategies tensor,
                channel and group, whose groups divide a row and so follow from the scale's shape.
            dtype: to restore; None is that of the scales.

        Raises:
            ValueError: for keys that are missing, shapes that do not fit, columns that are reordered,
                and a scale whose blocks may be of several sizes.
            TypeError: for dtypes of another format.

        """
        from strop._quantize.compressed_tensors import from_compressed_tensors

        return QuantizedTensor(
            *from_compressed_tensors(state, name, bits=bits, block_size=block_size, dtype=dtype)
        )

    def validate(self) -> None:
        """Raises ValueError or TypeError where the fields do not fit each other."""
        with in_the_name_of(_NAME):
            format = NumberFormat.get(self.format)
        if not format.bits:
            raise ValueError(f"{_NAME}: format {format.name} has no codes that could be stored")
        if self.dtype not in FLOATING:
            raise TypeError(f"{_NAME}: dtype is {self.dtype}; a floating dtype is needed")
        object.__setattr__(self, "shape", tuple(self.shape))
        if self.block_size is not None:
            object.__setattr__(self, "block_size", tuple(self.block_size))
            if format.block is not None:
                raise ValueError(f"{_NAME}: block_size is given; format {format.name} has its own")
            if len(self.block_size) != len(self.shape):
                raise ValueError(
                    f"{_NAME}: block_size has {len(self.block_size)} entries for a "
                    f"{len(self.shape)}-D tensor"
                )
            if any(b < -1 or b == 0 for b in self.block_size):
                raise ValueError(f"{_NAME}: block_size is {self.block_size}; sizes are 1 or more")
        _check("codes", self.codes, (codes_dtype(format),))
        if tuple(self.codes.shape) != codes_shape(format, self.shape):
            raise ValueError(
                f"{_NAME}: codes has shape {tuple(self.codes.shape)}; {format.name} of shape "
                f"{self.shape} needs {codes_shape(format, self.shape)}"
            )
        self._check_scales(format, block_grid(format, self.block_size, self.shape))

    def _check_scales(self, format: NumberFormat, grid: tuple[int, ...]) -> None:
        wide = torch.float64 if self.scale.dtype == torch.float64 else torch.float32
        bytes = scales_are_bytes(format)
        _check("scale", self.scale, (torch.uint8,) if bytes else (torch.float32, torch.float64))
        _check_broadcast("scale", self.scale, grid)
        if self.zero_point is not None:
            if not format.is_integer:
                raise ValueError(f"{_NAME}: zero_point is given; format {format.name} has none")
            if self.zero_point.is_floating_point() or self.zero_point.dtype == torch.bool:
                _check("zero_point", self.zero_point, (wide,))
            _check_broadcast("zero_point", self.zero_point, grid)
        if (self.tensor_scale is not None) != has_tensor_scale(format):
            what = "missing" if self.tensor_scale is None else "given"
            raise ValueError(f"{_NAME}: tensor_scale is {what} for format {format.name}")
        if self.tensor_scale is not None:
            _check("tensor_scale", self.tensor_scale, (torch.float32, torch.float64))
            if self.tensor_scale.numel() != 1:
                raise ValueError(f"{_NAME}: tensor_scale has {self.tensor_scale.numel()} elements")
        for name, tensor in self.state_dict().items():
            if tensor.device != self.device:
                raise ValueError(
                    f"{_NAME}: {name} is on {tensor.device}, codes is on {self.device}; one device "
                    "is needed"
                )


_NAME = "strop.QuantizedTensor"
_FORMATS = (torch.dtype, NumberFormat)


def _by_bytes(tensor: Tensor, fn: Callable[[Tensor], Tensor]) -> Tensor:
    """What fn makes of a tensor's memory, which no cast changes: itself, or what has its dtype."""
    bytes = tensor.contiguous().view(-1).view(torch.uint8)
    moved = fn(bytes)
    if moved is bytes:
        return tensor
    if moved.dtype != torch.uint8:  # Module.type casts integers as well
        moved = bytes.to(moved.device)
    return moved.view(tensor.dtype).view(tensor.shape)


def _check(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{_NAME}: {name} is a {type(tensor).__name__}; a tensor is needed")
    if tensor.dtype not in dtypes:
        known = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise TypeError(f"{_NAME}: {name} has dtype {tensor.dtype}; {known} is needed")


def _check_broadcast(name: str, tensor: Tensor, grid: tuple[int, ...]) -> None:
    fits = tensor.dim() <= len(grid) and all(
        n in (1, g) for n, g in zip(reversed(tensor.shape), reversed(grid), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{_NAME}: {name} has shape {tuple(tensor.shape)}; {grid}, or what broadcasts to it, "
            "is needed"
        )


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
        RuntimeError: where a scale requires a gradient, which restoring has none for.

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
