"""What a dtype cannot hold becomes its largest number: no Inf comes of finite numbers."""

import math

import numpy as np
import pytest
import torch

import strop
from core.devices import assert_same_bits, oracle
from quantize.problems import (
    DTYPES,
    FLOATS,
    INTEGERS,
    RECIPES,
    any_bits,
    grid_of,
    roundings_of,
    scale_dtype,
)
from quantize.test_quantize import quantized, restored

reference = oracle("fake_quantize")
BLOCKS = [None, (1, -1), (1, 32), (1, 16), (1, 5), (-1, 1)]


def largest(dtype):
    return torch.finfo(dtype).max


def near_the_largest(shape, dtype, seed=0):
    """Finite numbers of both signs, many of them the largest ones, some small."""
    g = torch.Generator().manual_seed(seed)
    share = 1 - torch.rand(shape, generator=g, dtype=torch.float64) ** 3
    share = torch.where(torch.rand(shape, generator=g) < 0.2, 1.0, share)
    sign = torch.randint(0, 2, shape, generator=g) * 2 - 1
    x = (share * sign * largest(dtype)).to(dtype)
    return x.clamp(-largest(dtype), largest(dtype))


def stored(exact, dtype):
    """Exact results in float64, as float32 arithmetic leaves them and the dtype holds them."""
    wide = exact
    if dtype != torch.float64:
        wide = exact.clamp(-largest(torch.float32), largest(torch.float32)).float()
    return wide.clamp(-largest(dtype), largest(dtype)).to(dtype)


class TestByArithmeticOfItsOwn:
    """Against torch's float64, under powers of two, by which every product is exact."""

    @pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
    @pytest.mark.parametrize("format", [*INTEGERS, *FLOATS, "integer"])
    def test_given_scales(self, device, format, dtype):
        x = near_the_largest((6, 70), dtype)
        entry = strop.NumberFormat.get(format)
        top = math.frexp(largest(dtype))[1]
        for block in BLOCKS:
            grid = grid_of(x.shape, block)
            room = 0 if format == "integer" else math.frexp(entry.max)[1]
            powers = torch.randint(-3, 3, grid, generator=torch.Generator().manual_seed(1))
            scale = 2.0 ** (powers + min(top - room, 125)).float()
            for rounding in roundings_of(format):
                options = {"format": format, "block_size": block, "rounding": rounding, "seed": 5}
                exact = reference(x.double(), scale.double(), **options)
                y = device.fake_quantize(x, scale, **options)
                assert y.isfinite().all()
                assert_same_bits(y, stored(exact, dtype), options)

    @pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
    def test_zero_points_and_narrower_ranges(self, device, dtype):
        x = near_the_largest((6, 70), dtype)
        scale = torch.tensor(2.0 ** (math.frexp(largest(dtype))[1] - 8))
        for zero in (-100, 7, 100):
            options = {"format": "uint8", "quant_min": 3, "quant_max": 250}
            scaled = x.double() / scale
            for kind in (torch.int32, torch.float32):
                floating = kind.is_floating_point
                code = torch.round(scaled + zero) if floating else torch.round(scaled) + zero
                exact = (code.clamp(3, 250) - zero) * scale
                y = device.fake_quantize(x, scale, torch.tensor(zero, dtype=kind), **options)
                assert_same_bits(y, stored(exact, dtype), zero)

    def test_what_a_dtype_rounds_up_to(self, device):
        x = torch.tensor([-65504.0, 65504.0, 60000.0, 3.0], dtype=torch.float16)
        y = device.fake_quantize(x, format="int8")
        assert y[:2].tolist() == [-65504.0, 65248.0]
        assert device.fake_quantize(x, torch.tensor(1000.0), format="integer").tolist() == [
            -65504.0,
            65504.0,
            60000.0,
            0.0,
        ]

    def test_as_torch_where_that_is_finite(self, device):
        for dtype in (torch.float32, torch.float16):
            x = near_the_largest((6, 70), dtype)
            for share in (1 / 140, 1 / 127, 1 / 100):
                scale = float(np.float32(largest(dtype) * share))
                wide = torch.fake_quantize_per_tensor_affine(x.float(), scale, 0, -128, 127)
                y = device.fake_quantize(x, torch.tensor(scale))
                assert_same_bits(y, wide.clamp(-largest(dtype), largest(dtype)).to(dtype), share)


