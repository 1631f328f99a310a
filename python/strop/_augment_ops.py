"""The ops of augmentation, and what torch has to know of them beside their kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from strop._core import library
from strop._core.op import register_fake, register_vmap

_ops = library.ops

augment_images = _ops.augment_images.default
augment_images_out = _ops.augment_images.out
augment_gradient = _ops._augment_gradient.default
warp_masks = _ops.warp_masks.default
warp_masks_out = _ops.warp_masks.out

Size = Sequence[int] | None
Dims = Sequence[int | None]


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


_FAKES: dict[str, Callable[..., Any]] = {
    "augment_images": _fake_augment_images,
    "augment_images.out": _fake_written,
    "_augment_gradient": _fake_augment_gradient,
    "warp_masks": _fake_warp_masks,
    "warp_masks.out": _fake_written,
}
for _name, _fake in _FAKES.items():
    register_fake(_name, _fake, "{0} and {1} are on different devices")


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


def _vmap(op: Callable[..., Tensor]) -> Callable[..., tuple[Tensor, int]]:
    """The rule of an op whose first tensors are images and matrices; all others are parameters."""

    def rule(
        info: Any, in_dims: Dims, images: Tensor, *tensors: Tensor | None, **options: Any
    ) -> tuple[Tensor, int]:
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

    return rule


register_vmap("augment_images", _vmap(augment_images))
register_vmap("_augment_gradient", _vmap(augment_gradient))
register_vmap("warp_masks", _vmap(warp_masks))
