"""augment_images and warp_masks against the oracle, to the bit, on every device."""

import math

import numpy as np
import pytest
import torch

import strop
from augment.problems import (
    FILL_MODES,
    FLOATING,
    LAYOUTS,
    augment,
    expected,
    expected_masks,
    images,
    laid_out,
    matrices,
    peculiar,
    peculiar_matrices,
    same,
    warp,
)
from core.devices import CudaHost, _cuda_host
from strop import _C

hypothesis = pytest.importorskip("hypothesis")
strategies = hypothesis.strategies

U8, F32, BF16, F16, F64 = torch.uint8, *FLOATING, torch.float64
DTYPES = [U8, *FLOATING]
NORMALIZATION = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
IMAGENET = {"dtype": F32, **NORMALIZATION}


def check(device, image, matrix=None, **options):
    note = {"shape": list(image.shape), "stride": image.stride(), "dtype": image.dtype, **options}
    found = augment(device, image, matrix, **options)
    same(found, expected(image, matrix, **options), note)
    return found


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("fill_mode", FILL_MODES)
class TestWarps:
    def options(self, fill_mode, interpolation):
        return {"fill_mode": fill_mode, "interpolation": interpolation}

    def test_dtypes_layouts_and_channels(self, device, fill_mode, interpolation):
        options = self.options(fill_mode, interpolation)
        layouts = torch.channels_last, torch.contiguous_format
        size, to = (23, 37), (19, 50)
        turned = matrices(3, size, to, seed=len(fill_mode))
        for number, (dtype, out) in enumerate((a, b) for a in DTYPES for b in DTYPES):
            channels = (3, 1, 4)[number % 3]
            image = images((3, channels, *size), dtype, number, LAYOUTS[number % len(LAYOUTS)])
            fill = [0.25, 3, 200, 77][:channels] if number % 2 else 9
            more = {"mean": 0.4, "std": 0.3} if out != U8 and number % 4 < 2 else {}
            more |= {"size": to, "memory_format": layouts[number % 2]}
            check(device, image, turned, fill=fill, dtype=out, **more, **options)

    def test_peculiar_matrices(self, device, fill_mode, interpolation):
        options = self.options(fill_mode, interpolation)
        for size, to, channels in (((9, 20), (9, 20), 3), ((17, 5), (3, 33), 1)):
            maps = peculiar_matrices(size, to)
            for dtype in (U8, F32):
                image = images((len(maps), channels, *size), dtype)
                found = augment(device, image, maps, size=to, fill=7, dtype=dtype, **options)
                wanted = expected(image, maps, size=to, fill=7, dtype=dtype, **options)
                for name, a, b in zip(peculiar(size, to), found, wanted, strict=True):
                    same(a, b, (name, dtype))

    @pytest.mark.parametrize("dtype", [U8, F32], ids=str)
    def test_sizes(self, device, fill_mode, interpolation, dtype):
        options = self.options(fill_mode, interpolation)
        sides = [(1, 1), (1, 7), (7, 1), (2, 2), (3, 5), (33, 65)]
        for number, size in enumerate(sides):
            to = (size, sides[-number], (16, 48))[number % 3]
            image = images((2, (1, 3, 4)[number % 3], *size), dtype)
            check(device, image, matrices(2, size, to, seed=3), size=to, fill=3, **options)


@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_large(device, fill_mode):
    # More than a tile, to a tile's edges and a vector's tails; several threads.
    rows, columns = device.size((600, 700), (70, 90))
    number = FILL_MODES.index(fill_mode)
    image = images((2, 3, rows, columns), U8, layout=LAYOUTS[number % 2])
    turned = matrices(2, (rows, columns), (rows, columns), seed=number)
    out = (F32, U8, BF16, F16)[number % 4]
    more = NORMALIZATION if out != U8 else {}
    check(device, image, turned, fill=[1, 2, 255], fill_mode=fill_mode, dtype=out, **more)


@pytest.mark.parametrize("dtype", [U8, F32], ids=str)
@pytest.mark.parametrize("columns_first", [False, True])
def test_long(device, dtype, columns_first):
    size = device.size((4096, 7), (300, 7))
    size = size[::-1] if columns_first else size
    image = images((2, 3, *size), dtype)
    for fill_mode in ("constant", "reflect"):
        for to in (size, (40, 60)):
            turned = matrices(2, size, to, seed=7)
            check(device, image, turned, size=to, fill_mode=fill_mode, fill=1)
        shear = torch.tensor([[[1, 0.01, 0], [0.01, 1, 0]]]).expand(2, 2, 3)
        check(device, image, shear, fill_mode=fill_mode, dtype=U8)


