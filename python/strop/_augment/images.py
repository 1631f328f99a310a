"""Augmentation: batches of images and masks, warped and normalised in one pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from strop._augment import ops
from strop._augment.size import Size, plain_size
from strop._core.arguments import number
from strop._core.call_path import call_path
from strop._core.errors import translated
from strop._core.library import FLOATING

Numbers = float | Sequence[float]
# Which torch stores, and converts to no other.
_NO_NUMBERS = {getattr(torch, f"{sign}int{bits}") for sign in ("", "u") for bits in range(1, 8)}
_NO_NUMBERS |= {torch.bits1x8, torch.bits2x4, torch.bits4x2, torch.bits8, torch.bits16}
_NO_NUMBERS |= {torch.float4_e2m1fn_x2}
RESULT_DTYPES = (*FLOATING, torch.uint8)


def augment_images(
    images: Tensor,
    matrices: Tensor | None = None,
    *,
    size: Size | None = None,
    mean: Numbers | Tensor | None = None,
    std: Numbers | Tensor | None = None,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill: Numbers = 0,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
    out: Tensor | None = None,
) -> Tensor:
    """Warps, normalises and casts a batch of images in one pass over memory.

    uint8 is scaled to 0..1 where the result is floating: ``y = (v / 255 - mean) / std``; floating
    images are not scaled: ``y = (v - mean) / std``. Positions are in fixed point and bytes are mixed
    in integers, so that every instruction set, number of threads, split of the batch and the GPU give
    the same bits (docs/numerics.md, "Augment").

    Args:
        images: uint8 of 0..255, or float32, bfloat16, float16 or float64 of 0..1, of shape
            [B, C, H, W] with C of 1, 3 or 4; any strides, and none is copied first.
        matrices: [B, 2, 3], or [1, 2, 3] for all images, from output pixel to input pixel in index
            coordinates, x then y: ``M @ (column, row, 1)``. float32, or float64, which is rounded to
            it. One with NaN, Inf or entries beyond 2**24 gives an image of fill. None: the identity,
            or the resize to ``size`` that maps pixel centres; that has no outside, and fill_mode and
            fill change nothing.
        size: (rows, columns) of the result, an int for a square, of numpy's as well; None: as the
            images.
        mean: C numbers, or one for all: a number, a sequence, or a tensor on the device of the
            images, in float32. None is 0. On a GPU a tensor's values are not checked. What is
            computed with, 1 / std and mean / std, has to be finite in float32 (float64 where the
            images or the result are).
        std: the same; None is 1.
        interpolation: ``"bilinear"`` or ``"nearest"``.
        fill_mode: what lies outside where there are matrices, by scipy.ndimage's names but for the
            first two. (numpy's and torch's "reflect" is ``"mirror"``, their "wrap" and "circular"
            ``"grid_wrap"``.)

            - ``"constant"``: fill (scipy's ``"grid-constant"``, as OpenCV and torchvision).
            - ``"hard_constant"``: fill wherever the position is outside of [0, n-1] (scipy's
              ``"constant"``).
            - ``"nearest"``, ``"reflect"``, ``"mirror"``, ``"wrap"``, ``"grid_wrap"``.
        fill: a number that the images' dtype holds, or one for each channel, in the images' units
            before they are normalised; a whole number for uint8 (others are rounded).
        dtype: of the result: float32, bfloat16, float16, float64; or uint8, rounded half to even,
            with neither mean nor std (floating images: 0..1 becomes 0..255).
        memory_format: of the result: ``torch.contiguous_format`` or ``torch.channels_last``.
        out: of the result's shape and dtype, any strides, apart from what is read; memory_format
            does not matter then.

    Returns:
        [B, C, rows, columns] of dtype; ``out`` if given. The gradient of floating images passes through
        the adjoint of the warp, in a fixed order of sums; a uint8 result has none.

    Raises:
        ValueError: a value, shape or device that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: where matrices, mean or std would need a gradient, which they do not have; with
            ``out``, where a tensor requires one.

    Example:
        >>> import strop, torch
        >>> images = torch.tensor([[[[0, 51, 102, 255]]]], dtype=torch.uint8)
        >>> half_left = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
        >>> strop.augment_images(images, half_left, fill=255)
        tensor([[[[0.1000, 0.3000, 0.7000, 1.0000]]]])
        >>> strop.augment_images(images, half_left, fill_mode="nearest", mean=0.5, std=[0.25])
        tensor([[[[-1.6000, -0.8000,  0.8000,  2.0000]]]])
        >>> strop.augment_images(images, size=(1, 2), dtype=torch.uint8)
        tensor([[[[ 26, 178]]]], dtype=torch.uint8)

    """
    op = ops.AUGMENT_IMAGES
    try:
        options: dict[str, Any] = {"size": plain_size(op, size)}
        options["mean"], mean_tensor = _parameter(op, "mean", mean)
        options["std"], std_tensor = _parameter(op, "std", std)
        for name, value in (("interpolation", interpolation), ("fill_mode", fill_mode)):
            options[name] = _instance(op, name, value, str, "string")
        options["fill"] = numbers(op, "fill", fill)
        options["dtype"] = _result_dtype(op, dtype)
        channels_last = _is_channels_last(op, memory_format)
        tensors = (images, matrices, mean_tensor, std_tensor)
        path = call_path(*tensors, out)
        if out is not None:
            ops.IMAGES_OUT[path](*tensors, **options, out=out)
            return out
        return cast(Tensor, ops.IMAGES[path](*tensors, **options, channels_last=channels_last))
    except Exception as error:
        given = {"images": images, "matrices": matrices, "out": out}
        given |= {n: t for n, t in (("mean", mean), ("std", std)) if isinstance(t, Tensor)}
        raise translated(op, error, given) from None


def warp_masks(
    masks: Tensor,
    matrices: Tensor | None,
    *,
    size: Size | None = None,
    fill: float = 0,
    out: Tensor | None = None,
) -> Tensor:
    """Warps masks as :func:`augment_images` warps images: the nearest element, no new values.

    Args:
        masks: bool, any integer dtype, float32, bfloat16, float16 or float64, of shape [B, H, W] or
            [B, C, H, W] with any number of channels; any strides.
        matrices: as of :func:`augment_images`; None resizes to size, and nothing lies outside.
        size: as of :func:`augment_images`.
        fill: what lies outside; a number that the dtype holds.
        out: of the result's shape and dtype, any strides, apart from what is read.

    Returns:
        A contiguous tensor of the masks' dtype, [B, rows, columns] or [B, C, rows, columns]; ``out`` if
        given.

    Raises:
        ValueError: a value, shape or device that does not fit.
        TypeError: a dtype or type that does not fit.
        RuntimeError: where a tensor would need a gradient: there is none. (That of heat maps is
            ``augment_images(..., interpolation="nearest")``'s.)

    Example:
        >>> import strop, torch
        >>> masks = torch.tensor([[[0, 1, 2], [3, 4, 5]]])
        >>> flip = torch.tensor([[[-1.0, 0.0, 2.0], [0.0, 1.0, 0.0]]])
        >>> strop.warp_masks(masks, flip, size=(3, 3), fill=-1)
        tensor([[[ 2,  1,  0],
                 [ 5,  4,  3],
                 [-1, -1, -1]]])

    """
    op = ops.WARP_MASKS
    try:
        options = {"size": plain_size(op, size), "fill": _mask_fill(op, fill)}
        path = call_path(masks, matrices, out)
        if out is None:
            return cast(Tensor, ops.MASKS[path](masks, matrices, **options))
        ops.MASKS_OUT[path](masks, matrices, **options, out=out)
        return out
    except Exception as error:
        given = {"masks": masks, "matrices": matrices, "out": out}
        raise translated(op, error, given) from None


def _instance(op: str, name: str, value: object, kind: type, kind_name: str) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{op}: {name} is a {type(value).__name__}; a {kind_name} is needed")
    return value


def _result_dtype(op: str, dtype: object) -> torch.dtype:
    known: torch.dtype = _instance(op, "dtype", dtype, torch.dtype, "torch.dtype")
    if known not in RESULT_DTYPES:
        name = str(dtype).removeprefix("torch.")
        raise TypeError(
            f"{op}: dtype is {name}; float32, bfloat16, float16, float64 or uint8 is needed"
        )
    return known


def _is_channels_last(op: str, memory_format: object) -> bool:
    _instance(op, "memory_format", memory_format, torch.memory_format, "torch.memory_format")
    if memory_format not in (torch.contiguous_format, torch.channels_last):
        raise ValueError(
            f"{op}: memory_format is {memory_format}; torch.contiguous_format or "
            "torch.channels_last is needed"
        )
    return memory_format == torch.channels_last


def numbers(op: str, name: str, value: object) -> list[float]:
    """A number, or several, as the ops have them."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, Real | torch.SymFloat) and not isinstance(value, bool):
        return [cast(float, number(op, name, value))]
    if isinstance(value, str | bool | Tensor) or not isinstance(value, Iterable):
        kind = type(value).__name__
        raise TypeError(f"{op}: {name} is a {kind}; a number or a sequence of them is needed")
    entries = list(value)
    for entry in entries:
        if entry is None:
            raise TypeError(f"{op}: an entry of {name} is None; a number is needed")
    return [cast(float, number(op, f"an entry of {name}", entry)) for entry in entries]


def _parameter(op: str, name: str, value: object) -> tuple[list[float] | None, Tensor | None]:
    """A mean or std as numbers, or as a tensor."""
    if value is None:
        return None, None
    if not isinstance(value, Tensor):
        return numbers(op, name, value), None
    if value.is_complex() or value.dtype in _NO_NUMBERS:
        raise TypeError(f"{op}: {name} has dtype {value.dtype}; a real dtype is needed")
    return None, value.float()


def _mask_fill(op: str, fill: object) -> float:
    if fill is None:
        raise TypeError(f"{op}: fill is None; a number is needed")
    value = 1.0 if fill is True else 0.0 if fill is False else number(op, "fill", fill)
    if isinstance(fill, int) and value != fill:
        raise ValueError(f"{op}: fill is {fill}, which float64 does not hold; 2**53 does fit")
    return cast(float, value)
