"""Raises torch's own error where an op got no memory: see Note [Failed allocations] in C++."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

import torch

from strop import _C

_WIDTHS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_Function = TypeVar("_Function", bound=Callable[..., object])


def memory_error(error: Exception) -> Exception | None:
    """What torch raises for the allocation that made an op raise this error, if one did.

    On CPU that is a RuntimeError that says how many bytes were asked for, on a GPU
    torch.OutOfMemoryError. Where torch has the memory by now, what the op raised stays.
    """
    if isinstance(error, torch.OutOfMemoryError):
        return None
    failed = _C.take_failed_allocation()
    if failed is None or failed[0] not in str(error):
        return None
    _, shape, strides, item, gpu = failed
    device = torch.device("cpu") if gpu < 0 else torch.device("cuda", gpu)
    try:
        torch.empty_strided(shape, strides, dtype=_WIDTHS.get(item, torch.uint8), device=device)
    except Exception as of_torch:
        return of_torch.with_traceback(None)
    return None


def raises_memory_errors(function: _Function) -> _Function:
    """A function that torch calls, and whose ops' errors pass no other translation."""

    @functools.wraps(function)
    def wrapped(*arguments: object, **options: object) -> object:
        try:
            return function(*arguments, **options)
        except Exception as error:
            found = memory_error(error)
            if found is None:
                raise
            raise found from None

    return cast(_Function, wrapped)
