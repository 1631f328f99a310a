"""Gradients of augment_images: of floating images, in which the result is affine.

A pixel's gradient is split among the taps that it was mixed from: the adjoint of the warp. Both are
linear, and each is the other's backward. Matrices, mean and std have none, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, is_grad_enabled
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import forward_ad
from torch.autograd.function import Function

from strop import _augment_ops as ops
from strop._core.failed_allocation import raises_memory_errors
from strop._quantize_gradient import refused
from strop._quantize_ops import mark_written

AUGMENT_IMAGES = "strop.augment_images"
WARP_MASKS = "strop.warp_masks"


class Call(NamedTuple):
    """What a call has beside its tensors, but for what moves the result: mean and fill."""

    size: Sequence[int]  # of what is returned, as the next two
    dtype: torch.dtype
    channels_last: bool
    std: Sequence[float] | None
    interpolation: str
    fill_mode: str

    def warped(self, images: Tensor, matrices: Tensor | None, std: Tensor | None) -> Tensor:
        """The warp's linear part."""
        warp: Callable[..., Tensor] = ops.augment_images
        return warp(images, matrices, None, std, **self._asdict())

    def adjoint(self, gradient: Tensor, matrices: Tensor | None, std: Tensor | None) -> Tensor:
        """The adjoint of a warp."""
        adjoint: Callable[..., Tensor] = ops.augment_gradient
        return adjoint(gradient, matrices, std, **self._asdict())

    def back_to(self, images: Tensor) -> Call:
        """The call that returns what is like these images."""
        return self._replace(
            size=tuple(images.shape[2:]),
            dtype=images.dtype,
            channels_last=images.shape[1] > 1 and images.stride(1) == 1,
        )


class _Warped(Function):
    """augment_images."""

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        matrices: Tensor | None,
        mean: Tensor | None,
        std: Tensor | None,
        call: Call,
        shift: dict[str, Any],
    ) -> Tensor:
        ctx.call, ctx.back = call, call.back_to(images)
        ctx.save_for_backward(matrices, std)
        ctx.save_for_forward(matrices, std)
        with _for_outer_transforms():
            return below_autograd(images, matrices, mean, std, **call._asdict(), **shift)

    @staticmethod
    @raises_memory_errors
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.back.adjoint(gradient, *ctx.saved_tensors), None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: Tensor | None) -> Tensor:
        return cast(Tensor, ctx.call.warped(tangent, *ctx.saved_for_forward))


class _Adjoint(Function):
    """_augment_gradient."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, matrices: Tensor | None, std: Tensor | None, call: Call
    ) -> Tensor:
        ctx.call, ctx.back = call, call.back_to(gradient)
        ctx.save_for_backward(matrices, std)
        ctx.save_for_forward(matrices, std)
        with _for_outer_transforms(), torch._C._AutoDispatchBelowAutograd():
            return call.adjoint(gradient, matrices, std)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.back.warped(gradient, *ctx.saved_tensors), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *others: Tensor | None) -> Tensor:
        return cast(Tensor, ctx.call.adjoint(tangent, *ctx.saved_for_forward))


def _recorded(function: type[Function], *arguments: Any) -> Tensor:
    """A function's result as autograd's kernels record it, for functorch's transforms as well.

    Function.apply would begin with functorch's outermost transform; a kernel is called for one of them.
    """
    with enable_single_level_autograd_function():
        return cast(Tensor, super(Function, function).apply(*arguments))  # type: ignore[misc]


@contextmanager
def _for_outer_transforms() -> Iterator[None]:
    """What a Function's forward switches off, and transforms around this one still need."""
    with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
        yield


def below_autograd(*tensors: Tensor | None, **options: Any) -> Tensor:
    """augment_images without a record."""
    with torch._C._AutoDispatchBelowAutograd():
        return cast(Tensor, ops.augment_images(*tensors, **options))


def _has_tangent(tensor: Tensor) -> bool:
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(tensor).tangent is not None


def differs(tensor: Tensor | None) -> bool:
    """Whether something is differentiated by a tensor."""
    if tensor is None or not tensor.is_floating_point():
        return False
    return (tensor.requires_grad and is_grad_enabled()) or _has_tangent(tensor)


def refuse_gradient(op: str, **tensors: Tensor | None) -> None:
    """Raises where a gradient would be needed of one of these, which have none."""
    for name, tensor in tensors.items():
        if differs(tensor):
            raise RuntimeError(
                f"{op}: {name} would need a gradient, and there is none of {name}; detach the "
                "tensor, or call under torch.no_grad()"
            )


def augmented(
    images: Tensor,
    matrices: Tensor | None = None,
    mean_tensor: Tensor | None = None,
    std_tensor: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """augment_images, recorded where a gradient is needed."""
    refuse_gradient(AUGMENT_IMAGES, matrices=matrices, mean=mean_tensor, std=std_tensor)
    dtype = options.get("dtype", torch.float32)
    if not dtype.is_floating_point or not differs(images):
        return below_autograd(images, matrices, mean_tensor, std_tensor, **options)
    size = options.pop("size", None)
    call = Call(
        images.shape[2:] if size is None else size,
        options.pop("dtype", torch.float32),
        options.pop("channels_last", False),
        options.pop("std", None),
        options.pop("interpolation", "bilinear"),
        options.pop("fill_mode", "constant"),
    )
    return _recorded(_Warped, images, matrices, mean_tensor, std_tensor, call, options)


def augmented_out(*tensors: Tensor | None, out: Tensor, **options: Any) -> None:
    """augment_images to a given tensor."""
    if any(differs(tensor) for tensor in (*tensors, out)):
        raise refused(AUGMENT_IMAGES)
    with torch._C._AutoDispatchBelowAutograd():
        ops.augment_images_out(*tensors, **options, out=out)
    mark_written(out)


def _gradient(
    gradient: Tensor, matrices: Tensor | None, std_tensor: Tensor | None, **options: Any
) -> Tensor:
    defaults = {"std": None, "interpolation": "bilinear", "fill_mode": "constant"}
    call = Call(**{"dtype": torch.float32, "channels_last": False, **defaults, **options})
    if differs(gradient):
        return _recorded(_Adjoint, gradient, matrices, std_tensor, call)
    with torch._C._AutoDispatchBelowAutograd():
        return call.adjoint(gradient, matrices, std_tensor)


def warped_masks(masks: Tensor, matrices: Tensor | None = None, **options: Any) -> Tensor:
    """warp_masks, which has no gradient."""
    refuse_gradient(WARP_MASKS, masks=masks, matrices=matrices)
    with torch._C._AutoDispatchBelowAutograd():
        return cast(Tensor, ops.warp_masks(masks, matrices, **options))


def warped_masks_out(
    masks: Tensor, matrices: Tensor | None = None, *, out: Tensor, **options: Any
) -> None:
    """warp_masks to a given tensor."""
    refuse_gradient(WARP_MASKS, masks=masks, matrices=matrices, out=out)
    with torch._C._AutoDispatchBelowAutograd():
        ops.warp_masks_out(masks, matrices, **options, out=out)
    mark_written(out)


_kernels = torch.library.Library("strop", "IMPL")
_kernels.impl("augment_images", raises_memory_errors(augmented), "Autograd")
_kernels.impl("augment_images.out", augmented_out, "Autograd")
_kernels.impl("_augment_gradient", _gradient, "Autograd")
_kernels.impl("warp_masks", raises_memory_errors(warped_masks), "Autograd")
_kernels.impl("warp_masks.out", warped_masks_out, "Autograd")
