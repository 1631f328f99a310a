"""Number formats."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from strop import _C


@dataclass(frozen=True)
class NumberFormat:
    """A number format that tensors can be quantized to.

    Attributes:
        name: as ``format=`` takes it, such as ``"int4"``.
        bits: of a stored code; 0 for ``integer``, whose codes have no bound.
        min: the smallest value of a code.
        max: the largest value of a code.

    """

    name: str
    bits: int
    min: float
    max: float

    @staticmethod
    def get(name: str | torch.dtype | NumberFormat) -> NumberFormat:
        """The format of a name or of a torch dtype.

        Raises:
            ValueError: for an unknown one.

        Example:
            >>> import strop
            >>> strop.NumberFormat.get("int4")
            NumberFormat(name='int4', bits=4, min=-8.0, max=7.0)

        """
        if isinstance(name, NumberFormat):
            return name
        found = _BY_NAME.get(format_name(name))
        if found is None:
            known = ", ".join(_BY_NAME)
            raise ValueError(f"strop.NumberFormat: format {name!r} is not known; known are {known}")
        return found

    def values(self) -> torch.Tensor:
        """Every value of a code, ascending, as float32.

        Raises:
            ValueError: for a format without bounds.

        Example:
            >>> import strop
            >>> strop.NumberFormat.get("int2").values()
            tensor([-2., -1.,  0.,  1.])

        """
        if math.isinf(self.max):
            raise ValueError(f"strop.NumberFormat: format {self.name} has no bounds to list")
        return torch.arange(int(self.min), int(self.max) + 1).to(torch.float32)


_FORMATS = tuple(
    NumberFormat(name, bits, low, high) for name, bits, low, high, _ in _C.number_formats()
)
_BY_NAME = {entry.name: entry for entry in _FORMATS}
_DTYPE_NAMES = {torch.int8: "int8", torch.uint8: "uint8", torch.int16: "int16"}


def formats() -> tuple[NumberFormat, ...]:
    """Every number format.

    Example:
        >>> import strop
        >>> [f.name for f in strop.formats() if f.bits == 4]
        ['int4', 'uint4']

    """
    return _FORMATS


def format_name(given: str | torch.dtype | NumberFormat) -> str:
    """The name of a format given by name, dtype or object; an unknown one as a string."""
    if isinstance(given, str):
        return given
    if isinstance(given, NumberFormat):
        return given.name
    return _DTYPE_NAMES.get(given, str(given))
