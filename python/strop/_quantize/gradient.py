"""Gradients of fake_quantize.

Under a scale chosen from the input: the identity, nothing saved. Under a given scale: straight through
where the code was in range, for which the forward saves one bit an element. Where scale or a floating
zero_point requires a gradient: those of learned step size quantization, from the input once more.

Eager calls meet the autograd functions here directly. Compiled and exported graphs, functorch's
transforms and forward-mode AD meet them through the kernel that the public op has for autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.autograd.function import Function

from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import below_autograd, differentiable, needs_gradient, written_to
from strop._core.op import op
from strop._quantize import ops
from strop._quantize.formats import NumberFormat, has_tensor_scale
from strop._quantize.options import ExplicitOptions, Options


class Call(Protocol):
    """One call but for its tensors: the ops that it consists of."""

    def forward(self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
        """The result."""

    def with_mask(
        self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The result, and which codes were in range."""

    def learned(
        self, gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, scale and zero_point."""

    def composite(self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
        """The result by ops that torch can differentiate again."""


class Interned(NamedTuple):
    """A call whose options are an interned specification."""

    options: tuple[Any, ...]  # as a caller gave them
    spec: int
    seed: int | None
    grad_factor: float

    def forward(self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
        return ops.packed(x, scale, zero_point, self.spec, self.seed)

    def with_mask(
        self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return ops.packed_with_mask(x, scale, zero_point, self.spec, self.seed)

    def learned(
        self, gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return ops.packed_learned_gradient(
            gradient, x, scale, zero_point, self.spec, self.seed, self.grad_factor
        )

    def composite(self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
        name = "strop.fake_quantize"
        explicit = Options(*self.options).plain(name).explicit(name, self.seed, self.grad_factor)
        return Explicit(*explicit).composite(x, scale, zero_point)


class Explicit(ExplicitOptions):
    """A call whose options are those of the public op."""

    __slots__ = ()

    def forward(self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
        return cast(Tensor, _direct(x, scale, zero_point, *self))

    def with_mask(
        self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = ops.public_with_mask(x, scale, zero_point, *self)
        return found

    def learned(
        self, gradient: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = ops.public_learned_gradient(
            gradient, x, scale, zero_point, *self
        )
        return found

    def composite(self, x: Tensor, scale: Tensor | None, zero_point: Tensor | None) -> Tensor:
        # Detached from every transform around this one as well: each adds its own gradient.
        y = self.forward(x, scale, zero_point).detach()
        if scale is None:
            return y + _only_gradient(x)
        units, in_range = self._units(x.detach(), scale.detach(), zero_point)
        passed = torch.where(in_range, x, torch.zeros_like(x))
        result = y + _only_gradient(passed)
        steps = self._spread(scale, x)
        if _differs(scale):
            result = result + (self.grad_factor * units * _only_gradient(steps)).to(x.dtype)
        if zero_point is not None and _differs(zero_point):
            slope = torch.where(in_range, torch.zeros_like(steps), -steps)
            zeros = self._spread(zero_point, x)
            result = result + (self.grad_factor * slope * _only_gradient(zeros)).to(x.dtype)
        return result

    def _units(self, x: Tensor, scale: Tensor, zero_point: Tensor | None) -> tuple[Tensor, Tensor]:
        """By how many scales the result changes with the scale, and where the code was in range.

        All in units of the scale, which is not divided by: it may be 0.
        """
        wide = x.float() if x.element_size() == 2 else x  # where no two codes round to one value
        wide = wide * self._spread(1 / scale, x)
        one = torch.ones_like(scale)
        code = self.forward(wide, one, zero_point)  # less the zero point
        format = NumberFormat.get(self.format)
        if format.is_integer:
            unbounded = self._replace(format="integer", quant_min=None, quant_max=None)
            in_range = (code == unbounded.forward(wide, one, zero_point)) & wide.isfinite()
        else:
            in_range = wide.abs() <= format.max
        return code - torch.where(in_range, wide, torch.zeros_like(wide)), in_range

    def _spread(self, parameter: Tensor, x: Tensor) -> Tensor:
        """A parameter of every block as one that broadcasts to the elements of x."""
        parameter = parameter.reshape((1,) * (x.dim() - parameter.dim()) + tuple(parameter.shape))
        for axis, block in enumerate(self.block_size):
            if parameter.shape[axis] > 1:
                parameter = parameter.repeat_interleave(block, axis).narrow(axis, 0, x.shape[axis])
        return parameter


def _only_gradient(tensor: Tensor) -> Tensor:
    """0, with the gradient of a tensor."""
    return tensor - tensor.detach()


def _differs(tensor: Tensor) -> bool:
    """Whether something is differentiated by a parameter, as far as can be seen."""
    return tensor.is_floating_point() and (tensor.requires_grad or forward_ad._current_level >= 0)


class _Identity(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call) -> Tensor:
        return call.forward(x, None, None)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _StraightThrough(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor | None, call: Call
    ) -> Tensor:
        y, mask = call.with_mask(x, scale, zero_point)
        ctx.save_for_backward(mask)
        ctx.stride = y.stride()
        return y

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (mask,) = ctx.saved_tensors
        return _masked(gradient, mask, ctx.stride), None, None, None


def _masked(gradient: Tensor, mask: Tensor, stride: tuple[int, ...]) -> Tensor:
    if gradient.stride() != stride:  # the mask's bits are places in memory
        gradient = gradient.new_empty_strided(gradient.shape, stride).copy_(gradient)
    if needs_gradient(gradient):
        return cast(Tensor, cast(Any, _Masked).apply(gradient, mask))
    return cast(Tensor, ops.masked_gradient(gradient, mask))


class _Masked(Function):
    """The backward of straight-through, which is linear and its own backward."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.stride = gradient.stride()
        return cast(Tensor, ops.masked_gradient(gradient, mask))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (mask,) = ctx.saved_tensors
        return _masked(gradient, mask, ctx.stride), None


class _Learned(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor | None, call: Call
    ) -> Tensor:
        ctx.save_for_backward(x, scale, zero_point)
        ctx.call = call
        return call.forward(x, scale, zero_point)

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, zero_point = ctx.saved_tensors
        if needs_gradient(gradient):
            return _learned_again(ctx, gradient)
        floating = zero_point is not None and zero_point.is_floating_point()
        zero = None if zero_point is None else zero_point.contiguous()
        of_x, of_scale, of_zero = ctx.call.learned(
            gradient.contiguous(), x.contiguous(), scale.contiguous(), zero
        )
        return of_x, of_scale, of_zero if floating else None, None


def _learned_again(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The backward by ops that have one themselves."""
    tensors = ctx.saved_tensors
    wanted = [t for t, needed in zip(tensors, ctx.needs_input_grad, strict=False) if needed]
    y = ctx.call.composite(*tensors)
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return tuple(next(found) if needed else None for needed in ctx.needs_input_grad[:3]) + (None,)


def _apply_of(function: type[Function]) -> Callable[..., Tensor]:
    """A function's apply, less the 4 us that torch spends there on functorch: see call_path."""
    apply: Callable[..., Tensor] = super(Function, function).apply  # type: ignore[misc]
    return apply


_identity = _apply_of(_Identity)
_straight_through = _apply_of(_StraightThrough)
_learned = _apply_of(_Learned)


def recorded(x: Tensor, scale: Tensor | None, zero_point: Tensor | None, call: Call) -> Tensor:
    """The result, recorded by autograd."""
    if scale is None:
        return _identity(x, call)
    if scale.requires_grad or (zero_point is not None and zero_point.requires_grad):
        return _learned(x, scale, zero_point, call)
    return _straight_through(x, scale, zero_point, call)


def _composite(x: Tensor, scale: Tensor | None, zero_point: Tensor | None, *options: Any) -> Tensor:
    return Explicit(*options).composite(x, scale, zero_point)


def _recorded(x: Tensor, scale: Tensor | None, zero_point: Tensor | None, *options: Any) -> Tensor:
    return recorded(x, scale, zero_point, Explicit(*options))


def _vmap(
    op: OpOverload, info: Any, in_dims: Sequence[int | None], x: Tensor, *rest: Any
) -> tuple[Tensor, int]:
    """The batch as one more dimension of the input, a block to each of it."""
    scale, zero_point, *options = rest
    call = Explicit(*options)
    x_dim, *parameter_dims = in_dims[:3]
    x = x.movedim(x_dim, 0) if x_dim is not None else x.expand(info.batch_size, *x.shape)

    def parameter(tensor: Tensor | None, dim: int | None) -> Tensor | None:
        if tensor is None or dim is None:
            return tensor
        tensor = tensor.movedim(dim, 0)
        ones = (1,) * (x.dim() - tensor.dim())
        return tensor.reshape(tensor.shape[:1] + ones + tensor.shape[1:])

    format = NumberFormat.get(call.format)
    # Each sample has the random numbers, and the tensor's scale, that it has alone.
    if call.rounding == "stochastic" or (
        format.block and (x.dim() == 1 or has_tensor_scale(format))
    ):
        seeds = call.seed_tensor
        seed_dim = None if seeds is None else in_dims[3 + Explicit._fields.index("seed_tensor")]
        results = []
        for i in range(info.batch_size):
            one = [
                t.select(d, i) if t is not None and d is not None else t
                for t, d in zip(
                    (scale, zero_point, seeds), (*parameter_dims, seed_dim), strict=True
                )
            ]
            own = call._replace(seed_tensor=one[2])
            results.append(op(x[i], one[0], one[1], *own))
        return torch.stack(results), 0
    if not format.block:
        shared = [-1] * (x.dim() - 1) if not call.block_size else list(call.block_size)
        call = call._replace(block_size=[1, *shared])
    parameters = [parameter(t, d) for t, d in zip((scale, zero_point), parameter_dims, strict=True)]
    return op(x, *parameters, *call), 0


public = op(
    "fake_quantize",
    fake=ops.fake_new(ops.check_explicit),
    vmap=_vmap,
    autograd=differentiable(composite=_composite, recorded=_recorded),
)
public_out = op(
    "fake_quantize.out",
    fake=ops.fake_written(ops.check_explicit),
    autograd=written_to("strop.fake_quantize"),
)
public_in_place = op(
    "fake_quantize_",
    fake=ops.fake_written(ops.check_explicit, "strop.fake_quantize_"),
    autograd=written_to("strop.fake_quantize_"),
)
_direct = below_autograd(public)
