"""Cases of the augment family: photographs warped and normalised by the batch, on one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

import strop
from strop._bench.augment import peers
from strop._bench.augment.photographs import (
    COUNT,
    MEAN,
    SIDE,
    STD,
    drawn_matrices,
    flips,
    greys,
    masks,
    photographs,
)
from strop._bench.case import Bar, Call, Case, at_most_us, faster_than, register

_Contenders = Mapping[str, Callable[[], Call]]

WHOLE = "geometry and normalise, float32"
BYTES = "geometry alone, uint8"
SMALLER = "256 to 224, float32"
NEAREST = "warp_masks, one channel"
NORMALISED = "normalise and cast alone, uint8 to float32"
FLIPPED = "flips and normalise, uint8 to float32"
# Contenders that are strop's own: what a case is altered from.
VARIANTS = (
    *("float32 output", "NCHW input", "NCHW output", "uint8 input"),
    *("256 to 256", "constant", "bilinear", "strop, 2 threads"),
)
SQUARE = (SIDE, SIDE)
_NORMALISED: dict[str, Any] = {"mean": MEAN, "std": STD}
_MOST_KIB = 2048  # beside the tensors, for a thread
_VALUES = COUNT * 3 * SIDE * SIDE
_COPIED = 8 * _VALUES  # bytes that a copy of the float32 batch moves


def augmented(
    images: Tensor, matrices: Tensor | None = None, size: tuple[int, int] = SQUARE, **options: Any
) -> Callable[[], Tensor]:
    """A call of ``augment_images`` into a kept output."""
    layout = {k: options[k] for k in ("dtype", "memory_format") if k in options}
    if options.get("dtype") != torch.uint8:
        options = _NORMALISED | options
    out = torch.empty(*images.shape[:2], *size, **layout)
    return lambda: strop.augment_images(images, matrices, size=size, out=out, **options)


def _case(name: str, contenders: Callable[[], _Contenders], *bars: Bar, **more: Any) -> None:
    register(Case("augment", name, contenders, bars=bars, **{"images": COUNT} | more))


def _whole() -> _Contenders:
    x, m = photographs(), drawn_matrices()
    return {
        "strop": lambda: augmented(x, m),
        "AlbumentationsX": lambda: peers.albumentationsx(x),
        "kornia": lambda: peers.kornia(x),
        "torchvision v2": lambda: peers.torchvision(x),
        "torchvision v2, one draw": lambda: peers.torchvision_once(x),
        "torch grid_sample": lambda: peers.torch_sampler(x, m, SQUARE),
        "cv2.warpAffine, then torch": lambda: peers.opencv_then_torch(x, m, SQUARE),
        "cv2.warpAffine alone": lambda: peers.opencv(x, m, SQUARE),
    }


def _bytes() -> _Contenders:
    x, m = photographs(), drawn_matrices()
    return {
        "strop": lambda: augmented(x, m, dtype=torch.uint8),
        "float32 output": lambda: augmented(x, m),
        "cv2.warpAffine": lambda: peers.opencv(x, m, SQUARE),
    }


def _altered(
    other: str, input: Callable[[Tensor], Tensor] = torch.clone, **options: Any
) -> _Contenders:
    """With another input or other options, against the whole case as it is."""
    x, m = photographs(), drawn_matrices()
    return {"strop": lambda: augmented(input(x), m, **options), other: lambda: augmented(x, m)}


def _channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def _unit_range(x: Tensor) -> Tensor:
    return x.float().div_(255)


def _smaller() -> _Contenders:
    x, size = photographs(), (224, 224)
    return {
        "strop": lambda: augmented(x, drawn_matrices(size=size), size),
        "256 to 256": lambda: augmented(x, drawn_matrices()),
        "cv2.warpAffine, then torch": lambda: peers.opencv_then_torch(
            x, drawn_matrices(size=size), size
        ),
    }


def _copy() -> Call:
    x, out = torch.rand(COUNT, 3, *SQUARE), torch.zeros(COUNT, 3, *SQUARE)
    return lambda: out.copy_(x)


def _normalised() -> _Contenders:
    x = photographs()
    scale, shift = peers.folded()
    out = torch.empty(x.shape)
    return {
        "strop": lambda: augmented(x),
        "torch": lambda: lambda: out.copy_(x).mul_(scale).add_(shift),
        "copy_": _copy,
    }


def _flipped() -> _Contenders:
    x, m = photographs(), flips()
    return {
        "strop": lambda: augmented(x, m),
        "cv2.warpAffine, then torch": lambda: peers.opencv_then_torch(x, m, SQUARE),
        "copy_": _copy,
    }


def _of_copy(limit: float) -> Bar:
    """The share of copy_'s bytes a second: a byte is read and four are written, copy_ moves eight."""
    moved = 5 * _VALUES
    return Bar(
        "of copy_'s rate",
        lambda t: moved / t["strop"] * t["copy_"] / _COPIED,
        limit,
        needs=("copy_",),
    )


