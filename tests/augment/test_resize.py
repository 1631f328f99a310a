"""A resize, and no warp at all, have no outside: without matrices no fill is read, whatever the options say."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

import strop
from augment.problems import (
    FILL_MODES,
    FLOATING,
    LAYOUTS,
    augment,
    expected,
    expected_gradient,
    expected_masks,
    gradient_of,
    images,
    laid_out,
    same,
    warp,
)
from core.devices import CudaHost
from strop import _C

U8, F32, F64 = torch.uint8, torch.float32, torch.float64
# Larger, smaller, both, the same, from and to a single pixel, thinner than a position's unit.
SIZES = [
    ((5, 7), (4, 4)),
    ((2, 3), (9, 31)),
    ((9, 3), (2, 40)),
    ((6, 6), (6, 6)),
    ((1, 1), (5, 6)),
    ((8, 9), (1, 1)),
    ((33, 65), (100, 20)),
]


def torchs(x, size, interpolation="bilinear"):
    """torch's resize by pixel centres."""
    if interpolation == "nearest":
        return interpolate(x.double(), size, mode="nearest-exact")
    return interpolate(x.double(), size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("mode", FILL_MODES)
@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
class TestFillIsNotRead:
    def test_one_colour_stays(self, device, mode, interpolation):
        options = {"fill_mode": mode, "interpolation": interpolation}
        for number, (size, to) in enumerate(SIZES):
            layout = LAYOUTS[number % len(LAYOUTS)]
            for dtype in (U8, *FLOATING):
                out = dtype if dtype == U8 else F32
                white = torch.full((2, 3, *size), 255 if dtype == U8 else 0.75, dtype=dtype)
                found = augment(
                    device, laid_out(white, layout), size=to, fill=3, dtype=out, **options
                )
                assert (found == white.max()).all(), (size, to, dtype)

    def test_every_mode_is_the_same(self, device, mode, interpolation):
        for number, (size, to) in enumerate(SIZES):
            for dtype in (U8, F32):
                x = images((2, (1, 3, 4)[number % 3], *size), dtype)
                wanted = expected(x, size=to, interpolation=interpolation)
                options = {"size": to, "fill_mode": mode, "interpolation": interpolation}
                same(expected(x, fill=9, **options), wanted, (mode, size, to))
                same(augment(device, x, fill=9, **options), wanted, (mode, size, to))

    def test_gradient(self, device, mode, interpolation):
        options = {"fill_mode": mode, "interpolation": interpolation}
        for size, to in SIZES:
            x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(4))
            dy = torch.rand(2, 3, *to, generator=torch.Generator().manual_seed(5))
            found = gradient_of(device, dy, x, size=to, **options)
            same(found, expected_gradient(dy, x, size=to, interpolation=interpolation))
            leaf = x.double().requires_grad_()
            torchs(leaf, to, interpolation).backward(dy.double())
            tolerance = 1e-3 if interpolation == "bilinear" else 1e-5
            torch.testing.assert_close(found.double(), leaf.grad, rtol=0, atol=tolerance * dy.sum())
            torch.testing.assert_close(found.sum(), dy.sum())  # nothing was lost to fill


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", [U8, *FLOATING, F64], ids=str)
def test_torchs_resize(dtype, interpolation):
    for size, to in SIZES:
        x = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
        x = (x * 255).to(dtype) if dtype == U8 else x.to(dtype)
        found = strop.augment_images(x, size=to, interpolation=interpolation, fill=1, dtype=F64)
        wanted = torchs(x, to, interpolation) / (255 if dtype == U8 else 1)
        # (two units of a position each way, and of bytes those of the mixing)
        torch.testing.assert_close(found, wanted, rtol=0, atol=3e-4)


