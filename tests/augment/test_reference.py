"""The oracle of augmentation against others: exact sums in float64, scipy, torch, OpenCV."""

import math

import numpy as np
import pytest
import torch

import strop
from augment.problems import FILL_MODES, affine, expected, expected_masks, images, peculiar

ndimage = pytest.importorskip("scipy.ndimage")
EDGE = 2.0**-14  # pixels that a position may be off, twice over
SCIPY_MODES = {
    "constant": "grid-constant",
    "hard_constant": "constant",
    "grid_wrap": "grid-wrap",
}  # the others have one name


def positions(matrix, to):
    """(x, y) of each pixel, in float64."""
    rows, columns = np.mgrid[: to[0], : to[1]].astype(np.float64)
    m = np.asarray(matrix, np.float64)
    return (m[k, 0] * columns + m[k, 1] * rows + m[k, 2] for k in range(2))


def within(mode, p, n):
    """A position brought into an image, by the definition of the mode."""
    last = n - 1
    if mode == "reflect":
        q = np.abs(p + 0.5) % (2 * n)
        return np.clip(np.minimum(q, 2 * n - q) - 0.5, 0, last)
    if last == 0 and mode in ("mirror", "wrap"):
        return 0 * p
    if mode == "mirror":
        q = np.abs(p) % (2 * last)
        return np.minimum(q, 2 * last - q)
    if mode == "wrap":
        return np.where((p < 0) | (p > last), p % last, p)
    if mode == "grid_wrap":
        return p % n
    return p if "constant" in mode else np.clip(p, 0, last)


def exact(image, matrix, to, mode, fill):
    """[C, H', W'] of one image in float64."""
    c, h, w = image.shape
    x, y = positions(matrix, to)
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    x, y = within(mode, x, w), within(mode, y, h)
    left, upper = np.floor(x), np.floor(y)
    fx, fy = x - left, y - upper
    total = np.zeros((c, *to))
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, upper + dy
            if mode == "grid_wrap":
                column, row = column % w, row % h
            there = (column >= 0) & (column < w) & (row >= 0) & (row < h)
            at = np.where(there, row, 0).astype(int), np.where(there, column, 0).astype(int)
            tap = np.where(there, image[:, at[0], at[1]], fill)
            total += tap * (fx if dx else 1 - fx) * (fy if dy else 1 - fy)
    return np.where(inside | (mode != "hard_constant"), total, fill)


def continuous(matrix, from_, to, mode):
    """Where a position that is a little off gives a value that is a little off."""
    certain = np.ones(to, bool)
    for p, n in zip(positions(matrix, to), from_[::-1], strict=True):
        if mode == "hard_constant":
            certain &= (np.abs(p) > EDGE) & (np.abs(p - (n - 1)) > EDGE)
        if mode == "wrap" and n > 1:
            beyond = np.abs(p / (n - 1) - np.round(p / (n - 1))) * (n - 1)
            certain &= beyond > EDGE
    return certain


def levels(image, matrix, to, **options):
    """The oracle's float32 result in grey levels."""
    batch, maps = torch.from_numpy(image)[None], torch.from_numpy(matrix)[None]
    scale = 255 if image.dtype == np.uint8 else 1
    return expected(batch, maps, size=to, **options)[0].numpy().astype(np.float64) * scale


def random_image(generator, shape):
    return generator.integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("mode", FILL_MODES)
