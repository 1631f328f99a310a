"""Photographs to warp, and one fixed draw of the matrices to warp them by."""

from __future__ import annotations

import math
import warnings
from functools import cache
from itertools import cycle, islice

import torch
from torch import Tensor
from torch.nn.functional import interpolate

COUNT, SIDE = 64, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

ROTATION, SHEAR = 20.0, 10.0  # degrees to either side
SHIFT = 0.2  # of the image's sides, to either side
ZOOM = (0.8, 1.2)

# Those that scikit-image's wheel holds: the others it would fetch.
NAMES = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "stereo_motorcycle",
    "immunohistochemistry",
    "hubble_deep_field",
    "retina",
)


def whole_photographs() -> dict[str, Tensor]:
    """scikit-image's photographs by name, each uint8 [3, H, W].

    Raises:
        ImportError: where scikit-image is not installed.

    """
    from skimage import data

    loaded = {name: getattr(data, name)() for name in NAMES}
    arrays = {name: one[0] if isinstance(one, tuple) else one for name, one in loaded.items()}
    return {name: torch.from_numpy(a).permute(2, 0, 1) for name, a in arrays.items()}


def stand_ins() -> dict[str, Tensor]:
    """Smooth patterns in place of photographs, where scikit-image is not installed."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(len(NAMES), 3, 24, 24, generator=generator) * 255
    return {name: resized(one, 2 * SIDE, 2 * SIDE) for name, one in zip(NAMES, coarse, strict=True)}


def resized(image: Tensor, height: int, width: int) -> Tensor:
    """An image of another size, uint8, antialiased."""
    found = interpolate(image[None].float(), (height, width), mode="bilinear", antialias=True)
    return found[0].round().to(torch.uint8)


@cache
def photographs(count: int = COUNT, side: int = SIDE) -> Tensor:
    """A batch of square pieces of them, uint8 [count, 3, side, side]: the same on every run."""
    try:
        whole = whole_photographs()
    except ImportError as error:
        warnings.warn(f"{error}: patterns stand in for photographs", stacklevel=2)
        whole = stand_ins()
    generator = torch.Generator().manual_seed(0)
    pieces = []
    for image in islice(cycle(whole.values()), count):
        _, height, width = image.shape
        share = 0.6 + 0.4 * torch.rand((), generator=generator).item()
        edge = int(min(height, width) * share)
        top = int(torch.randint(height - edge + 1, (), generator=generator))
        left = int(torch.randint(width - edge + 1, (), generator=generator))
        pieces.append(resized(image[:, top : top + edge, left : left + edge], side, side))
    return torch.stack(pieces)


def greys(count: int = COUNT, side: int = SIDE) -> Tensor:
    """The same in grey, uint8 [count, 1, side, side]."""
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    return (photographs(count, side) * weights).sum(1, keepdim=True).round().to(torch.uint8)


def masks(count: int = COUNT, side: int = SIDE) -> Tensor:
    """Labels 0 to 3 of each pixel, by its grey: regions as ragged as any, uint8 [count, 1, side, side]."""
    return greys(count, side) // 64


def drawn_matrices(
    count: int = COUNT, height: int = SIDE, width: int = SIDE, size: tuple[int, int] | None = None
) -> Tensor:
    """Rotation, shift, shear, zoom and horizontal flips about the centre, [count, 2, 3] float32.

    From output pixels to input pixels, x then y, as ``strop.augment_images`` takes them. The same on
    every run; with an output ``size`` all of the image is scaled to it.
    """
    down, across = size or (height, width)
    u = torch.rand(count, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angle, shear = (
        (2 * u[:, k] - 1) * math.radians(top) for k, top in enumerate((ROTATION, SHEAR))
    )
    zoom_x, zoom_y = (ZOOM[0] + (ZOOM[1] - ZOOM[0]) * u[:, k] for k in (2, 3))
    flip = torch.where(u[:, 4] < 0.5, -1.0, 1.0)
    cos, sin = angle.cos(), angle.sin()
    found = torch.empty(count, 2, 3, dtype=torch.float64)
    found[:, 0, 0] = cos * zoom_x * flip * (width / across)
    found[:, 1, 0] = sin * zoom_x * flip * (width / across)
    found[:, 0, 1] = -(cos * shear.sin() + sin * shear.cos()) * zoom_y * (height / down)
    found[:, 1, 1] = (cos * shear.cos() - sin * shear.sin()) * zoom_y * (height / down)
    middle = torch.tensor([(across - 1) / 2, (down - 1) / 2], dtype=torch.float64)
    shift = SHIFT * (2 * u[:, 5:] - 1) * torch.tensor([width, height], dtype=torch.float64)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    found[:, :, 2] = centre + shift - found[:, :, :2] @ middle
    return found.float()


def flips(count: int = COUNT, width: int = SIDE) -> Tensor:
    """Matrices that flip every second image and leave the others, [count, 2, 3] float32."""
    keep = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    flip = torch.tensor([[-1.0, 0, width - 1], [0, 1, 0]])
    return torch.stack([flip if k % 2 else keep for k in range(count)])
