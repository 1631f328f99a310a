"""What torch has to know of the quantize ops beside their kernels: shapes, gradients, mutation.

The public ops spell every argument out and are what compiled and exported graphs contain. The private
ones take the specification as one interned integer and are what eager calls use: each argument of an
op costs 0.4 us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop import _C, _library  # noqa: F401: _library loads the ops

public = torch.ops.strop.fake_quantize.default
public_out = torch.ops.strop.fake_quantize.out
public_in_place = torch.ops.strop.fake_quantize_.default
packed = torch.ops.strop._fake_quantize.default
packed_out = torch.ops.strop._fake_quantize.out
packed_in_place = torch.ops.strop._fake_quantize_.default


def needs_gradient(input: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> bool:
    """Whether autograd would record an op on these tensors."""
    return torch.is_grad_enabled() and (
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
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


def _check_fake(
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
    """What can be said against a call without its data and sizes; the kernel checks everything."""
    _C.intern_quantize_spec(
        op, format, list(block_size) or None, rounding, symmetric, quant_min, quant_max, eps
    )
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, input is on {x.device}")


def _fake_public(x: Tensor, *args: Any, **options: Any) -> Tensor:
    _check_fake("strop.fake_quantize", x, *args, **options)
    return torch.empty_like(x)


def _fake_public_out(x: Tensor, *args: Any, out: Tensor, **options: Any) -> None:
    _check_fake("strop.fake_quantize", x, *args, **options)


def _fake_public_in_place(x: Tensor, *args: Any, **options: Any) -> None:
    _check_fake("strop.fake_quantize_", x, *args, **options)


def _fake_packed(x: Tensor, *args: Any, **options: Any) -> Tensor:
    return torch.empty_like(x)


def _fake_packed_nothing(x: Tensor, *args: Any, **options: Any) -> None:
    return None


_FAKES: dict[str, Callable[..., Any]] = {
    "fake_quantize": _fake_public,
    "fake_quantize.out": _fake_public_out,
    "fake_quantize_": _fake_public_in_place,
    "_fake_quantize": _fake_packed,
    "_fake_quantize.out": _fake_packed_nothing,
    "_fake_quantize_": _fake_packed_nothing,
}
for _name, _fake in _FAKES.items():
    torch.library.register_fake(f"strop::{_name}", _fake)


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