class TestExactSums:
    def test_random_matrices(self, mode):
        generator = np.random.default_rng(len(mode))
        worst = 0.0
        for _ in range(500):
            size, to = (tuple(int(n) for n in generator.integers(1, 60, 2)) for _ in range(2))
            image = random_image(generator, (1, *size))
            matrix = affine(generator, size, to).astype(np.float32)
            found = levels(image, matrix, to, fill_mode=mode, fill=100)
            off = np.abs(found - exact(image.astype(float), matrix, to, mode, 100))
            off = off[:, continuous(matrix, size, to, mode)]
            worst = max(worst, off.max(initial=0))
        assert 0 < worst < 0.04

    def test_up_to_512_pixels(self, mode):
        generator = np.random.default_rng(1)
        for size in ((512, 512), (37, 512)):
            image = random_image(generator, (1, *size))
            matrix = affine(generator, size, (128, 512)).astype(np.float32)
            found = levels(image, matrix, (128, 512), fill_mode=mode)
            off = np.abs(found - exact(image.astype(float), matrix, (128, 512), mode, 0))
            assert off[:, continuous(matrix, size, (128, 512), mode)].max() < 0.04

    def test_floats(self, mode):
        generator = np.random.default_rng(2)
        for _ in range(40):
            image = generator.random((3, 20, 30))
            matrix = affine(generator, (20, 30), (25, 40)).astype(np.float32)
            wanted = exact(image, matrix, (25, 40), mode, 0.5)
            certain = continuous(matrix, (20, 30), (25, 40), mode)
            for dtype in (np.float32, np.float64):
                found = levels(image.astype(dtype), matrix, (25, 40), fill_mode=mode, fill=0.5)
                assert np.abs(found - wanted)[:, certain].max() < 0.04 / 255

    def test_scipy(self, mode):
        generator = np.random.default_rng(3)
        for _ in range(100):
            size, to = (tuple(int(n) for n in generator.integers(2, 40, 2)) for _ in range(2))
            image = random_image(generator, (1, *size))
            matrix = affine(generator, size, to).astype(np.float32)
            by_row = matrix.astype(np.float64)[::-1]  # scipy's coordinates are y, x
            wanted = ndimage.affine_transform(
                image[0].astype(float),
                by_row[:, [1, 0]],
                by_row[:, 2],
                to,
                order=1,
                mode=SCIPY_MODES.get(mode, mode),
                cval=77,
            )
            off = np.abs(levels(image, matrix, to, fill_mode=mode, fill=77)[0] - wanted)
            assert off[continuous(matrix, size, to, mode)].max(initial=0) < 0.04

    def test_nearest_pixel(self, mode):
        generator = np.random.default_rng(4)
        for _ in range(40):
            image = random_image(generator, (1, 21, 30))
            matrix = affine(generator, (21, 30), (25, 40)).astype(np.float32)
            found = levels(image, matrix, (25, 40), fill_mode=mode, interpolation="nearest", fill=7)
            certain = continuous(matrix, (21, 30), (25, 40), mode)
            whole = []
            for p, n in zip(positions(matrix, (25, 40)), (30, 21), strict=True):
                q = within(mode, p, n)
                certain &= np.abs(q - np.floor(q) - 0.5) > EDGE
                whole.append(np.floor(q + 0.5).astype(int))
                if mode == "grid_wrap":
                    whole[-1] %= n
            x, y = whole
            there = (x >= 0) & (x < 30) & (y >= 0) & (y < 21)
            if mode == "hard_constant":
                px, py = positions(matrix, (25, 40))
                there &= (px >= 0) & (px <= 29) & (py >= 0) & (py <= 20)
            wanted = np.where(there, image[0][np.where(there, y, 0), np.where(there, x, 0)], 7)
            assert np.array_equal(np.round(found[0])[certain], wanted[certain])

    def test_nothing_near_gives_fill(self, mode):
        image = images((1, 3, 6, 8))
        for name in ("huge", "beyond", "nan", "inf", "minus inf"):
            matrix = torch.tensor([peculiar((6, 8), (6, 8))[name]], dtype=torch.float32)
            for interpolation in ("bilinear", "nearest"):
                options = {"fill_mode": mode, "interpolation": interpolation}
                for fill in ([1, 20, 255], 0):
                    found = expected(image, matrix, fill=fill, dtype=torch.uint8, **options)
                    wanted = torch.tensor(fill).expand(3).view(1, 3, 1, 1).expand(1, 3, 6, 8)
                    assert torch.equal(found, wanted.to(torch.uint8)), name

    def test_a_matrix_of_zeros_gives_the_first_pixel(self, mode):
        image = images((2, 3, 6, 8))
        for dtype in (torch.uint8, torch.float32):
            batch = image.to(dtype) / (1 if dtype == torch.uint8 else 255)
            found = expected(
                batch.to(dtype), torch.zeros(2, 2, 3), dtype=torch.uint8, fill_mode=mode
            )
            assert torch.equal(found, image[:, :, :1, :1].expand(2, 3, 6, 8))

    def test_whole_pixels_are_exact(self, mode):
        image = images((1, 3, 9, 20))
        size = image.shape[2:]
        wanted = {
            "identity": image,
            "flip": image.flip(3),
            "upside down": image.flip(2),
            "half a turn": image.flip(2, 3),
        }
        for name, turned in wanted.items():
            matrix = torch.tensor([peculiar(size, size)[name]], dtype=torch.float32)
            found = expected(image, matrix, dtype=torch.uint8, fill_mode=mode)
            assert torch.equal(found, turned), name
            assert torch.equal(expected_masks(image, matrix), turned), name
        crop = torch.tensor([[[1.0, 0, 2], [0, 1, 3]]])
        found = expected(image, crop, size=(4, 7), dtype=torch.uint8, fill_mode=mode)
        assert torch.equal(found, image[:, :, 3:7, 2:9])

    def test_one_grey_stays(self, mode):
        generator = np.random.default_rng(6)
        for _ in range(20):
            matrix = torch.from_numpy(affine(generator, (7, 9), (11, 13))).float()[None]
            for grey in (0, 77, 255):
                image = torch.full((1, 1, 7, 9), grey, dtype=torch.uint8)
                found = expected(
                    image, matrix, size=(11, 13), fill=grey, fill_mode=mode, dtype=torch.uint8
                )
                assert (found == grey).all()