class TestAgainstTheReference:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("format", [*INTEGERS[6:], *FLOATS, *RECIPES])
    def test_chosen_scales(self, device, format, dtype):
        x = near_the_largest((6, 70), dtype)
        x[1] /= 1000
        for block in [None] if format in RECIPES else BLOCKS:
            for symmetric in (True, False) if format in INTEGERS else (True,):
                options = {"format": format, "symmetric": symmetric}
                options |= {} if format in RECIPES else {"block_size": block}
                y = device.fake_quantize(x, **options)
                assert y.isfinite().all(), options
                assert_same_bits(y, reference(x, **options), options)
                kept = quantized(device, x, **options)
                kind = {k: options[k] for k in ("format", "block_size") if k in options}
                assert_same_bits(restored(device, kept, x, **kind), y, options)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        "format", ["int4", "uint8", "int16", "integer", "float8_e4m3fn", "nf4"]
    )
    def test_any_numbers_and_any_scales(self, device, format, dtype):
        x = any_bits(6 * 70, dtype).reshape(6, 70)
        for block in BLOCKS:
            grid = grid_of(x.shape, block)
            scale = any_bits(math.prod(grid), scale_dtype(dtype), seed=1).reshape(grid)
            options = {"format": format, "block_size": block}
            y = device.fake_quantize(x, scale, **options)
            assert_same_bits(y, reference(x, scale, **options), options)
            if format in INTEGERS:
                zero = torch.randint(-4, 4, grid)
                for kind in (zero, zero.to(scale.dtype) + 0.5):
                    y = device.fake_quantize(x, scale, kind, **options)
                    assert_same_bits(y, reference(x, scale, kind, **options), options)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_strides_places_and_in_place(self, device, dtype):
        # Tiles of several shapes; results put together elsewhere; results that replace x.
        full = near_the_largest(device.size((700, 210), (130, 70)), dtype)
        scale = torch.tensor(largest(dtype) / 100, dtype=scale_dtype(dtype))
        for x in (full, full.t(), full[:, ::3]):
            for format in ("int8", "integer"):
                expected = reference(x.contiguous(), scale, format=format)
                out = torch.empty(x.shape[1], x.shape[0], dtype=dtype).t()
                device.fake_quantize(x, scale, format=format, out=out)
                assert_same_bits(out, expected)
                again = x.clone()
                assert_same_bits(device.fake_quantize_(again, scale, format=format), expected)


class TestAnInfThatIsGiven:
    def test_without_bounds(self, device):
        for dtype in DTYPES:
            x = torch.tensor([torch.inf, -torch.inf, torch.nan, largest(dtype), 1.0], dtype=dtype)
            scale = torch.tensor(3.0, dtype=scale_dtype(dtype))
            for repeated in (x, x.repeat(20)):
                y = device.fake_quantize(repeated, scale, format="integer")[:5]
                assert y[:2].tolist() == [torch.inf, -torch.inf]
                assert y[2].isnan()
                assert y[3].item() >= largest(dtype) * 0.99
                assert y[3:].isfinite().all()

    def test_bounds_hold_it(self, device):
        for dtype in DTYPES:
            x = torch.tensor([torch.inf, -torch.inf], dtype=dtype)
            scale = torch.tensor(largest(dtype) / 2, dtype=scale_dtype(dtype))
            for format in ("int8", "float8_e5m2"):
                y = device.fake_quantize(x, scale, format=format)
                assert y.tolist() == [largest(dtype), -largest(dtype)]

    def test_in_a_scale_or_a_zero_point(self, device):
        x = torch.tensor([[1.0, -2.0], [1.0, -2.0], [3e38, -3e38]])
        scale = torch.tensor([[torch.inf], [1.0], [1e38]])
        zero = torch.tensor([[0.25], [torch.inf], [0.0]])
        y = device.fake_quantize(x, scale, zero, block_size=(1, -1))
        assert_same_bits(y, reference(x, scale, zero, block_size=(1, -1)))
        assert y[0].isinf().all()  # (0 - 0.25) times the scale
        assert y[1].isinf().all()
        assert y[2].isfinite().all()
        plain = device.fake_quantize(x[:1], scale[:1], block_size=(1, -1))
        assert plain.isnan().all()  # code 0


