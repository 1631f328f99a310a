"""The quantize ops, and what torch has to know of them beside their kernels: shapes and mutation.

The public ops spell every argument out and are what compiled and exported graphs contain. The packed
ones take the specification as one interned integer and are what eager calls use: each argument of an
op costs 0.4 us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from strop._core.library import FLOATING
from strop._core.op import op
from strop._quantize.options import ExplicitOptions


def _check_packed(op: str, x: Tensor, *given: Any, **named: Any) -> None:
    """What can be said of a tensor without sizes; the kernel checks everything."""
    if x.dtype not in FLOATING:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in FLOATING)
        raise TypeError(f"{op}: input has dtype {x.dtype}; one of {known} is needed")


def check_explicit(
    op: str,
    x: Tensor,
    scale: Tensor | None,
    zero_point: Tensor | None,
    *options: Any,
    **named: Any,
) -> None:
    """The same, and what can be said of options that are spelled out."""
    _check_packed(op, x)
    ExplicitOptions(*options, **named).check(op)


_Check = Callable[..., None]
_NAME = "strop.fake_quantize"


def fake_new(check: _Check) -> Callable[..., Tensor]:
    def fake(x: Tensor, *args: Any, **options: Any) -> Tensor:
        check(_NAME, x, *args, **options)
        return torch.empty_like(x)

    return fake


def fake_written(check: _Check, name: str = _NAME) -> Callable[..., None]:
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


public_with_mask = op("_fake_quantize_with_mask", fake=_fake_with_mask(check_explicit))
public_learned_gradient = op("_learned_gradient", fake=_fake_learned(check_explicit))
masked_gradient = op("_masked_gradient", fake=_fake_masked)
masked_gradient_out = op("_masked_gradient.out", fake=_fake_masked_out)

# An OpOverload's __call__ does nothing but call this, for 0.4 us.
packed: Callable[..., Tensor] = op("_fake_quantize", fake=fake_new(_check_packed))._op
packed_out: Callable[..., None] = op("_fake_quantize.out", fake=fake_written(_check_packed))._op
packed_in_place: Callable[..., None] = op(
    "_fake_quantize_", fake=fake_written(_check_packed, _NAME + "_")
)._op
packed_with_mask: Callable[..., tuple[Tensor, Tensor]] = op(
    "_fake_quantize_with_mask.packed", fake=_fake_with_mask(_check_packed)
)._op
packed_learned_gradient: Callable[..., tuple[Tensor, Tensor, Tensor]] = op(
    "_learned_gradient.packed", fake=_fake_learned(_check_packed)
)._op
