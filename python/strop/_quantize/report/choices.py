"""The formats that a quantization report compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from strop._quantize.fake_quantize import fake_quantize
from strop._quantize.formats import NumberFormat

_OP = "strop.quantization_report"
_OPTIONS = (
    "format",
    "block_size",
    "rounding",
    "symmetric",
    "quant_min",
    "quant_max",
    "eps",
    "seed",
)
_USUAL = ("int8", "int4", "float8_e4m3fn", "mxfp8", "mxfp6_e2m3", "mxfp4", "nvfp4", "nf4")
_Format = str | torch.dtype | NumberFormat
Formats = Sequence[_Format | tuple[_Format, Sequence[int] | None]] | Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Choice:
    """A format and how it is used.

    Attributes:
        label: names it in the report.
        format: of the codes.
        block_size: rows and columns that share a scale; None is all of them, or as a recipe says.
        others: the other options of :func:`strop.fake_quantize`.

    """

    label: str
    format: NumberFormat
    block_size: tuple[int, int] | None
    others: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """As :func:`strop.fake_quantize` takes them."""
        return {"format": self.format, "block_size": self.block_size, **self.others}

    @property
    def symmetric(self) -> bool:
        """Whether zero points are the format's own."""
        return bool(self.others.get("symmetric", True))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        if self.format.block is not None:
            block = [1, self.format.block]
        else:
            block = list(self.block_size or (-1, -1))
        named = {"label": self.label, "format": self.format.name, "block_size": block}
        return {**named, **self.others}


def choices(formats: Formats | None) -> list[Choice]:
    """The choices that a caller wrote down, checked."""
    if formats is None:
        formats = _USUAL
    if isinstance(formats, Mapping):
        found = [_of_mapping(label, options) for label, options in formats.items()]
    elif isinstance(formats, Sequence) and not isinstance(formats, str | bytes):
        found = [_of_entry(entry, f"formats[{i}]") for i, entry in enumerate(formats)]
    else:
        raise TypeError(
            f"{_OP}: formats is a {type(formats).__name__}; a sequence of formats, or a mapping "
            "from labels to options of fake_quantize, is needed"
        )
    if not found:
        raise ValueError(f"{_OP}: formats is empty; one format at least is needed")
    labels = [choice.label for choice in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"{_OP}: formats has {label!r} {labels.count(label)} times")
    return found


def _of_entry(entry: Any, where: str) -> Choice:
    """Of an entry of a sequence."""
    if isinstance(entry, tuple):
        if len(entry) != 2:
            raise ValueError(f"{_OP}: {where} has {len(entry)} entries; (format, block_size) has 2")
        options = {"format": entry[0], "block_size": entry[1]}
    else:
        options = {"format": entry}
    choice = _checked(None, options, where)
    return Choice(_label(choice), choice.format, choice.block_size, {})


def _of_mapping(label: Any, options: Any) -> Choice:
    """Of an entry of a mapping."""
    if not isinstance(label, str):
        raise TypeError(
            f"{_OP}: a key of formats is a {type(label).__name__}; a label, a string, is needed"
        )
    where = f"formats[{label!r}]"
    if not isinstance(options, Mapping):
        raise TypeError(
            f"{_OP}: {where} is a {type(options).__name__}; a mapping of options is needed"
        )
    for name in options:
        if name not in _OPTIONS:
            raise ValueError(f"{_OP}: {where} has {name!r}; known are {', '.join(_OPTIONS)}")
    if "format" not in options:
        raise ValueError(f"{_OP}: {where} lacks 'format'")
    return _checked(label, options, where)


def _checked(label: str | None, options: Mapping[str, Any], where: str) -> Choice:
    """A choice of which one is sure that fake_quantize takes it."""
    options = {name: _plain(value) for name, value in options.items()}
    given = options["format"]
    if not isinstance(given, str | torch.dtype | NumberFormat):
        allowed = "a name, dtype or NumberFormat" if label is not None else _entries()
        raise TypeError(f"{_OP}: {where} is a {type(given).__name__}; {allowed} is needed")
    seed = options.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise TypeError(f"{_OP}: {where}: seed is a {type(seed).__name__}; an int is needed")
    try:
        format = NumberFormat.get(given)
        block = options["block_size"] if "block_size" in options else usual_block(format)
        if block is not None and isinstance(block, tuple | list) and len(block) != 2:
            raise ValueError(
                f": block_size has {len(block)} entries; give 2, for a weight's rows and columns"
            )
        others = {n: v for n, v in options.items() if n not in ("format", "block_size")}
        fake_quantize(torch.zeros(1, 1), format=format, block_size=block, **others)
    except (TypeError, ValueError) as error:
        _, _, text = str(error).partition(": ")
        raise type(error)(f"{_OP}: {where}: {text}") from None
    return Choice(label or "", format, None if block is None else tuple(block), others)


def _plain(value: Any) -> Any:
    """Numpy's numbers as Python's, which JSON takes."""
    if isinstance(value, tuple | list):
        return tuple(_plain(entry) for entry in value)
    scalar = isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0)
    return value.item() if scalar else value


def _entries() -> str:
    return "a name, dtype, NumberFormat or (format, block_size)"


def usual_block(format: NumberFormat) -> tuple[int, int] | None:
    """Rows and columns that usually share a scale; None where a recipe fixes them.

    A row in formats of 8 bits and more, 64 columns in NF4, 32 in what else has less than 8 bits.
    """
    if format.block is not None:
        return None
    if format.bits >= 8:
        return (1, -1)
    return (1, 64) if format.name == "nf4" else (1, 32)


def _label(choice: Choice) -> str:
    """The format and who shares a scale, in words."""
    if choice.format.block is not None:
        return choice.format.name
    rows, columns = choice.block_size or (-1, -1)
    shared = {(-1, -1): "per tensor", (1, -1): "per row", (-1, 1): "per column"}
    sharing = shared.get((rows, columns))
    if sharing is None and rows == 1:
        sharing = f"groups of {columns}"
    elif sharing is None:
        tile = "x".join("all" if size < 0 else str(size) for size in (rows, columns))
        sharing = f"blocks of {tile}"
    return f"{choice.format.name} {sharing}"
