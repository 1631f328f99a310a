"""Turns what an op raises into the errors that strop's functions promise.

Ops check their arguments in C++. What never gets there, since torch's dispatcher knows no kernel for it or
no tensor in it, is looked at here, after the failure: a call that succeeds pays nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from strop import _C
from strop._core import library
from strop._core.failed_allocation import memory_error

_PLAIN = torch._C._disabled_torch_dispatch_impl


def translated(
    op: str,
    error: Exception,
    tensors: Mapping[str, object],
    seed: object = None,
    *,
    devices: Sequence[str] = library.DEVICES,
) -> Exception:
    """The exception to raise instead of ``error``, which an op raised for these arguments.

    A torch op can raise RuntimeError alone. An argument error left its kind behind (see Note [One
    error text] in csrc/core/argument_error.h) and becomes ValueError or TypeError of the same
    text; an allocation that failed becomes torch's own error for it; what is no tensor, or one that
    no kernel exists for, gets an error that says so. All else stays. The first of the tensors is needed;
    others may be None.
    """
    if (of_memory := memory_error(error)) is not None:
        return of_memory
    if isinstance(error, MemoryError):  # of C++, which says no more
        return MemoryError(f"{op}: there is not enough memory for what it works with")
    if (ours := argument_error(error)) is not None:
        return ours
    if str(error).startswith(f"{op}: "):
        return error
    needed = next(iter(tensors), None)
    given = {n: tensor for n, tensor in tensors.items() if tensor is not None or n == needed}
    for name, tensor in given.items():
        if (problem := unfit(tensor)) is not None:
            return TypeError(f"{op}: {name} {problem}")
    if seed is not None and not isinstance(seed, int):
        if (problem := unfit(seed, "an int or an int64 tensor")) is not None:
            return TypeError(f"{op}: seed {problem}")
        given["seed"] = seed
    if isinstance(seed, int) and not -(2**63) <= seed < 2**63:
        return ValueError(f"{op}: seed {seed} does not fit 64 bits")
    there = {name: tensor for name, tensor in given.items() if isinstance(tensor, Tensor)}
    return _of_devices(op, there, devices) or _of_kinds(op, there) or error


def argument_error(error: Exception) -> Exception | None:
    """The error of the right type for what a C++ check said, if it was one."""
    last = _C.take_argument_error()
    if last is None or last[1] not in str(error):
        return None
    kind, text = last
    return TypeError(text) if kind == "type" else ValueError(text)


def unfit(tensor: object, needed: str = "a tensor") -> str | None:
    """Why something is not what kernels take for a tensor, whatever they do with it."""
    if not isinstance(tensor, Tensor):
        return f"is a {type(tensor).__name__}; {needed} is needed"
    if tensor.is_nested:
        return "is a nested tensor; one of a single shape is needed"
    if tensor.layout is not torch.strided:
        return f"has layout {tensor.layout}; torch.strided is needed"
    if tensor.is_quantized:
        return f"has dtype {tensor.dtype}; a tensor that is not quantized by torch is needed"
    return None


def check_tensors(op: str, **tensors: object) -> None:
    """Raises where one of these is nothing that kernels take; None passes."""
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if (problem := unfit(tensor)) is not None:
            raise TypeError(f"{op}: {name} {problem}")
        if not isinstance(tensor, FakeTensor) and is_foreign(type(tensor)):
            raise _of_foreign(op, name, tensor)


def _of_devices(op: str, tensors: Mapping[str, Tensor], devices: Sequence[str]) -> Exception | None:
    for name, tensor in tensors.items():
        if tensor.device.type not in (*devices, "meta"):
            known = ", ".join(devices)
            return ValueError(f"{op}: {name} is on {tensor.device}; there are kernels for {known}")
    names = list(tensors)
    for name in names[1:]:
        here, first = tensors[name].device, tensors[names[0]].device
        if here != first:
            return ValueError(
                f"{op}: {name} is on {here}, {names[0]} is on {first}; one device is needed"
            )
    return None


def _of_kinds(op: str, tensors: Mapping[str, Tensor]) -> Exception | None:
    fakes = [isinstance(tensor, FakeTensor) for tensor in tensors.values()]
    for name, tensor in tensors.items():
        if isinstance(tensor, FakeTensor):
            if not all(fakes):
                return TypeError(
                    f"{op}: {name} is a FakeTensor, and others have data; mix no kinds"
                )
        elif is_foreign(type(tensor)):
            return _of_foreign(op, name, tensor)
    return None


def is_foreign(kind: type) -> bool:
    """Whether tensors of a subclass bring their own idea of an op."""
    return getattr(kind, "__torch_dispatch__", _PLAIN) is not _PLAIN


def _of_foreign(op: str, name: str, tensor: object) -> TypeError:
    kind = type(tensor).__name__
    return TypeError(f"{op}: {name} is a {kind}; a plain torch.Tensor is needed")


@contextmanager
def in_the_name_of(op: str) -> Iterator[None]:
    """Errors of another function of strop, which this one calls, begin with this one's name."""
    try:
        yield
    except (TypeError, ValueError) as error:
        text = re.sub(r"^strop\.[\w.]+: ", f"{op}: ", str(error))
        raise type(error)(text) from None
