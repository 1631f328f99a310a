"""Cases of augmentation on a GPU."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import strop
from strop._bench.case import Call
from strop._bench.gpu import GpuCase, Make

BATCH, SIDE = 256, 256
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_FORMATS = {"planes": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class _Batch:
    """What the images of a case are."""

    side: int
    dtype: torch.dtype = torch.uint8
    layout: str = "planes"
    count: int = BATCH

    @property
    def values(self) -> int:
        return self.count * 3 * self.side**2

    def images(self, device: torch.device) -> Tensor:
        x = torch.rand(self.count, 3, self.side, self.side, device=device)
        x = (x * 255).to(torch.uint8) if self.dtype == torch.uint8 else x.to(self.dtype)
        return x.contiguous(memory_format=_FORMATS[self.layout])

    def matrices(self, device: torch.device) -> Tensor:
        """Rotations by 20 degrees at most, zoom 0.8 to 1.2, shifts by a fifth, flips."""
        angle = (torch.rand(self.count) * 2 - 1) * math.radians(20)
        zoom = torch.rand(self.count) * 0.4 + 0.8
        flip = torch.randint(0, 2, (self.count,)) * 2 - 1
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        linear = torch.stack(
            [torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], 1
        )
        centre = torch.full((2,), (self.side - 1) / 2)
        shift = (torch.rand(self.count, 2) * 2 - 1) * self.side / 5
        start = centre + shift - (linear @ centre)
        return torch.cat([linear, start.unsqueeze(2)], 2).to(device)

    def unit_matrices(self, matrices: Tensor) -> Tensor:
        """The same maps in grid_sample's coordinates, -1 to 1 from corner to corner."""
        half = (self.side - 1) / 2
        linear = matrices[:, :, :2]
        start = (linear.sum(2) * half + matrices[:, :, 2]) / half - 1
        return torch.cat([linear, start.unsqueeze(2)], 2)


def _normalized(x: Tensor, dtype: torch.dtype, mean: Tensor, std: Tensor) -> Tensor:
    return ((x - mean) / std).to(dtype)


def _numbers(device: torch.device) -> tuple[Tensor, Tensor]:
    mean, std = (torch.tensor(n, device=device).view(3, 1, 1) for n in (MEAN, STD))
    return mean, std


def _sampled(x: Tensor, theta: Tensor) -> Tensor:
    x = x.float() / 255 if x.dtype == torch.uint8 else x
    grid = torch.nn.functional.affine_grid(theta, list(x.shape), align_corners=True)
    return torch.nn.functional.grid_sample(x, grid.to(x.dtype), align_corners=True)


def _warp(
    batch: _Batch, out: torch.dtype, options: dict[str, Any], device: torch.device
) -> Mapping[str, Make]:
    def ours() -> Call:
        x, maps = batch.images(device), batch.matrices(device)
        to = torch.empty_like(x, dtype=out, memory_format=_FORMATS[batch.layout])
        mean, std = (None, None) if out == torch.uint8 else (MEAN, STD)
        return lambda: strop.augment_images(
            x, maps, mean=mean, std=std, dtype=out, out=to, **options
        )

    def torchs() -> Call:
        x = batch.images(device)
        theta, numbers = batch.unit_matrices(batch.matrices(device)), _numbers(device)
        return lambda: _normalized(_sampled(x, theta), out, *numbers)

    def kornias() -> Call:
        warp_affine = importlib.import_module("kornia.geometry.transform").warp_affine
        x, maps, numbers = batch.images(device), batch.matrices(device), _numbers(device)
        bottom = torch.tensor([0.0, 0, 1], device=device).expand(len(maps), 1, 3)
        forward = torch.linalg.inv(torch.cat([maps, bottom], 1))[:, :2]
        size = (batch.side, batch.side)
        return lambda: _normalized(
            warp_affine(x.float() / 255, forward, size, align_corners=True), out, *numbers
        )

    if options or out == torch.uint8:
        return {"strop": ours}
    peers = {"strop": ours, "grid_sample": torchs}
    return peers | {"kornia": kornias} if importlib.util.find_spec("kornia") else peers


def _normalize(batch: _Batch, out: torch.dtype, device: torch.device) -> Mapping[str, Make]:
    def ours() -> Call:
        x = batch.images(device)
        to = torch.empty_like(x, dtype=out)
        return lambda: strop.augment_images(x, mean=MEAN, std=STD, dtype=out, out=to)

    def torchs() -> Call:
        x, numbers = batch.images(device), _numbers(device)
        return lambda: _normalized(x.float() / 255, out, *numbers)

    return {"strop": ours, "torch": torchs}


def _masks(batch: _Batch, device: torch.device) -> Mapping[str, Make]:
    def ours() -> Call:
        masks, maps = batch.images(device)[:, 0].contiguous(), batch.matrices(device)
        to = torch.empty_like(masks)
        return lambda: strop.warp_masks(masks, maps, out=to)

    return {"strop": ours}


def _gradient(batch: _Batch, fill_mode: str, device: torch.device) -> Mapping[str, Make]:
    def ours() -> Call:
        x, maps = batch.images(device).requires_grad_(), batch.matrices(device)
        y = strop.augment_images(x, maps, fill_mode=fill_mode, dtype=batch.dtype)
        dy = torch.rand_like(y)
        return lambda: torch.autograd.grad(y, x, dy, retain_graph=True)

    def torchs() -> Call:
        x = batch.images(device).requires_grad_()
        y = _sampled(x, batch.unit_matrices(batch.matrices(device)))
        dy = torch.rand_like(y)
        return lambda: torch.autograd.grad(y, x, dy, retain_graph=True)

    return {"strop": ours, "grid_sample": torchs} if fill_mode == "constant" else {"strop": ours}


def cases(side: int = SIDE, count: int = BATCH) -> Iterator[GpuCase]:
    """Every case, of square colour images."""
    uint8, float32, bfloat16 = torch.uint8, torch.float32, torch.bfloat16
    what = f"{count} images of {side}x{side}"

    def case(name: str, contenders: Any, moved_bytes: int) -> GpuCase:
        return GpuCase("augment", f"{name}, {what}", contenders, moved_bytes)

    for layout, out in (
        ("planes", float32),
        ("planes", bfloat16),
        ("planes", uint8),
        ("channels_last", float32),
        ("channels_last", bfloat16),
    ):
        batch = _Batch(side, uint8, layout, count)
        name = f"warp to {str(out).removeprefix('torch.')}, {layout}"
        moved = batch.values * (1 + out.itemsize)
        yield case(name, partial(_warp, batch, out, {}), moved)
    batch = _Batch(side, uint8, "planes", count)
    for mode in ("nearest", "reflect"):
        options = {"fill_mode": mode}
        yield case(f"warp, {mode} fill", partial(_warp, batch, float32, options), 5 * batch.values)
    for out in (float32, bfloat16):
        moved = batch.values * (1 + out.itemsize)
        name = f"normalise to {str(out).removeprefix('torch.')}"
        yield case(name, partial(_normalize, batch, out), moved)
    yield case("warp_masks of uint8", partial(_masks, batch), 2 * batch.values // 3)
    floats = _Batch(side, float32, "planes", count)
    yield case("warp of float32", partial(_warp, floats, float32, {}), 8 * floats.values)
    for mode in ("constant", "reflect"):
        name = f"gradient, {mode} fill"
        yield case(name, partial(_gradient, floats, mode), 8 * floats.values)
