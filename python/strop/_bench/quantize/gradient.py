"""Cases of the quantize family: gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

import strop
from strop import _C
from strop._bench.case import SIDE, Bar, Call, Case, at_most_us, faster_than, matrix, register
from strop._quantize import ops

_Contenders = Mapping[str, Callable[[], Call]]


def _tiny(backward: bool) -> _Contenders:
    x = torch.randn(16).requires_grad_()
    scale = torch.tensor(0.02)
    dy = torch.randn(16)

    def ours() -> Tensor:
        return strop.fake_quantize(x, scale)

    def theirs() -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, 0.02, 0, -128, 127)

    def and_back(forward: Callable[[], Tensor]) -> Call:
        return lambda: torch.autograd.backward(forward(), dy, inputs=(x,))

    if backward:
        return {"strop": lambda: and_back(ours), "torch": lambda: and_back(theirs)}
    return {"strop": lambda: ours, "torch": lambda: theirs}


def _masked() -> _Contenders:
    x = matrix()
    out = torch.empty_like(x)
    mask = ops.packed_with_mask(
        x, torch.tensor(0.02), None, _C.intern_quantize_spec("strop", format="int8")
    )[1]
    return {
        "strop": lambda: lambda: ops.masked_gradient_out(x, mask, out=out),
        "copy_": lambda: lambda: out.copy_(x),
    }


def _forward_with_mask() -> _Contenders:
    # Over numpy arrays: the op makes a fresh output and mask, whose page faults would be the figure.
    x = matrix().numpy()
    scale = torch.tensor(0.02).numpy()
    out = torch.empty(SIDE, SIDE).numpy()
    mask = torch.zeros(SIDE * SIDE // 8, dtype=torch.uint8).numpy()
    return {
        "strop": lambda: lambda: _C.cpu.fake_quantize(x, scale, out=out, mask=mask),
        "without": lambda: lambda: _C.cpu.fake_quantize(x, scale, out=out),
    }


def _learned_backward(block_size: tuple[int, int], grid: tuple[int, int]) -> _Contenders:
    # Both make their results, as autograd has them do.
    x, dy = matrix(), matrix()
    scale = torch.full(grid, 0.02)
    spec = _C.intern_quantize_spec("strop", format="int8", block_size=block_size)
    mask = ops.packed_with_mask(x, scale, None, spec)[1]
    return {
        "strop": lambda: lambda: ops.packed_learned_gradient(dy, x, scale, None, spec),
        "plain": lambda: lambda: ops.masked_gradient(dy, mask),
    }


def _learned() -> _Contenders:
    x = matrix().requires_grad_()
    scale = torch.full((SIDE,), 0.02).requires_grad_()
    zero = torch.zeros(SIDE).requires_grad_()
    dy = torch.ones(SIDE, SIDE)
    leaves = (x, scale, zero)

    def ours() -> object:
        y = strop.fake_quantize(x, scale[:, None], zero[:, None], block_size=(1, -1))
        return torch.autograd.grad(y, leaves, dy)

    def theirs() -> object:
        y = torch._fake_quantize_learnable_per_channel_affine(x, scale, zero, 0, -128, 127, 1.0)
        return torch.autograd.grad(y, leaves, dy)

    return {"strop": lambda: ours, "torch": lambda: theirs}


register(
    Case(
        "quantize",
        "a call on 16 elements, gradient required",
        partial(_tiny, False),
        bars=(at_most_us(18.0),),
    )
)
register(
    Case(
        "quantize",
        "a call on 16 elements and its backward",
        partial(_tiny, True),
        bars=(at_most_us(110.0),),
    )
)
register(
    Case(
        "quantize",
        "backward by mask, float32, kept buffer",
        _masked,
        moved_bytes=8 * SIDE * SIDE + SIDE * SIDE // 8,
        bars=(faster_than("copy_", 0.75),),
    )
)
register(
    Case(
        "quantize",
        "forward that writes the mask, float32, kept buffers",
        _forward_with_mask,
        moved_bytes=8 * SIDE * SIDE + SIDE * SIDE // 8,
        bars=(Bar("x without", lambda t: t["without"] / t["strop"], 0.85),),
    )
)
for _name, _block, _grid in (
    ("groups of 32", (1, 32), (SIDE, SIDE // 32)),
    ("per row", (1, -1), (SIDE, 1)),
):
    register(
        Case(
            "quantize",
            f"backward of a learned scale, {_name}, float32",
            partial(_learned_backward, _block, _grid),
            moved_bytes=12 * SIDE * SIDE,
            bars=(Bar("x plain", lambda t: t["strop"] / t["plain"], 1.6, at_least=False),),
        )
    )
register(
    Case(
        "quantize",
        "learned scale and zero point per channel, forward and backward",
        _learned,
    )
)
