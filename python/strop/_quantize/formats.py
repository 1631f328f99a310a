"""Number formats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from strop import _C
from strop._core.arguments import instance

_NAME = "strop.NumberFormat"


@dataclass(frozen=True)
class NumberFormat:
    """A number format that tensors can be quantized to.

    A recipe (``mxfp8``, ``nvfp4``...) is a format that fixes blocks and scales as well.

    Attributes:
        name: as ``format=`` takes it, such as ``"int4"``.
        bits: of a stored code; 0 for ``integer``, whose codes have no bound.
        min: the smallest value of a code.
        max: the largest value of a code.
        block: of a recipe, how many elements along the last axis share a scale; else None.

    """

    name: str
    bits: int
    min: float
    max: float
    block: int | None = None

    @staticmethod
    def get(name: str | torch.dtype | NumberFormat) -> NumberFormat:
        """The format of a name or of a torch dtype.

        Raises:
            ValueError: for an unknown one.
            TypeError: for another type.

        Example:
            >>> import strop
            >>> strop.NumberFormat.get("int4")
            NumberFormat(name='int4', bits=4, min=-8.0, max=7.0, block=None)

        """
        if isinstance(name, NumberFormat):
            return name
        instance(_NAME, "name", name, (str, torch.dtype), "a string, torch.dtype or NumberFormat")
        found = _BY_NAME.get(format_name(name))
        if found is None:
            raise ValueError(f"{_NAME}: {_C.unknown_format(format_name(name))}")
        return found

    @property
    def is_integer(self) -> bool:
        """Whether codes are whole numbers."""
        return self.name in _INTEGERS

    def values(self) -> torch.Tensor:
        """Every finite value of a code, ascending, as float32.

        Raises:
            ValueError: for a format without bounds.

        Example:
            >>> import strop
            >>> strop.NumberFormat.get("int2").values()
            tensor([-2., -1.,  0.,  1.])
            >>> strop.NumberFormat.get("float4_e2m1fn").values()[7:]
            tensor([0.0000, 0.5000, 1.0000, 1.5000, 2.0000, 3.0000, 4.0000, 6.0000])

        """
        if math.isinf(self.max):
            raise ValueError(f"{_NAME}: format {self.name} has no bounds to list")
        values = torch.tensor(_C.format_values(self.name), dtype=torch.float32)
        found: torch.Tensor = (values[values.isfinite()] + 0.0).unique()  # (-0 is 0)
        return found


_FORMATS = tuple(
    NumberFormat(name, bits, low, high, block or None)
    for name, bits, low, high, block, _ in _C.number_formats()
)
_INTEGERS = {entry[0] for entry in _C.number_formats() if entry[-1]}
_BY_NAME = {entry.name: entry for entry in _FORMATS}
# By the names that both have; float4 is torch's for two codes in a byte.
_DTYPE_NAMES = {
    dtype: name for name in _BY_NAME if isinstance(dtype := getattr(torch, name, None), torch.dtype)
}
_DTYPE_NAMES[torch.float4_e2m1fn_x2] = "float4_e2m1fn"


def formats() -> tuple[NumberFormat, ...]:
    """Every number format.

    Example:
        >>> import strop
        >>> [f.name for f in strop.formats() if f.bits == 4]
        ['int4', 'uint4', 'float4_e2m1fn', 'nf4', 'mxfp4', 'nvfp4']

    """
    return _FORMATS


def scales_are_bytes(format: NumberFormat) -> bool:
    """Whether a format keeps its blocks' scales as a byte each."""
    return format.block is not None


def has_tensor_scale(format: NumberFormat) -> bool:
    """Whether a scale of the whole tensor multiplies those of its blocks."""
    return format.name == "nvfp4"


def chooses_zero_point(format: NumberFormat, symmetric: bool) -> bool:
    """Whether chosen zero points are other than 0."""
    return format.is_integer and (format.min == 0 or not symmetric)


def format_name(given: str | torch.dtype | NumberFormat) -> str:
    """The name of a format given by name, dtype or object; an unknown one as a string."""
    if isinstance(given, str):
        return given
    if isinstance(given, NumberFormat):
        return given.name
    return _DTYPE_NAMES.get(given, str(given))


def decoded_scales(format: NumberFormat, scale: torch.Tensor) -> torch.Tensor:
    """Scales as floats: those that are kept as bytes, decoded."""
    if not scales_are_bytes(format):
        return scale
    if has_tensor_scale(format):
        return scale.view(torch.float8_e4m3fn).float()
    values = (scale.int() << 23).clamp(min=1 << 22)  # byte 0 is 2^-127, a subnormal
    return torch.where(scale == 255, torch.nan, values.view(torch.float32))


def block_grid(
    format: NumberFormat, block_size: tuple[int, ...] | None, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """How many blocks a tensor has along each of its dimensions."""
    if format.block is not None:
        block_size = (*(1 for _ in shape[:-1]), format.block) if shape else ()
    if block_size is None:
        return tuple(min(n, 1) for n in shape)
    return tuple(
        -(-n // (n if b < 0 else b)) if n else 0 for n, b in zip(shape, block_size, strict=True)
    )


def codes_shape(format: NumberFormat, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor's codes: bytes of rows, or int16."""
    if format.bits > 8:
        return shape
    rows, last = (shape[:-1], shape[-1]) if shape else ((), 1)
    return (*rows, (last * format.bits + 7) // 8)


def codes_dtype(format: NumberFormat) -> torch.dtype:
    """The dtype of a tensor's codes."""
    return torch.int16 if format.bits > 8 else torch.uint8
