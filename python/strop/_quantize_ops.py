"""What torch has to know of the quantize ops beside their kernels: shapes, gradients, mutation.

The public ops spell every argument out and are what compiled and exported graphs contain. The private
ones take the specification as one interned integer and are what eager calls use: each argument of an
op costs 0.4 us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, is_grad_enabled
from torch.autograd.graph import increment_version

from strop import _C, _library

public = _library.ops.fake_quantize.default
public_out = _library.ops.fake_quantize.out
public_in_place = _library.ops.fake_quantize_.default

# An OpOverload's __call__ does nothing but call this, for 0.4 us.
packed: Callable[..., Tensor] = _library.ops._fake_quantize.default._op
packed_out: Callable[..., None] = _library.ops._fake_quantize.out._op
packed_in_place: Callable[..., None] = _library.ops._fake_quantize_.default._op


def needs_gradient(input: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> bool:
    """Whether autograd would record an op on these tensors."""
    return is_grad_enabled() and (
        input.requires_grad
        or (scale is not None and scale.requires_grad)
        or (zero_point is not None and zero_point.requires_grad)
    )


def gradient_refused(op: str) -> RuntimeError:
    """What to raise where a gradient would be needed."""
    return RuntimeError(
        f"{op}: a tensor requires a gradient, and this op has none; detach the tensor, or call "
        "under torch.no_grad()"
    )


def mark_written(tensor: Tensor) -> None:
    """Tells autograd that an op wrote to a tensor: C++ ops of the stable ABI do not."""
    increment_version((tensor,))


_FLOATING = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _check_tensors(op: str, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> None:
    """What can be said of tensors without data or sizes; the kernel checks everything."""
    if x.dtype not in _FLOATING:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _FLOATING)
        raise TypeError(f"{op}: input has dtype {x.dtype}; one of {known} is needed")
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, input is on {x.device}")


def _check_public(
    op: str,
    x: Tensor,
    scale: Tensor | None,
    zero_point: Tensor | None,
    format: str,
    block_size: Sequence[int],
    rounding: str,
    symmetric: bool,
    seed: int | None = None,
    quant_min: int | None = None,
    quant_max: int | None = None,
    eps: float | None = None,
    seed_tensor: Tensor | None = None,
) -> None:
    _check_tensors(op, x, scale, zero_point)
    _C.intern_quantize_spec(
        op,
        format=format,
        block_size=list(block_size) or None,
        rounding=rounding,
        symmetric=symmetric,
        quant_min=quant_min,
        quant_max=quant_max,
        eps=eps,
    )


def _check_packed(
    op: str,
    x: Tensor,
    scale: Tensor | None,
    zero_point: Tensor | None,
    spec: int,
    seed: int | None = None,
) -> None:
    _check_tensors(op, x, scale, zero_point)


def _fake(op: str, check: Callable[..., None], makes: bool) -> Callable[..., Tensor | None]:
    """The shape of a result: input's, or nothing where the op writes to what it was given."""

    def fake(x: Tensor, *args: Any, out: Tensor | None = None, **options: Any) -> Tensor | None:
        check(op, x, *args, **options)
        return torch.empty_like(x) if makes else None

    return fake


for _prefix, _check in (("", _check_public), ("_", _check_packed)):
    for _name, _op, _makes in (
        ("fake_quantize", "strop.fake_quantize", True),
        ("fake_quantize.out", "strop.fake_quantize", False),
        ("fake_quantize_", "strop.fake_quantize_", False),
    ):
        torch.library.register_fake(f"strop::{_prefix}{_name}", _fake(_op, _check, _makes))


def _autograd_kernel(name: str, op: Any) -> Callable[..., Any]:
    """Refuses gradients, else goes on to the kernels below autograd."""

    def kernel(*args: Any, **options: Any) -> Any:
        tensors = [a for a in (*args, *options.values()) if isinstance(a, Tensor)]
        if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
            raise gradient_refused(f"strop.{name}")
        with torch._C._AutoDispatchBelowAutograd():
            result = op(*args, **options)
        for written in (options.get("out"), args[0] if name.endswith("_") else None):
            if written is not None:
                mark_written(written)
        return result

    return kernel


_autograd = torch.library.Library("strop", "IMPL")
_autograd.impl("fake_quantize", _autograd_kernel("fake_quantize", public), "Autograd")
_autograd.impl("fake_quantize.out", _autograd_kernel("fake_quantize", public_out), "Autograd")
_autograd.impl("fake_quantize_", _autograd_kernel("fake_quantize_", public_in_place), "Autograd")
for _name in ("_fake_quantize", "_fake_quantize.out", "_fake_quantize_"):
    _autograd.impl(_name, torch.library.fallthrough_kernel, "Autograd")
