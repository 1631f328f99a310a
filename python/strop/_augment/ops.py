"""The ops of augmentation, and what torch has to know of them beside their kernels.

augment_images has a gradient of floating images, in which the result is affine: a pixel's gradient is split
among the taps that it was mixed from, the adjoint of the warp. Both are linear, and each is the other's
backward. Matrices, mean and std have none, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.autograd.function import Function

from strop._core.failed_allocation import raises_memory_errors
from strop._core.gradient import below_autograd, needs_gradient, paths_of, written_to
from strop._core.op import op

AUGMENT_IMAGES = "strop.augment_images"
WARP_MASKS = "strop.warp_masks"

Size = Sequence[int] | None
Dims = Sequence[int | None]
Below = Callable[..., Tensor]
_DEVICES = "{0} and {1} are on different devices"


def _images_of(like: Tensor, size: Size, dtype: torch.dtype, channels_last: bool) -> Tensor:
    shape = (*like.shape[:2], *(like.shape[2:] if size is None else size))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=layout)


# What can be said of tensors without data; the kernels check everything.


def _fake_augment_images(
    images: Tensor,
    matrices: Tensor | None = None,
    mean_tensor: Tensor | None = None,
    std_tensor: Tensor | None = None,
    *,
    size: Size = None,
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    **options: Any,
) -> Tensor:
    if images.dim() != 4:
        raise ValueError(
            f"strop.augment_images: images have shape {list(images.shape)}; "
            "four dimensions are needed: batch, channels, rows, columns"
        )
    return _images_of(images, size, dtype, channels_last)


def _fake_augment_gradient(
    gradient: Tensor,
    *tensors: Tensor | None,
    size: Sequence[int],
    dtype: torch.dtype = torch.float32,
    channels_last: bool = False,
    **options: Any,
) -> Tensor:
    return _images_of(gradient, size, dtype, channels_last)


def _fake_warp_masks(
    masks: Tensor, matrices: Tensor | None = None, *, size: Size = None, fill: float = 0.0
) -> Tensor:
    return masks.new_empty((*masks.shape[:-2], *(masks.shape[-2:] if size is None else size)))


def _fake_written(*tensors: Tensor | None, **options: Any) -> None:
    return None


def _folded(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    """Every sample's batch in one: [samples * B, ...]."""
    many = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return many.flatten(0, 1)


def _folded_matrices(matrices: Tensor, dim: int | None, size: int, batch: int) -> Tensor:
    """The same of matrices, of which one may be for all images of a batch."""
    if dim is None:
        return matrices if matrices.shape[0] == 1 else _folded(matrices, dim, size)
    matrices = matrices.movedim(dim, 0)
    if matrices.shape[1] == 1:
        matrices = matrices.expand(size, batch, *matrices.shape[2:])
    return matrices.flatten(0, 1)


def _vmap(
    op: OpOverload,
    info: Any,
    in_dims: Dims,
    images: Tensor,
    *tensors: Tensor | None,
    **options: Any,
) -> tuple[Tensor, int]:
    """The rule of an op whose first tensors are images and matrices; all others are parameters."""
    n = info.batch_size
    given = [images, *tensors]
    if any(dim is not None for dim in in_dims[2 : len(given)]):  # a mean or std of its own
        samples = [
            [
                tensor if tensor is None or dim is None else tensor.select(dim, i)
                for tensor, dim in zip(given, in_dims, strict=False)
            ]
            for i in range(n)
        ]
        return torch.stack([op(*sample, **options) for sample in samples]), 0
    batch = images.shape[0] if in_dims[0] is None else images.movedim(in_dims[0], 0).shape[1]
    if tensors and tensors[0] is not None:
        given[1] = _folded_matrices(tensors[0], in_dims[1], n, batch)
    result = op(_folded(images, in_dims[0], n), *given[1:], **options)
    return result.unflatten(0, (n, batch)), 0


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
        warp: Callable[..., Tensor] = augment_images
        return warp(images, matrices, None, std, **self._asdict())

    def adjoint(self, gradient: Tensor, matrices: Tensor | None, std: Tensor | None) -> Tensor:
        """The adjoint of a warp."""
        adjoint: Callable[..., Tensor] = augment_gradient
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
            return cast(
                Tensor,
                _direct_images(images, matrices, mean, std, **call._asdict(), **shift),
            )

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
        with _for_outer_transforms():
            return cast(Tensor, _direct_adjoint(gradient, matrices, std, **call._asdict()))

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


def _refuse_gradient(called: str, **tensors: Tensor | None) -> None:
    """Raises where a gradient would be needed of one of these, which have none."""
    for name, tensor in tensors.items():
        if needs_gradient(tensor):
            raise RuntimeError(
                f"{called}: {name} would need a gradient, and there is none of {name}; detach the "
                "tensor, or call under torch.no_grad()"
            )


def _augmented(
    below: Below,
    images: Tensor,
    matrices: Tensor | None = None,
    mean_tensor: Tensor | None = None,
    std_tensor: Tensor | None = None,
    **options: Any,
) -> Tensor:
    _refuse_gradient(AUGMENT_IMAGES, matrices=matrices, mean=mean_tensor, std=std_tensor)
    dtype = options.get("dtype", torch.float32)
    if not dtype.is_floating_point or not needs_gradient(images):
        return below(images, matrices, mean_tensor, std_tensor, **options)
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


def _adjoint(
    below: Below,
    gradient: Tensor,
    matrices: Tensor | None,
    std_tensor: Tensor | None,
    **options: Any,
) -> Tensor:
    if not needs_gradient(gradient):
        return below(gradient, matrices, std_tensor, **options)
    defaults = {"std": None, "interpolation": "bilinear", "fill_mode": "constant"}
    call = Call(**{"dtype": torch.float32, "channels_last": False, **defaults, **options})
    return _recorded(_Adjoint, gradient, matrices, std_tensor, call)


def _warped_masks(
    below: Below, masks: Tensor, matrices: Tensor | None = None, **options: Any
) -> Tensor:
    written = {name: options[name] for name in ("out",) if name in options}
    _refuse_gradient(WARP_MASKS, masks=masks, matrices=matrices, **written)
    return below(masks, matrices, **options)


augment_images = op(
    "augment_images",
    fake=_fake_augment_images,
    vmap=_vmap,
    autograd=_augmented,
    on_devices=_DEVICES,
)
augment_images_out = op(
    "augment_images.out",
    fake=_fake_written,
    autograd=written_to(AUGMENT_IMAGES),
    on_devices=_DEVICES,
)
augment_gradient = op(
    "_augment_gradient",
    fake=_fake_augment_gradient,
    vmap=_vmap,
    autograd=_adjoint,
    on_devices=_DEVICES,
)
warp_masks = op(
    "warp_masks", fake=_fake_warp_masks, vmap=_vmap, autograd=_warped_masks, on_devices=_DEVICES
)
warp_masks_out = op(
    "warp_masks.out", fake=_fake_written, autograd=_warped_masks, on_devices=_DEVICES
)
_direct_images = below_autograd(augment_images)
_direct_adjoint = below_autograd(augment_gradient)
IMAGES = paths_of(augment_images, partial(_augmented, _direct_images))
IMAGES_OUT = paths_of(augment_images_out)
MASKS = paths_of(warp_masks)
MASKS_OUT = paths_of(warp_masks_out)
