"""Turns what an op raises into the errors that strop's functions promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from strop import _C, _library
from strop._failed_allocation import memory_error


def translated(
    op: str,
    error: Exception,
    tensors: Mapping[str, object],
    seed: object = None,
    *,
    devices: Sequence[str] = _library.DEVICES,
) -> Exception:
    """The exception to raise instead of ``error``, which an op raised for these arguments.

    A torch op can raise RuntimeError alone. An argument error left its kind behind (see Note [One
    error text] in csrc/kernels/argument_error.h) and becomes ValueError or TypeError of the same
    text; an allocation that failed becomes torch's own error for it; what is no tensor, or one that
    no kernel exists for, gets an error that says so. All else stays.
    """
    if (of_memory := memory_error(error)) is not None:
        return of_memory
    if isinstance(error, MemoryError):  # of C++, which says no more
        return MemoryError(f"{op}: there is not enough memory for what it works with")
    last = _C.take_argument_error()
    if last is not None and last[1] in str(error):
        kind, text = last
        return TypeError(text) if kind == "type" else ValueError(text)
    for name, tensor in tensors.items():
        if tensor is not None and not isinstance(tensor, torch.Tensor):
            return TypeError(f"{op}: {name} is a {type(tensor).__name__}; a tensor is needed")
    if seed is not None and not isinstance(seed, int | torch.Tensor):
        kind = type(seed).__name__
        return TypeError(f"{op}: seed is a {kind}; an int or an int64 tensor is needed")
    if isinstance(seed, int) and not -(2**63) <= seed < 2**63:
        return ValueError(f"{op}: seed {seed} does not fit 64 bits")
    if isinstance(error, NotImplementedError):
        for name, tensor in tensors.items():
            if isinstance(tensor, torch.Tensor) and (found := _no_kernel_for(tensor, devices)):
                return found[0](f"{op}: {name} {found[1]}")
    return error


def _no_kernel_for(
    tensor: torch.Tensor, devices: Sequence[str]
) -> tuple[type[Exception], str] | None:
    if tensor.layout != torch.strided:
        return TypeError, f"has layout {tensor.layout}; torch.strided is needed"
    if tensor.is_quantized:
        return TypeError, f"has dtype {tensor.dtype}; a floating dtype is needed"
    if tensor.device.type not in devices:
        known = ", ".join(devices)
        return ValueError, f"is on {tensor.device}; there are kernels for {known}"
    return None
