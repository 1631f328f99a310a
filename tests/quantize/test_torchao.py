"""fake_quantize against its peer torchao, and where they differ."""

import math
from importlib.metadata import PackageNotFoundError, version

import pytest
import torch

import strop
from core.devices import assert_same_bits
from quantize.problems import CASTS, RECIPES, any_bits, every_exponent, peer, sample

MX_RECIPES = [f for f in RECIPES if f != "nvfp4"]


def torchaos_version():
    try:
        return tuple(int(part) for part in version("torchao").split(".")[:2])
    except PackageNotFoundError:
        return (0, 18)


ONLY_IN_0_18 = pytest.mark.skipif(
    torchaos_version() > (0, 18), reason="torchao after 0.18 may agree with strop"
)


@pytest.fixture
def affine():
    """torchao's affine quantization and back, of a dtype by the name of its range."""
    peer("torchao")
    from torchao.quantization import quant_primitives as primitives

    def choose(x, full, low, high, dtype, symmetric):
        kind = primitives.MappingType.SYMMETRIC if symmetric else primitives.MappingType.ASYMMETRIC
        options = {"scale_dtype": torch.float32, "zero_point_dtype": torch.int32}
        options["eps"] = torch.finfo(torch.float32).tiny
        return primitives.choose_qparams_affine(x.float(), kind, full, dtype, low, high, **options)

    def call(x, scale=None, zero=None, *, format, block_size, symmetric=True):
        full = tuple(b if b > 0 else n for b, n in zip(block_size, x.shape, strict=True))
        range = strop.NumberFormat.get(format)
        low, high = int(range.min), int(range.max)
        dtype = torch.int8 if low < 0 else torch.uint8
        if scale is None:
            scale, zero = choose(x, full, low, high, dtype, symmetric)
        codes = primitives.quantize_affine(x, full, scale, zero, dtype, low, high)
        last = (dtype, low, high)
        return primitives.dequantize_affine(codes, full, scale, zero, *last, output_dtype=x.dtype)

    return call