@pytest.mark.parametrize("dtype", [U8, F32], ids=str)
@pytest.mark.parametrize("fill_mode", FILL_MODES)
def test_longer_than_vectors_count(device, fill_mode, dtype):
    # Vectors hold positions within 16,384 pixels of an image's first one.
    size, to = (20000, 5), (40, 60)
    inside = torch.tensor([[[0.01, 0.02, 1.0], [-0.5, 3.0, 17000.0]]])
    outside = torch.tensor([[[0.1, -0.02, 1.0], [30.0, 9.0, 19000.0]]])
    for channels in (1, 3):
        image = images((1, channels, *size), dtype)
        for matrix in (inside, outside):
            options = {"size": to, "fill_mode": fill_mode, "fill": 1}
            check(device, image, matrix, **options)
            check(device, image.mT, matrix.flip(1)[:, :, [1, 0, 2]], **options)


@pytest.mark.parametrize(
    "matrix", [[90, 0, 0, 0, 90, 1], [0.6, 0.2, 3, -0.3, 0.7, 5], [-1, 0, 99, 0, 1, 2]]
)
def test_arrays_that_run_backwards(device, matrix):
    # (torch has no such tensors)
    if device.place != "cpu":
        pytest.skip("numpy's arrays are on the CPU")
    binding = _cuda_host if isinstance(device, CudaHost) else _C.cpu
    side = 900 if matrix[0] == 90 and binding is _C.cpu else 100
    array = images((1, 3, side, side), U8).numpy()
    maps = np.float32(matrix).reshape(1, 2, 3)
    options = {"size": [10, 11], "fill": [9.0]}
    for view in (array[:, :, ::-1, ::-1], array[:, ::-1, :, ::-1]):
        wanted = _C.reference.augment_images(view, maps, **options)
        assert np.array_equal(binding.augment_images(view, maps, **options), wanted)
        masks = view[:, 0]
        wanted = _C.reference.warp_masks(masks, maps, size=[10, 11], fill=9.0)
        assert np.array_equal(binding.warp_masks(masks, maps, size=[10, 11], fill=9.0), wanted)


