"""The quantize ops, and what torch has to know of them beside their kernels: shapes and mutation.

The public ops spell every argument out and are what compiled and exported graphs contain. The packed
ones take the specification as one interned integer and are what eager calls use: each argument of an
op costs 0.4 us.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from strop import _C
from strop._core import library
from strop._core.library import FLOATING
from strop._core.op import register_fake

_ops = library.ops

public = _ops.fake_quantize.default
public_out = _ops.fake_quantize.out
public_in_place = _ops.fake_quantize_.default
public_with_mask = _ops._fake_quantize_with_mask.default
public_learned_gradient = _ops._learned_gradient.default
masked_gradient = _ops._masked_gradient.default
masked_gradient_out = _ops._masked_gradient.out

# An OpOverload's __call__ does nothing but call this, for 0.4 us.
packed: Callable[..., Tensor] = _ops._fake_quantize.default._op
packed_out: Callable[..., None] = _ops._fake_quantize.out._op
packed_in_place: Callable[..., None] = _ops._fake_quantize_.default._op
packed_with_mask: Callable[..., tuple[Tensor, Tensor]] = _ops._fake_quantize_with_mask.packed._op
packed_learned_gradient: Callable[..., tuple[Tensor, Tensor, Tensor]] = (
    _ops._learned_gradient.packed._op
)


def mark_written(tensor: Tensor) -> None:
    """Tells autograd that an op wrote to a tensor: C++ ops of the stable ABI do not."""
    increment_version((tensor,))


def _check_tensors(op: str, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> None:
    """What can be said of tensors without data or sizes; the kernel checks everything."""
    if x.dtype not in FLOATING:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATING)
        raise TypeError(f"{op}: input has dtype {x.dtype}; one of {known} is needed")
    for name, tensor in (("scale", scale), ("zero_point", zero_point)):
        if tensor is not None and tensor.device != x.device:
            raise ValueError(f"{op}: {name} is on {tensor.device}, input is on {x.device}")


def check_spelled(
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
    grad_factor: float = 1.0,
) -> None:
    """Checks the arguments of an op that spells them out."""
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
    grad_factor: float = 1.0,
) -> None:
    _check_tensors(op, x, scale, zero_point)


_Check = Callable[..., None]
_NAME = "strop.fake_quantize"


def _fake_new(check: _Check) -> Callable[..., Tensor]:
    def fake(x: Tensor, *args: Any, **options: Any) -> Tensor:
        check(_NAME, x, *args, **options)
        return torch.empty_like(x)

    return fake


def _fake_written(check: _Check, name: str = _NAME) -> Callable[..., None]:
    def fake(x: Tensor, *args: Any, out: Tensor | None = None, **options: Any) -> None:
        check(name, x, *args, **options)

    return fake


def _fake_with_mask(check: _Check) -> Callable[..., tuple[Tensor, Tensor]]:
    def fake(x: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
        check(_NAME, x, *args, **options)
        return torch.empty_like(x), x.new_empty(((x.numel() + 31) // 32 * 4,), dtype=torch.uint8)

    return fake


def _fake_learned(check: _Check) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def fake(
        gradient: Tensor,
        x: Tensor,
        scale: Tensor,
        zero_point: Tensor | None,
        *args: Any,
        **options: Any,
    ) -> tuple[Tensor, Tensor, Tensor]:
        check(_NAME, x, scale, zero_point, *args, **options)
        zero = x.new_empty((0,), dtype=torch.uint8)
        if zero_point is not None and zero_point.is_floating_point():
            zero = torch.empty_like(zero_point)
        return torch.empty_like(x), torch.empty_like(scale), zero

    return fake


def _fake_masked(gradient: Tensor, mask: Tensor) -> Tensor:
    return torch.empty_like(gradient)


def _fake_masked_out(gradient: Tensor, mask: Tensor, *, out: Tensor) -> None:
    return None


_FAKES: dict[str, Callable[..., Any]] = {
    "fake_quantize": _fake_new(check_spelled),
    "fake_quantize.out": _fake_written(check_spelled),
    "fake_quantize_": _fake_written(check_spelled, _NAME + "_"),
    "_fake_quantize": _fake_new(_check_packed),
    "_fake_quantize.out": _fake_written(_check_packed),
    "_fake_quantize_": _fake_written(_check_packed, _NAME + "_"),
    "_fake_quantize_with_mask": _fake_with_mask(check_spelled),
    "_fake_quantize_with_mask.packed": _fake_with_mask(_check_packed),
    "_learned_gradient": _fake_learned(check_spelled),
    "_learned_gradient.packed": _fake_learned(_check_packed),
    "_masked_gradient": _fake_masked,
    "_masked_gradient.out": _fake_masked_out,
}
for _name, _fake in _FAKES.items():
    register_fake(_name, _fake)