@pytest.mark.parametrize("format", ["int4", "int8", "uint4", "uint8"])
class TestTorchaosIntegers:
    BLOCKS = ((1, 32), (1, 5), (1, -1), (32, 32), (-1, -1))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_given_scales(self, device, affine, format, dtype):
        torch.manual_seed(0)
        range = strop.NumberFormat.get(format)
        for block in self.BLOCKS:
            grid = [n // b if b > 0 else 1 for n, b in zip((32, 160), block, strict=True)]
            scale = torch.rand(grid) * 0.1 + 0.001
            zero = torch.randint(int(range.min), int(range.max) + 1, grid, dtype=torch.int32)
            x, options = sample((32, 160), dtype), {"format": format, "block_size": block}
            expected = affine(x, scale, zero, **options)
            assert_same_bits(device.fake_quantize(x, scale, zero, **options), expected, block)

    @pytest.mark.parametrize("symmetric", [True, False])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_chosen_scales(self, device, affine, format, dtype, symmetric):
        most = torch.finfo(dtype).max / 64  # of the sample: about 12
        for block in self.BLOCKS:
            for size in (1.0, most, 1e-30, 1e-37, 1e-39, 1e-44):
                x = (sample((32, 160), torch.float64) * size).to(dtype)
                x[3], x[:, :32] = 0, 0
                options = {"format": format, "block_size": block, "symmetric": symmetric}
                expected = affine(x, **options)
                assert_same_bits(device.fake_quantize(x, **options), expected, (block, size))

    def test_nan_is_kept(self, device, affine, format):
        x = torch.tensor([[math.nan, 0.5, math.inf, -math.inf]])
        scale, zero = torch.tensor([[0.1]]), torch.tensor([[3]], dtype=torch.int32)
        options = {"format": format, "block_size": (1, -1)}
        theirs = affine(x, scale, zero, **options)
        y = device.fake_quantize(x, scale, zero, **options)
        assert_same_bits(y[:, 1:], theirs[:, 1:])
        assert y[0, 0].isnan()
        assert theirs[0, 0].isfinite()

    def test_blocks_that_are_not_finite(self, device, affine, format):
        x = torch.linspace(-3, 3, 32)[None].clone()
        signed = strop.NumberFormat.get(format).min < 0
        for value in (math.nan, math.inf):
            x[0, 3] = value
            options = {"format": format, "block_size": (1, -1), "symmetric": not signed}
            assert device.fake_quantize(x, **options).isnan().all()
            theirs = affine(x, **options)
            assert theirs[:, 4:].isnan().all()
            # Its scale is Inf, NaN's code as int8 0, and that is not the zero point.
            assert bool(theirs[0, 3].isinf()) == math.isinf(value)


@pytest.fixture
def mx():
    """torchao's microscaling formats, by our names: (the scales' bytes, the result)."""
    peer("torchao")
    from torchao.prototype.mx_formats import mx_tensor

    elements = (torch.float8_e4m3fn, torch.float8_e5m2, "fp6_e2m3", "fp6_e3m2")
    elements = dict(zip(MX_RECIPES, (*elements, torch.float4_e2m1fn_x2), strict=True))
    floor = mx_tensor.ScaleCalculationMode.FLOOR

    def call(x, format):
        tensor = mx_tensor.MXTensor.to_mx(x, elements[format], 32, floor)
        return tensor.scale.view(torch.uint8), tensor.dequantize(torch.float32).to(x.dtype)

    return call


@pytest.mark.parametrize("format", MX_RECIPES)
class TestTorchaosMicroscaling:
    @staticmethod
    def element(x, scale, format):
        names = dict(zip(MX_RECIPES, CASTS, strict=True))
        return strop.fake_quantize(x, torch.tensor(scale), format=names[format])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_bits(self, device, mx, format, dtype):
        bits = any_bits(256 * 96, dtype).view(256, 96)
        bits = torch.where(bits.isfinite(), bits, 0)
        for x in (sample((64, 96), dtype), every_exponent(96, dtype), bits):
            scales, expected = mx(x, format)
            plain = (scales > 0).repeat_interleave(32, -1)
            assert plain.float().mean() > 0.8  # (scale byte 0 has a test of its own)
            y = device.fake_quantize(x, format=format)
            assert_same_bits(torch.where(plain, y, 0), torch.where(plain, expected, 0))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @ONLY_IN_0_18
    def test_scale_byte_0(self, device, mx, format, dtype):
        # Divided by 2^-126, but multiplied by 2^-127, what the byte means.
        x = every_exponent(32, dtype)
        most = math.floor(math.log2(strop.NumberFormat.get(format).max))
        x = x[x.abs().amax(1) < 2.0 ** (most - 126)]
        assert len(x) > 20
        x[0] = 0
        scales, theirs = mx(x, format)
        assert (scales == 0).all()
        assert_same_bits(theirs, (self.element(x.float(), 2.0**-126, format) / 2).to(dtype))
        y = device.fake_quantize(x, format=format)
        assert_same_bits(y, self.element(x, 2.0**-127, format))
        x = x.double()
        assert (y.double() - x).abs().sum() * 2 < (theirs.double() - x).abs().sum()

    @ONLY_IN_0_18
    def test_nan_and_inf(self, device, mx, format):
        x = sample((3, 64), torch.float32) + 0.25
        x[0, 3], x[1, 3], x[2, 3] = math.nan, math.inf, -math.inf
        scales, theirs = mx(x, format)
        y = device.fake_quantize(x, format=format)
        assert y[:, :32].isnan().all()
        assert_same_bits(y[:, 32:], theirs[:, 32:])
        assert_same_bits(y[0], theirs[0])
        assert scales[0, 0] == 255
        assert (scales[1:, 0] < 255).all()  # of Inf, as if that were 2^128
        assert_same_bits(theirs[1:, 3], x[1:, 3])
        assert (theirs[1:, :3] == 0).all()


class TestTorchaosFloat8:
    @pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
    @pytest.mark.parametrize("grid", [(4, 4), (64, 1), (1, 1)], ids=str)
    def test_scales_are_divided_by(self, device, dtype, grid):
        # Here x is multiplied by the inverse: beside a midpoint, the other neighbour.
        peer("torchao")
        from torchao.quantization import quant_primitives as primitives

        every = torch.arange(0x7C, dtype=torch.uint8).view(dtype).float()
        every = every[every.isfinite()]
        middle = (every[1:] + every[:-1]) / 2
        g = torch.manual_seed(0)
        scale = torch.rand(grid, generator=g) + 0.1
        at = [torch.arange(n) // (n // count) for n, count in zip((64, 128), grid, strict=True)]
        full = scale[at[0]][:, at[1]]
        x = middle[torch.randint(len(middle), (64, 128), generator=g)] * full
        cast = lambda v: v.to(dtype).float()  # noqa: E731
        codes = primitives._quantize_affine_float8(x, scale, dtype)
        theirs = primitives._dequantize_affine_float8(codes, scale)
        assert_same_bits(theirs, cast(x / full) * full)
        block = tuple(n // count for n, count in zip((64, 128), grid, strict=True))
        name = strop.NumberFormat.get(dtype).name
        y = device.fake_quantize(x, scale, format=name, block_size=block)
        assert_same_bits(y, cast(x * (1 / full)) * full)
        assert 0 < (y != theirs).float().mean() < 0.5


@pytest.fixture
def nvfp4():
    """torchao's NVFP4, of the scale for the tensor that it chooses, or a given one."""
    peer("torchao")
    from torchao.prototype.mx_formats import nvfp4_tensor

    def call(x, scale=None):
        scale = nvfp4_tensor.per_tensor_amax_to_scale(x.abs().max()) if scale is None else scale
        tensor = nvfp4_tensor.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale)
        return tensor.dequantize(torch.float32).to(x.dtype)

    return call


class TestTorchaosNvfp4:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_bits(self, device, nvfp4, dtype):
        ties = torch.randint(-24, 25, (64, 96), generator=torch.manual_seed(0)).to(dtype) / 4
        ties[:, ::16], ties[0, 0] = 6, 448 * 6  # scales that are powers of two
        spread = sample((64, 96), dtype) * 2.0 ** torch.arange(-32, 32)[:, None].to(dtype)
        for x in (sample((64, 96), dtype), ties, spread, torch.where(spread > 1, 0, spread)):
            assert_same_bits(device.fake_quantize(x, format="nvfp4"), nvfp4(x))
        for x in every_exponent(64, dtype)[:, None]:
            if x.abs().max() >= 448 * 6 * 2.0**-120:
                assert_same_bits(device.fake_quantize(x, format="nvfp4"), nvfp4(x))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_tensor_scales_are_at_least_2_to_the_minus_120(self, device, nvfp4, dtype):
        # Below, the inverse of the two scales may be Inf, which makes a zero another number.
        for x in every_exponent(64, dtype)[12:, None]:
            if 0 < x.abs().max() < 448 * 6 * 2.0**-120:
                y = device.fake_quantize(x, format="nvfp4")
                assert_same_bits(y, nvfp4(x, torch.tensor(2.0**-120)))
        x = torch.tensor([[1.0, 0.0, 0.25, -1.0] * 4]) * 2.0**-125
        theirs = nvfp4(x)
        assert (theirs[x == 0] != 0).all()
        assert (theirs.abs()[x != 0] == theirs.max()).all()
        y = device.fake_quantize(x, format="nvfp4")
        assert_same_bits(y, x)

    def test_zeros(self, device, nvfp4):
        zeros = torch.zeros(3, 32)
        zeros[1] = -0.0
        assert nvfp4(zeros).isnan().all()
        assert_same_bits(device.fake_quantize(zeros, format="nvfp4"), zeros)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_not_finite(self, device, nvfp4, value):
        x = sample((3, 32), torch.float32)
        x[1, 7] = value
        assert nvfp4(x).isnan().all()
        assert device.fake_quantize(x, format="nvfp4").isnan().all()