class TestRestoring:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("format", ["int2", "int8", "uint4", "uint8", "int16", *FLOATS])
    def test_every_code(self, device, format, dtype):
        entry = strop.NumberFormat.get(format)
        count = 1 << min(entry.bits, 8)
        if format == "int16":
            codes = torch.arange(-32768, 32768, 256, dtype=torch.int32).to(torch.int16)
            values = codes.double()
        else:
            every = torch.arange(count, dtype=torch.uint8)
            codes = strop.pack_bits(every, entry.bits) if entry.bits < 8 else every
            values = torch.tensor(strop._C.format_values(format), dtype=torch.float64)
        power = math.frexp(largest(dtype))[1] - math.frexp(entry.max)[1] + 1
        power = min(power, 1023 if dtype == torch.float64 else 127)
        scale = torch.full((1,), 2.0**power, dtype=scale_dtype(dtype))
        kept = (codes.numpy(), scale.numpy(), None, None)
        y = restored(device, kept, torch.empty(values.shape, dtype=dtype), format=format)
        exact = values * 2.0**power
        wide = torch.where(values.isfinite(), stored(exact.nan_to_num(), dtype), exact.to(dtype))
        assert_same_bits(y, wide, format)

    def test_narrower_than_the_scales(self, torch_device):
        codes = torch.tensor([-128, -1, 0, 127], dtype=torch.int8).view(torch.uint8)
        for given in (torch.float32, torch.float64):
            for dtype in DTYPES:
                scale = torch.tensor([largest(given) / 100], dtype=given)
                kept = (torch_device.put(codes), torch_device.put(scale), None, None)
                q = strop.QuantizedTensor(*kept, "int8", None, (4,), given)
                most = min(largest(dtype), largest(given))
                y = strop.dequantize(q, dtype=dtype).cpu()
                assert y[[0, 2, 3]].tolist() == [-most, 0, most]
                assert y.isfinite().all()


def test_a_range_wider_than_the_largest_number(device):
    for dtype in DTYPES:
        x = torch.tensor([[largest(dtype), -largest(dtype), 0.0], [1.0, 2.0, 3.0]], dtype=dtype)
        options = {"format": "uint8", "symmetric": False, "block_size": (1, -1)}
        y = device.fake_quantize(x, **options)
        assert_same_bits(y, reference(x, **options))
        step = largest(dtype) / 127.5
        assert y.isfinite().all()
        assert ((y.double() - x.double()).abs()[0] <= 1.01 * step).all()
        plain = device.fake_quantize(x[1:], **options)
        assert_same_bits(y[1:], plain)


class TestGradients:
    def test_in_range_is_what_it_was(self, device):
        for dtype in DTYPES[1:3]:
            x = near_the_largest((3, 70), dtype)
            scale = torch.tensor(largest(dtype) / 100)
            y, dx = device.straight_through(x, scale, dy=torch.ones_like(x), format="int8")
            assert y.isfinite().all()
            assert dx.bool().all()  # 127 scales are beyond every number
            scale = torch.tensor(largest(dtype) / 200)
            y, dx = device.straight_through(x, scale, dy=torch.ones_like(x), format="int8")
            code = torch.round(x.float() * (1 / scale))
            assert torch.equal(dx.bool(), (code >= -128) & (code <= 127))

    def test_under_transforms(self):
        x = near_the_largest((70,), torch.float16)
        scale = torch.tensor(700.0)

        def loss(scale):
            return strop.fake_quantize(x, scale, format="int8").float().sum()

        leaf = scale.clone().requires_grad_()
        (expected,) = torch.autograd.grad(loss(leaf), leaf)
        found = torch.func.grad(loss)(scale)
        assert found.isfinite()
        torch.testing.assert_close(found, expected, rtol=0.02, atol=1.0)
        jacobian = torch.func.jacrev(lambda v: strop.fake_quantize(v, scale, format="int8"))(x)
        assert torch.equal(jacobian.diagonal(), torch.ones_like(x))