def _nearest() -> _Contenders:
    labels, grey, m = masks(), greys(), drawn_matrices()
    out = torch.empty_like(labels)
    return {
        "strop": lambda: lambda: strop.warp_masks(labels, m, out=out),
        "bilinear": lambda: augmented(grey, m, dtype=torch.uint8),
        "cv2.warpAffine": lambda: peers.opencv(labels, m, SQUARE, nearest=True),
    }


def corners() -> Tensor:
    """Four boxes for each sample, [samples, 4, 4] xyxy."""
    places = torch.rand(COUNT, 4, 2, 2, generator=torch.Generator().manual_seed(2)) * SIDE
    return places.sort(2).values.flatten(2)


def _points() -> _Contenders:
    points, m = corners()[..., :2].contiguous(), drawn_matrices()
    return {"strop": lambda: lambda: strop.warp_points(points, m)}


def _boxes() -> _Contenders:
    boxes, m = corners(), drawn_matrices()
    return {"strop": lambda: lambda: strop.warp_boxes(boxes, m, size=SQUARE)}


def _threads() -> _Contenders:
    call = augmented(photographs(), drawn_matrices())
    return {"strop": lambda: call, "strop, 2 threads": lambda: call}


def _large() -> _Contenders:
    size = (4096, 4096)
    x, m = photographs(1, 4096), drawn_matrices(1, *size)
    return {
        "strop": lambda: augmented(x, m, size),
        "cv2.warpAffine alone": lambda: peers.opencv(x, m, size),
    }


def _register_geometry() -> None:
    scratch = {"most_extra_kib": _MOST_KIB}
    over = (faster_than("AlbumentationsX", 16), faster_than("cv2.warpAffine alone", 5))
    _case(WHOLE, _whole, *over, **scratch)
    over = (faster_than("float32 output", 1), faster_than("cv2.warpAffine", 5))
    _case(BYTES, _bytes, *over, **scratch)
    _case(SMALLER, _smaller, faster_than("256 to 256", 1.1), **scratch)
    for mode in ("nearest", "reflect", "mirror", "wrap"):
        filled = partial(_altered, "constant", fill_mode=mode)
        _case(f"fill_mode {mode}", filled, faster_than("constant", 0.8), **scratch)
    last = partial(_altered, "NCHW input", _channels_last)
    _case("channels_last input", last, faster_than("NCHW input", 0.95))
    for dtype in (torch.bfloat16, torch.float16):
        cast = partial(_altered, "float32 output", dtype=dtype)
        label = str(dtype).removeprefix("torch.")
        _case(f"{label} output", cast, faster_than("float32 output", 0.95))
    last = partial(_altered, "NCHW output", memory_format=torch.channels_last)
    _case("channels_last output", last)
    _case("float32 input", partial(_altered, "uint8 input", _unit_range))


def _register_rest() -> None:
    moved = {"moved_bytes": 5 * _VALUES}
    _case(NORMALISED, _normalised, _of_copy(0.8), **moved)
    _case(FLIPPED, _flipped, _of_copy(0.8), **moved)
    _case(NEAREST, _nearest, faster_than("bilinear", 1.5))
    _case("warp_points, 64 samples x 4", _points, at_most_us(40), images=0)
    _case("warp_boxes, 64 samples x 4", _boxes, at_most_us(40), images=0)
    two = Bar("x one thread", lambda t: t["strop"] / t["strop, 2 threads"], 1.8)
    more = {"threads": {"strop, 2 threads": 2}, "most_extra_kib": 2 * _MOST_KIB}
    _case("two threads over one", _threads, two, **more)
    _case("one image of 4096x4096", _large, images=1, most_extra_kib=_MOST_KIB)


_register_geometry()
_register_rest()