class TestWithoutWarp:
    """What is less work than a warp: casts, flips, crops, resizes."""

    @pytest.mark.parametrize("name", ["identity", "flip", "upside down", "half a turn", "crop"])
    def test_whole_pixels(self, device, name):
        for number, (dtype, out) in enumerate((a, b) for a in DTYPES for b in DTYPES):
            size = (11, (1, 15, 16, 33, 64, 70)[number % 6])
            image = images((2, (3, 1, 4)[number % 3], *size), dtype, number, LAYOUTS[number % 5])
            matrix = torch.tensor([peculiar(size, size)[name]] * 2, dtype=F32)
            more = {"mean": 0.5, "std": 0.25} if out != U8 and number % 2 else {}
            layout = (torch.contiguous_format, torch.channels_last)[number // 4 % 2]
            check(device, image, matrix, dtype=out, memory_format=layout, fill=5, **more)
            if name == "crop":
                check(device, image, matrix, dtype=out, size=(4, 9), fill=5, **more)

    @pytest.mark.parametrize("out", [*DTYPES, F64], ids=str)
    def test_casts(self, device, out):
        for number, dtype in enumerate([*DTYPES, F64] if out != F64 else [U8, F32]):
            for channels in (1, 3, 4):
                image = images((2, channels, 13, 41), dtype, number, LAYOUTS[number])
                for layout in (torch.contiguous_format, torch.channels_last):
                    more = {} if out == U8 else {"mean": [0.1] * channels, "std": -2}
                    check(device, image, dtype=out, memory_format=layout, **more)
                    check(device, image, dtype=out, size=(5, 70), **more)

    def test_every_byte(self, device):
        image = torch.arange(256, dtype=U8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
        for out in (*FLOATING, U8):
            found = check(device, image, dtype=out)
            exact = image if out == U8 else (image.double() / 255).to(F32).to(out)
            assert torch.equal(found, exact) or out == F32
            torch.testing.assert_close(found.double(), exact.double(), rtol=2e-7, atol=0)

    def test_large(self, device):
        size = device.size((500, 611), (40, 61))
        for layout in LAYOUTS[:3]:
            image = images((2, 3, *size), layout=layout)
            for out in (F32, BF16):
                check(device, image, **{**IMAGENET, "dtype": out})


class TestNormalization:
    def test_every_form(self, device):
        image = images((2, 3, 9, 35))
        turned = matrices(2, (9, 35), (9, 35))
        mean, std = [0.1, 0.2, 0.3], [0.5, -0.25, 4.0]
        wanted = expected(image, turned, mean=mean, std=std)
        tensors = torch.tensor(mean), torch.tensor(std)
        steps = torch.stack(tensors, 1)  # of two elements
        for given in (tensors, (mean, tensors[1]), (tensors[0], std), steps.unbind(1)):
            same(augment(device, image, turned, mean=given[0], std=given[1]), wanted)
        wanted = expected(image, turned, mean=0.25, std=0.25)
        for one in (0.25, [0.25], torch.tensor(0.25), torch.tensor([0.25])):
            same(augment(device, image, turned, mean=one, std=one), wanted)

    def test_special_values(self, device):
        nan, inf = math.nan, math.inf
        image = torch.tensor([nan, inf, -inf, 1e38, -1e38, 1e-40, -0.0, 1.0]).view(1, 1, 2, 4)
        maps = peculiar_matrices((2, 4), (2, 4))
        for out in DTYPES:
            more = {"mean": 0.5, "std": 1e-3} if out != U8 else {}
            for fill in (0.0, nan, -inf):
                for matrix in maps[:10]:
                    check(device, image, matrix[None], dtype=out, fill=fill, **more)


class TestCalls:
    def test_out_of_any_strides(self, device):
        turned = matrices(2, (12, 20), (15, 18))
        for dtype in (U8, F32):
            image = images((2, 3, 12, 20), dtype)
            for out_dtype in DTYPES:
                wanted = expected(image, turned, size=(15, 18), dtype=out_dtype)
                for layout in LAYOUTS[:4]:
                    out = laid_out(torch.zeros(2, 3, 15, 18, dtype=out_dtype), layout)
                    found = augment(device, image, turned, size=(15, 18), dtype=out_dtype, out=out)
                    assert found is out
                    same(out, wanted, layout)

    def test_nothing_beside_out_is_written(self, device):
        for layout, channels in ((torch.contiguous_format, 3), (torch.channels_last, 4)):
            for columns in (1, 15, 33):
                image = images((1, channels, 5, columns))
                wide = torch.full((1, channels, 9, columns + 6), 7.0).contiguous(
                    memory_format=layout
                )
                before = wide.clone()
                part = wide[:, :, 2:7, 3 : columns + 3]
                augment(device, image, matrices(1, (5, columns), (5, columns)), out=part)
                wide[:, :, 2:7, 3 : columns + 3] = 7
                assert torch.equal(wide, before)

    def test_matrices_of_any_strides(self, device):
        image = images((3, 3, 9, 20))
        turned = matrices(3, (9, 20), (9, 20))
        wanted = expected(image, turned)
        same(augment(device, image, turned.permute(2, 1, 0).contiguous().permute(2, 1, 0)), wanted)
        same(augment(device, image, turned[:1].expand(3, 2, 3)), expected(image, turned[[0] * 3]))
        homogeneous = torch.cat([turned, torch.zeros(3, 1, 3)], 1)
        same(augment(device, image, homogeneous[:, :2]), wanted)

    @pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 1, 0, 5), (2, 3, 4, 0), (2, 4, 0, 0)])
    def test_nothing(self, device, shape):
        image = torch.zeros(shape, dtype=U8)
        eye = torch.eye(2, 3).expand(shape[0], 2, 3)
        assert augment(device, image, eye).shape == shape
        assert augment(device, image, size=(0, 3)).shape == (*shape[:2], 0, 3)
        found = augment(device, image, eye, size=(2, 3), fill=51, fill_mode="mirror")
        if shape[0] and 0 in shape[2:]:  # images without pixels
            torch.testing.assert_close(found, torch.full((*shape[:2], 2, 3), 0.2))
            same(found, expected(image, eye, size=(2, 3), fill=51, fill_mode="mirror"))

    def test_any_split_of_a_batch(self, device):
        count = device.size((9,), (3,))[0]
        size, to = (40, 70), (33, 65)
        image, turned = images((count, 3, *size)), matrices(count, size, to)
        whole = augment(device, image, turned, size=to, **IMAGENET)
        for i in range(count):
            one = augment(device, image[i : i + 1], turned[i : i + 1], size=to, **IMAGENET)
            same(one[0], whole[i])
        half = augment(device, image[1:], turned[1:], size=to, **IMAGENET)
        same(half, whole[1:])

    def test_any_number_of_threads(self, torch_device):
        before = torch.get_num_threads()
        problems = [(1, (300, 400)), (5, (33, 65)), (2, (1, 700))]
        for count, size in problems:
            for dtype in (U8, F32):
                image, turned = images((count, 3, *size), dtype), matrices(count, size, size)
                results = []
                for threads in (1, 2, 3, 7):
                    torch.set_num_threads(threads)
                    results.append(augment(torch_device, image, turned, **IMAGENET))
                torch.set_num_threads(before)
                for each in results[1:]:
                    same(each, results[0], (count, size))


MASK_DTYPES = [
    torch.bool, U8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.uint32,
    torch.int64, torch.uint64, *FLOATING, F64,
]  # fmt: skip


