"""What others make of the same photographs: one call augments a batch, by one thread.

Those that take matrices are given strop's. The others draw their own at every call, from the same ranges, as
their users have them do. Everything that a peer can keep from call to call is made before the first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from strop._bench.augment.photographs import MEAN, ROTATION, SHEAR, SHIFT, STD, ZOOM

Augment = Callable[[], object]


def _of_channels(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _by_rows(images: Tensor) -> list[object]:
    """Numpy arrays [H, W, C], dense, as OpenCV and those that build on it want them."""
    return [image.permute(1, 2, 0).contiguous().numpy() for image in images]


def opencv(
    images: Tensor, matrices: Tensor, size: tuple[int, int], *, nearest: bool = False
) -> Callable[[], Tensor]:
    """Bare ``cv2.warpAffine`` into a kept batch: uint8, channels last, neither normalised nor cast."""
    import cv2

    cv2.setNumThreads(1)
    out = torch.empty(len(images), images.shape[1], *size, dtype=torch.uint8)
    out = out.to(memory_format=torch.channels_last)
    targets = [one.permute(1, 2, 0).numpy() for one in out]
    every = list(zip(_by_rows(images), matrices.numpy(), targets, strict=True))
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR)

    def call() -> Tensor:
        for image, matrix, target in every:
            cv2.warpAffine(image, matrix, size[::-1], dst=target, flags=flags)
        return out

    return call


def opencv_then_torch(
    images: Tensor, matrices: Tensor, size: tuple[int, int]
) -> Callable[[], Tensor]:
    """``cv2.warpAffine``, then the batch normalised by torch: what one would write by hand."""
    warp = opencv(images, matrices, size)
    scale, shift = folded()
    out = torch.empty(len(images), 3, *size)

    def call() -> Tensor:
        out.copy_(warp())
        return out.mul_(scale).add_(shift)

    return call


def folded() -> tuple[Tensor, Tensor]:
    """Factor and summand of each channel that scale a byte to 0..1 and normalise it."""
    mean, std = _of_channels(MEAN), _of_channels(STD)
    return 1 / (255 * std), -mean / std


def torch_sampler(images: Tensor, matrices: Tensor, size: tuple[int, int]) -> Callable[[], Tensor]:
    """Torch's ``affine_grid`` and ``grid_sample``, then normalised in place."""
    _, _, height, width = images.shape
    down, across = size
    # Both use coordinates from -1 to 1 between the outer edges: x = (n * x' + n - 1) / 2.
    outer = torch.tensor(
        [[across / 2, 0, (across - 1) / 2], [0, down / 2, (down - 1) / 2], [0, 0, 1]]
    )
    inner = torch.tensor([[2 / width, 0, 1 / width - 1], [0, 2 / height, 1 / height - 1]])
    last = torch.tensor([0.0, 0, 1]).expand(len(images), 1, 3)
    theta = inner @ torch.cat([matrices, last], 1) @ outer
    scale, shift = folded()
    shape = [len(images), 3, *size]

    def call() -> Tensor:
        grid = affine_grid(theta, shape, align_corners=False)
        return grid_sample(images.float(), grid, align_corners=False).mul_(scale).add_(shift)

    return call


def kornia(images: Tensor) -> Augment:
    """Kornia's random modules on the batch, a draw for each sample."""
    from kornia import augmentation

    every = torch.nn.Sequential(
        augmentation.RandomAffine(ROTATION, (SHIFT, SHIFT), ZOOM, SHEAR, p=1.0),
        augmentation.RandomHorizontalFlip(p=0.5),
        augmentation.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
    )
    return lambda: every(images.float().div_(255))


def albumentationsx(images: Tensor) -> Augment:
    """AlbumentationsX sample by sample, channels last; its licence is the AGPL."""
    import albumentations
    import cv2

    cv2.setNumThreads(1)
    arrays = _by_rows(images)
    augment = albumentations.Compose(
        [
            albumentations.Affine(
                scale=ZOOM,
                translate_percent=(-SHIFT, SHIFT),
                rotate=(-ROTATION, ROTATION),
                shear=(-SHEAR, SHEAR),
                p=1.0,
            ),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Normalize(MEAN, STD),
        ]
    )
    return lambda: [augment(image=array)["image"] for array in arrays]


def torchvision(images: Tensor) -> Augment:
    """Torchvision's v2 transforms sample by sample, a draw for each, into a kept batch."""
    from torchvision.transforms import v2

    linear = v2.InterpolationMode.BILINEAR
    augment = v2.Compose(
        [
            v2.RandomAffine(ROTATION, (SHIFT, SHIFT), ZOOM, SHEAR, interpolation=linear),
            v2.RandomHorizontalFlip(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    out = torch.empty(images.shape)

    def call() -> Tensor:
        for image, target in zip(images, out, strict=True):
            target.copy_(augment(image))
        return out

    return call


def torchvision_once(images: Tensor) -> Augment:
    """Torchvision's functions on the whole batch, every sample warped alike: less than was asked."""
    from torchvision.transforms.v2 import InterpolationMode, functional

    linear = InterpolationMode.BILINEAR
    move = [round(SHIFT * side / 2) for side in images.shape[-1:-3:-1]]

    def call() -> object:
        warped = functional.affine(images, ROTATION / 2, move, 1.1, [SHEAR / 2, 0.0], linear)
        scaled = functional.to_dtype(warped, torch.float32, scale=True)
        return functional.normalize(scaled, [*MEAN], [*STD])

    return call
