"""Numbers as callers have them, numpy's among them, as the plain ones that ops take."""

from __future__ import annotations

import operator
from contextlib import suppress
from numbers import Real

import numpy as np
import torch
from torch import Tensor
from torch.compiler import is_compiling


def integer(op: str, name: str, value: object, allowed: str = "an int") -> int:
    """An int, also of numpy (a 0-d array of integers too), or a TypeError that names what is none."""
    if type(value) is int:
        whole = value
    elif isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    else:
        whole = _whole(op, name, value, allowed)
        if is_compiling():  # it may be a symbol
            return whole
    if not -(2**63) <= whole < 2**63:
        raise ValueError(f"{op}: {name} is {whole}, which does not fit 64 bits")
    return whole


def _whole(op: str, name: str, value: object, allowed: str) -> int:
    if not isinstance(value, bool | Tensor):  # (a tensor's number would have to be waited for)
        with suppress(TypeError):
            return operator.index(value)  # type: ignore[arg-type]
    raise TypeError(f"{op}: {name} is {named_kind(value)}; {allowed} is needed")


def boolean(op: str, name: str, value: object, allowed: str = "a bool") -> bool:
    """A bool, also of numpy, or a TypeError that names what is none."""
    if type(value) is bool:
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    raise TypeError(f"{op}: {name} is {named_kind(value)}; {allowed} is needed")


def number(op: str, name: str, value: object, allowed: str = "a number") -> float | None:
    """A number as the ops have it, None as None, or a TypeError that names what is none."""
    if value is None or type(value) is float:
        return value
    if isinstance(value, np.ndarray) and value.ndim == 0 and value.dtype.kind in "iuf":
        value = value.item()
    if not isinstance(value, Real | torch.SymFloat) or isinstance(value, bool):
        raise TypeError(f"{op}: {name} is {named_kind(value)}; {allowed} is needed")
    if isinstance(value, torch.SymFloat):
        return value  # type: ignore[return-value]
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{op}: {name} is beyond what float64 holds") from None


def needed_number(op: str, name: str, value: object) -> float:
    """A number as the ops have it, or a TypeError that names what is none."""
    if value is None:
        raise TypeError(f"{op}: {name} is {named_kind(value)}; a number is needed")
    return number(op, name, value)  # type: ignore[return-value]


def instance(
    op: str, name: str, value: object, kinds: type | tuple[type, ...], allowed: str
) -> None:
    """Raises a TypeError that names what is of none of these types."""
    if not isinstance(value, kinds):
        raise TypeError(f"{op}: {name} is {named_kind(value)}; {allowed} is needed")


def seed_number(op: str, seed: object) -> int | Tensor | None:
    """A seed as the ops have it."""
    if seed is None or isinstance(seed, Tensor):
        return seed
    return integer(op, "seed", seed, "an int or an int64 tensor")


def named_kind(value: object) -> str:
    """The type of a value in the words of an error: ``"a list"``."""
    return f"a {type(value).__name__}"