@pytest.mark.parametrize("side", [4096, 8192])
def test_exact_sums_of_wide_images(side):
    generator = np.random.default_rng(side)
    for size, to in (((8, side), (3, side)), ((side, 8), (side, 5))):
        image = random_image(generator, (1, *size))
        for _ in range(3):
            matrix = affine(generator, size, to).astype(np.float32)
            matrix[:, 2] = 3  # begins inside
            found = levels(image, matrix, to, fill_mode="reflect")
            off = np.abs(found - exact(image.astype(float), matrix, to, "reflect", 0))
            assert off.max() < 0.25


def test_bytes_are_rounded_half_to_even():
    image = torch.tensor([[[[0, 1, 2, 3, 254, 255]]]], dtype=torch.uint8)
    half = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])
    found = expected(image, half, dtype=torch.uint8, fill_mode="nearest")
    assert found.flatten().tolist() == [0, 2, 2, 128, 254, 255]


def test_normalization():
    image = images((2, 3, 8, 9))
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    found = expected(image, mean=mean.tolist(), std=std.tolist())
    wanted = (image.double() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)
    floats = torch.rand(2, 3, 8, 9)
    found = expected(floats, mean=mean.tolist(), std=std.tolist())
    wanted = (floats - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-6)
    assert torch.equal(expected(floats, dtype=torch.uint8), (floats * 255).round().to(torch.uint8))


@pytest.mark.parametrize(
    ("mode", "padding", "corners"),
    [
        ("constant", "zeros", True),
        ("nearest", "border", True),
        ("mirror", "reflection", True),
        ("reflect", "reflection", False),
    ],
)
def test_grid_sample(mode, padding, corners):
    generator = np.random.default_rng(8)
    for interpolation in ("bilinear", "nearest"):
        image = torch.rand(1, 3, 17, 23, dtype=torch.float64)
        matrix = affine(generator, (17, 23), (20, 31)).astype(np.float32)
        x, y = (torch.from_numpy(p) for p in positions(matrix, (20, 31)))
        if corners:
            grid = torch.stack([2 * x / 22 - 1, 2 * y / 16 - 1], -1)
        else:
            grid = torch.stack([(2 * x + 1) / 23 - 1, (2 * y + 1) / 17 - 1], -1)
        wanted = torch.nn.functional.grid_sample(
            image, grid[None], interpolation, padding, align_corners=corners
        )
        found = expected(
            image,
            torch.from_numpy(matrix)[None],
            size=(20, 31),
            fill_mode=mode,
            interpolation=interpolation,
            dtype=torch.float64,
        )
        off = (found - wanted).abs()
        assert off.median() < 1e-4
        assert (off > 2 * EDGE).double().mean() < (0.001 if interpolation == "nearest" else 1e-9)


