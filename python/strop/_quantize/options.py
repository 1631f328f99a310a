"""The options of the functions that quantize: as callers give them, and as the ops take them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from strop import _C
from strop._core.arguments import boolean, instance, integer, needed_number, number, seed_number
from strop._quantize.formats import NumberFormat, format_name


class Options(NamedTuple):
    """What fake_quantize, quantize and choose_scale have in common beside tensors."""

    format: Any
    block_size: Any = None
    rounding: Any = "half_even"
    symmetric: Any = True
    quant_min: Any = None
    quant_max: Any = None
    eps: Any = None

    def plain(self, op: str) -> Options:
        """The same as plain values of the right types, or a TypeError that names the wrong one."""
        kinds = (str, torch.dtype, NumberFormat)
        instance(op, "format", self.format, kinds, "a name, dtype or NumberFormat")
        block_size = self.block_size
        if block_size is not None:
            instance(op, "block_size", block_size, (tuple, list), "a tuple of ints or None")
            block_size = tuple([integer(op, "an entry of block_size", size) for size in block_size])
        instance(op, "rounding", self.rounding, str, "a string")
        return Options(
            format_name(self.format),
            block_size,
            self.rounding,
            boolean(op, "symmetric", self.symmetric),
            _bound(op, "quant_min", self.quant_min),
            _bound(op, "quant_max", self.quant_max),
            number(op, "eps", self.eps, "a float or None"),
        )

    def explicit(self, op: str, seed: object, grad_factor: object = 1.0) -> ExplicitOptions:
        """Plain options as an op spells them out."""
        integer_seed = (
            None if isinstance(seed, Tensor) else cast("int | None", seed_number(op, seed))
        )
        return ExplicitOptions(
            self.format,
            [] if self.block_size is None else self.block_size,
            self.rounding,
            self.symmetric,
            integer_seed,
            self.quant_min,
            self.quant_max,
            self.eps,
            seed if isinstance(seed, Tensor) else None,
            needed_number(op, "grad_factor", grad_factor),
        )

    def interned(self, op: str) -> int:
        """An index into the table of csrc/quantize/spec.h, or -1 where that is full.

        Raises:
            ValueError: for options that do not fit each other.

        """
        index: int = _C.intern_quantize_spec(op, **self._asdict())
        return index


def _bound(op: str, name: str, value: object) -> int | None:
    return None if value is None else integer(op, name, value, "an int or None")


class ExplicitOptions(NamedTuple):
    """The same as an op spells them out, after its tensors."""

    format: str
    block_size: Sequence[int]
    rounding: str
    symmetric: bool
    seed: int | None = None
    quant_min: int | None = None
    quant_max: int | None = None
    eps: float | None = None
    seed_tensor: Tensor | None = None
    grad_factor: float = 1.0

    def check(self, op: str) -> None:
        """Raises what :meth:`Options.interned` does."""
        options = Options(*(getattr(self, name) for name in Options._fields))
        options._replace(block_size=list(self.block_size) or None).interned(op)


# Note [Specification cache]
# The specifications of all calls so far, by their options. One dictionary look-up checks and packs
# seven arguments; this table and that of csrc/quantize/spec.h only grow, to a bound.
_specifications: dict[tuple[Any, ...], int] = {}
_MAX_SPECIFICATIONS = 16384


def specification(op: str, options: tuple[Any, ...]) -> int:
    """The interned specification of a call's options, or -1 for an op that spells them out."""
    try:
        return _specifications[options]
    except (KeyError, TypeError):  # unknown so far, or a list as block_size
        pass
    plain = Options(*options).plain(op)
    index = plain.interned(op)
    if len(_specifications) < _MAX_SPECIFICATIONS:
        _specifications[plain] = index
        with suppress(TypeError):
            _specifications[options] = index
    return index