class TestMasks:
    @pytest.mark.parametrize("dtype", MASK_DTYPES, ids=str)
    def test_dtypes(self, device, dtype):
        size, to = (23, 37), (19, 50)
        maps = torch.cat([matrices(3, size, to), peculiar_matrices(size, to)])
        for shape in ((len(maps), *size), (len(maps), 2, *size), (len(maps), 5, *size)):
            masks = torch.randint(0, 256, shape).to(dtype)
            fill = 1 if dtype == torch.bool else 100
            same(
                warp(device, masks, maps, size=to, fill=fill), expected_masks(masks, maps, to, fill)
            )
        same(warp(device, masks, None, size=to), expected_masks(masks, None, to))
        same(warp(device, masks, maps), expected_masks(masks, maps))

    def test_strides_and_out(self, device):
        maps = matrices(2, (12, 20), (15, 18))
        for channels in (1, 3, 4, 7):
            for layout in LAYOUTS:
                masks = images((2, channels, 12, 20), layout=layout)
                wanted = expected_masks(masks, maps, (15, 18), 3)
                out = laid_out(
                    torch.zeros(2, channels, 15, 18, dtype=U8), layout.replace("expanded", "steps")
                )
                assert warp(device, masks, maps, size=(15, 18), fill=3, out=out) is out
                same(out, wanted, layout)
        rows = torch.randint(0, 99, (2, 12, 40), dtype=torch.int32)[:, :, ::2]
        same(warp(device, rows, maps, size=(15, 18)), expected_masks(rows, maps, (15, 18)))

    def test_large(self, device):
        size = device.size((500, 611), (40, 61))
        for dtype in (U8, torch.int64):
            masks = torch.randint(0, 256, (2, *size)).to(dtype)
            for maps in (matrices(2, size, size, 5), torch.eye(2, 3).expand(2, 2, 3)):
                same(warp(device, masks, maps, fill=9), expected_masks(masks, maps, fill=9))

    def test_more_rows_than_words_count(self, device):
        # As many as make a thread take an image whole.
        count = device.size((64,), (2,))[0]
        masks = torch.randint(0, 256, (count, 40000, 2), dtype=U8)
        maps = torch.tensor([[[0.02, 0.0, 0.0], [0.0, 600.0, 3.0]]]).expand(count, 2, 3)
        for size in ((64, 64), (20, 64)):
            found = warp(device, masks, maps, size=size, fill=9)
            same(found, expected_masks(masks, maps, size, 9))

    def test_nothing(self, device):
        assert warp(device, torch.zeros(0, 4, 5, dtype=U8), torch.zeros(0, 2, 3)).shape == (0, 4, 5)
        empty = torch.zeros(2, 0, 5, dtype=torch.int64)
        found = warp(device, empty, torch.zeros(2, 2, 3), size=(2, 2), fill=-1)
        assert torch.equal(found, torch.full((2, 2, 2), -1))


floats32 = strategies.floats(width=32)
near = strategies.floats(-3, 3, width=32)


@strategies.composite
def problems(draw):
    """Whatever passes the checks."""
    side = strategies.integers(1, 40)
    size, to = (draw(side), draw(side)), (draw(side), draw(side))
    dtype, out = (draw(strategies.sampled_from(DTYPES)) for _ in range(2))
    channels = draw(strategies.sampled_from([1, 3, 4]))
    entry = draw(strategies.sampled_from([near, near, floats32]))
    offset = draw(strategies.sampled_from([strategies.floats(-50, 50, width=32), floats32]))
    matrix = [[draw(entry), draw(entry), draw(offset)] for _ in range(2)]
    seed, layout = draw(strategies.integers(0, 9)), draw(strategies.sampled_from(LAYOUTS))
    options = {
        "size": to,
        "dtype": out,
        "fill": draw(strategies.sampled_from([0, 1, 128, 255])),
        "fill_mode": draw(strategies.sampled_from(FILL_MODES)),
        "interpolation": draw(strategies.sampled_from(["bilinear", "bilinear", "nearest"])),
        "memory_format": draw(
            strategies.sampled_from([torch.contiguous_format, torch.channels_last])
        ),
    }
    if out != U8:
        options["mean"] = draw(strategies.floats(-2, 2))
        options["std"] = draw(strategies.floats(0.01, 2))
    return images((1, channels, *size), dtype, seed, layout), torch.tensor([matrix]), options


@hypothesis.settings(max_examples=250)
@hypothesis.given(problems())
def test_whatever_is_allowed(problem):
    image, matrix, options = problem
    wanted = expected(image, matrix, **options)
    before = strop.isa()
    for isa in strop.supported_isas():
        strop.set_isa(isa)
        found = strop.augment_images(image, matrix, **options)
        strop.set_isa(before)
        same(found, wanted, isa)