def test_interpolate():
    image = torch.rand(2, 3, 17, 23)
    for size in ((34, 46), (20, 31), (9, 8), (1, 1)):
        found = expected(image, size=size, fill_mode="nearest")
        wanted = torch.nn.functional.interpolate(image, size, mode="bilinear")
        torch.testing.assert_close(found, wanted, rtol=0, atol=2 * EDGE)


def test_opencv():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is an optional peer")
    borders = {
        "constant": cv2.BORDER_CONSTANT,
        "nearest": cv2.BORDER_REPLICATE,
        "reflect": cv2.BORDER_REFLECT,
        "mirror": cv2.BORDER_REFLECT_101,
        "grid_wrap": cv2.BORDER_WRAP,
    }
    rows, columns = np.mgrid[:60, :80]
    waves = [np.sin(rows / 9 + k) * np.cos(columns / 11 - k) for k in range(3)]
    image = (127 + 100 * np.stack(waves, -1)).astype(np.uint8)  # its fractions have 5 bits
    generator = np.random.default_rng(9)
    for mode, border in borders.items():
        if mode in ("constant", "grid_wrap"):  # an edge of 255 levels, 32 steps to a pixel
            image = np.where(image > 120, 120, 118).astype(np.uint8)
        for _ in range(10):
            matrix = affine(generator, (60, 80), (50, 70)).astype(np.float32)
            wanted = cv2.warpAffine(
                image,
                matrix.astype(np.float64),
                (70, 50),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=border,
                borderValue=(119, 119, 119),
            )
            found = expected(
                torch.from_numpy(image).permute(2, 0, 1)[None],
                torch.from_numpy(matrix)[None],
                size=(50, 70),
                fill_mode=mode,
                fill=119,
                dtype=torch.uint8,
            )[0]
            off = np.abs(found.permute(1, 2, 0).numpy().astype(int) - wanted.astype(int))
            assert off.max() <= 1, mode


def torchvision_affine(image, angle, translate, scale, shear):
    """What torchvision's affine does to a floating image, by its formulas."""
    h, w = image.shape[-2:]
    rot, sx, sy = (math.radians(v) for v in (angle, *shear))
    a = math.cos(rot - sy) / math.cos(sy)
    b = -math.cos(rot - sy) * math.tan(sx) / math.cos(sy) - math.sin(rot)
    c = math.sin(rot - sy) / math.cos(sy)
    d = -math.sin(rot - sy) * math.tan(sx) / math.cos(sy) + math.cos(rot)
    inverse = np.array([[d, -b], [-c, a]]) / scale
    rows, columns = np.mgrid[:h, :w].astype(np.float64)
    x, y = columns + 0.5 - w / 2 - translate[0], rows + 0.5 - h / 2 - translate[1]
    x, y = (inverse[k, 0] * x + inverse[k, 1] * y for k in range(2))
    grid = torch.from_numpy(np.stack([x / (w / 2), y / (h / 2)], -1))[None]
    return torch.nn.functional.grid_sample(image, grid, align_corners=False)


def test_torchvisions_affine():
    image = torch.rand(1, 3, 40, 56, dtype=torch.float64)
    for angle, translate, scale, shear in (
        (0.0, (0, 0), 1.0, (0.0, 0.0)),
        (30.0, (5, -3), 1.3, (0.0, 0.0)),
        (-100.0, (0, 7), 0.7, (12.0, -20.0)),
    ):
        matrix = strop.affine_matrix(
            torch.tensor([angle]), torch.tensor([translate]).float(), torch.tensor([scale]),
            torch.tensor([shear]), 40, 56,
        )  # fmt: skip
        found = expected(image, matrix, dtype=torch.float64)
        wanted = torchvision_affine(image, angle, translate, scale, shear)
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-4)