def test_out_and_export():
    x = torch.full((2, 3, 5, 7), 255, dtype=U8)
    out = torch.zeros(2, 3, 8, 9)
    strop.augment_images(x, size=(8, 9), fill=0, out=out)
    assert (out == 1).all()

    class Resize(torch.nn.Module):
        def forward(self, x):
            return strop.augment_images(x, size=8, fill_mode="hard_constant")

    dynamic = {"x": {0: torch.export.Dim("B")}}
    exported = torch.export.export(Resize(), (x,), dynamic_shapes=dynamic).module()
    assert (exported(x[:1]) == 1).all()


@pytest.mark.parametrize("dtype", [torch.bool, torch.int16, torch.float32, torch.int64], ids=str)
def test_masks(device, dtype):
    """From 1 to 65,539 columns the last position is rounded to half a pixel beyond the last centre."""
    few = [] if isinstance(device, CudaHost) else [((1, 1), (1, 65539)), ((2, 1), (70000, 1))]
    for size, to in SIZES + few:
        for shape in ((2, *size), (2, 2, *size)):
            masks = torch.randint(1, 100, shape, generator=torch.Generator().manual_seed(2))
            masks = masks.to(dtype)
            found = warp(device, masks, None, size=to, fill=0)
            same(found, expected_masks(masks, None, size=to, fill=0))
            assert found.all(), (size, to)
            planes = masks.reshape(-1, 1, *size)
            wanted = torchs(planes, to, "nearest").to(dtype).reshape(found.shape)
            if (size, to) not in few:
                assert torch.equal(found, wanted), (size, to)


def test_with_matrices_the_documented_fill_stays():
    x = torch.full((1, 1, 5, 7), 255, dtype=U8)
    centres = torch.tensor([[[7 / 4, 0, 3 / 8], [0, 5 / 10, -1 / 4]]])  # of the resize to (10, 4)
    assert (strop.augment_images(x, size=(10, 4), dtype=U8) == 255).all()
    found = strop.augment_images(x, centres, size=(10, 4), dtype=U8)
    assert (found[:, :, 1:-1] == 255).all()
    assert (found[:, :, [0, -1]] == 191).all()  # a quarter of them lies outside
    assert (
        strop.augment_images(x, centres, size=(10, 4), fill_mode="nearest", dtype=U8) == 255
    ).all()


def test_images_without_pixels_are_fill():
    for mode in FILL_MODES:
        found = strop.augment_images(torch.zeros(1, 1, 0, 4), size=(2, 3), fill=7, fill_mode=mode)
        assert (found == 7).all()
    assert (strop.warp_masks(torch.zeros(1, 4, 0), None, size=(2, 3), fill=7) == 7).all()


@pytest.mark.parametrize("mode", FILL_MODES)
def test_scipys_nearest_pixel_at_halves_and_quarters(mode):
    """Equal but for mirror, half a pixel beyond the last one: there scipy rounds before it mirrors."""
    ndimage = pytest.importorskip("scipy.ndimage")
    scipys = {"constant": "grid-constant", "hard_constant": "constant", "grid_wrap": "grid-wrap"}
    for n in (2, 3, 5):
        places = np.arange(-24 * n, 24 * n + 1) / 4
        row = np.arange(10.0, 10 + n)
        wanted = ndimage.map_coordinates(
            row, [places], order=0, mode=scipys.get(mode, mode), cval=-1
        )
        if mode == "mirror":
            other = (places > 0) & (places % (2 * (n - 1)) == n - 0.5)
            assert (wanted[other] == row[n - 2]).all()
            wanted[other] = row[n - 1]
        steps = torch.tensor([[[0.25, 0, places[0]], [0, 1, 0]]])
        options = {"fill": -1, "fill_mode": mode, "interpolation": "nearest"}
        x = torch.tensor(row).reshape(1, 1, 1, n)
        found = strop.augment_images(x, steps, size=(1, len(places)), dtype=F64, **options)
        assert found.flatten().tolist() == wanted.tolist()


def test_bindings():
    found = _C.cpu.augment_images(torch.full((1, 1, 3, 3), 1.0).numpy(), size=[7, 7], fill=[0.0])
    assert (found == 1).all()
