"""fake_quantize against its peers ml_dtypes, torch and bitsandbytes, and where they differ."""

import math
import platform

import numpy as np
import pytest
import torch
from tqdm import tqdm

import strop
from core.devices import assert_same_bits, to_array
from quantize.problems import CASTS, any_bits, every_exponent, peer, sample

TORCH_CASTS = ["float8_e4m3fn", "float8_e5m2"]
ONE = torch.tensor(1.0)


class MlDtypes:
    """A float format of ml_dtypes. It does not saturate, and its narrow formats have no NaN."""

    def __init__(self, format):
        self.type = getattr(peer("ml_dtypes"), format)
        self.max = strop.NumberFormat.get(format).max

    def values(self, codes):
        return torch.from_numpy(codes.numpy().view(self.type).astype(np.float32))

    def cast(self, x):
        nan = x.isnan()
        held = to_array(x.clamp(-self.max, self.max).masked_fill(nan, 0))
        cast = torch.from_numpy(held.astype(self.type).astype(np.float32))
        return cast.masked_fill_(nan, math.nan)


class TorchCasts:
    """One of torch's float8 dtypes. Beyond its range float8_e5m2 gives Inf."""

    def __init__(self, format):
        self.type = getattr(torch, format)
        self.max = torch.finfo(self.type).max

    def values(self, codes):
        return codes.view(self.type).float()

    def cast(self, x):
        return x.clamp(-self.max, self.max).to(self.type).float()


def between_values(format):
    """A format's values and the midpoints between them, each with its neighbours; the extremes."""
    values = strop.NumberFormat.get(format).values().double()
    points = torch.cat([values, (values[1:] + values[:-1]) / 2, values[-1:] * 1.5]).float()
    points = torch.cat([points, -points, torch.tensor([math.inf, 3e38, 1e-38, 1e-45, math.nan])])
    infinity = torch.full_like(points, math.inf)
    ends = [torch.nextafter(points, -infinity), points, torch.nextafter(points, infinity)]
    return torch.cat([*ends, -points])


@pytest.fixture(
    params=[(MlDtypes, f) for f in CASTS] + [(TorchCasts, f) for f in TORCH_CASTS],
    ids=lambda p: f"{p[0].__name__}-{p[1]}",
)
def oracle(request):
    """(format, a peer's casts to it)"""
    kind, format = request.param
    return format, kind(format)


class TestFloatFormats:
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_every_16_bit_input(self, device, oracle, dtype):
        format, theirs = oracle
        x = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
        y = device.fake_quantize(x, ONE, format=format)
        assert_same_bits(y.float(), theirs.cast(x))

    def test_values_midpoints_and_any_bits(self, device, oracle):
        format, theirs = oracle
        x = torch.cat([between_values(format), any_bits(50_000)])
        assert_same_bits(device.fake_quantize(x, ONE, format=format), theirs.cast(x))

    def test_ten_million_floats(self, oracle):
        format, theirs = oracle
        for seed in range(10):
            x = any_bits(1_000_000, seed=seed)
            assert_same_bits(strop.fake_quantize(x, ONE, format=format), theirs.cast(x))

    def test_codes_decode_to_the_values(self, oracle):
        format, theirs = oracle
        codes = torch.arange(2 ** strop.NumberFormat.get(format).bits).to(torch.uint8)
        decoded = theirs.values(codes)
        decoded = (decoded[decoded.isfinite()] + 0.0).unique()  # (-0 is 0)
        assert_same_bits(strop.NumberFormat.get(format).values(), decoded)

    @pytest.mark.slow
    @pytest.mark.parametrize("format", CASTS)
    def test_every_float32(self, format, capsys):
        theirs, chunk = MlDtypes(format), 1 << 24
        with capsys.disabled():
            for start in tqdm(range(-(2**31), 2**31, chunk), desc=format, disable=None):
                x = torch.arange(start, start + chunk, dtype=torch.int32).view(torch.float32)
                found = strop.fake_quantize(x, ONE, format=format)
                assert_same_bits(found, theirs.cast(x), f"from bits {start:#x}")


def learnable(x, scale, zero_point, dy, factor):
    """(result, gradients) of torch's op for a tensor's learned scale and zero point."""
    leaves = [t.clone().requires_grad_() for t in (x, scale, zero_point)]
    y = torch._fake_quantize_learnable_per_tensor_affine(*leaves, -8, 7, factor)
    return y.detach(), torch.autograd.grad(y, leaves, dy)


class TestTorch:
    def test_learnable_values(self, device):
        torch.manual_seed(0)
        x, scale = sample((40, 300), torch.float32), torch.rand(40) + 0.1
        zero = torch.arange(-20, 20) / 2.5  # torch rounds it, and clamps it to the codes
        expected = torch._fake_quantize_learnable_per_channel_affine(x, scale, zero, 0, -8, 7, 1.0)
        rounded = zero.round().clamp(-8, 7)[:, None].int()
        options = {"format": "int4", "block_size": (1, -1)}
        assert_same_bits(device.fake_quantize(x, scale[:, None], rounded, **options), expected)
        for at in range(0, 40, 8):
            expected, _ = learnable(x, scale[at : at + 1], zero[at : at + 1], x, 1.0)
            y = device.fake_quantize(x, scale[at], rounded[at], format="int4")
            assert_same_bits(y, expected)

    def test_floating_zero_points_are_added_before_rounding(self, device):
        # torch's learnable op adds them after it: of odd ones, ties go to the other neighbour.
        x = torch.tensor([-2.5, -0.5, 0.5, 2.5, 0.25])
        y = device.fake_quantize(x, ONE, ONE, format="int4")
        assert y.tolist() == [-3, -1, 1, 3, 0]
        assert learnable(x, torch.ones(1), torch.ones(1), x, 1.0)[0].tolist() == [-2, 0, 0, 2, 0]

    @pytest.mark.parametrize("zero", [0.0, 3.0])
    def test_learnable_gradients_of_a_tensors_scale(self, device, zero):
        x, dy = sample((40, 300), torch.float32), sample((40, 300), torch.float32, 1)
        scale, zero_point = torch.tensor([0.3]), torch.tensor([zero])
        ours = device.gradients((x, scale, zero_point), dy, format="int4", grad_factor=0.5)
        _, expected = learnable(x, scale, zero_point, dy, 0.5)
        assert torch.equal(ours[0], expected[0])
        for a, b in zip(ours[1:], expected[1:], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)

    def test_negative_zero_points_are_truncated_in_torchs_gradient(self):
        # trunc(-2 + 0.5) is -1: its backward is that of another zero point than its forward.
        x, dy, scale = sample((40, 300), torch.float32), torch.ones(40, 300), torch.tensor([0.3])
        gradients = {}
        for zero in (-1.0, -2.0):
            leaves = [x.clone(), scale.clone(), torch.tensor([zero])]
            y = strop.fake_quantize(*(t.requires_grad_() for t in leaves), format="int4")
            gradients[zero] = torch.autograd.grad(y, leaves, dy)[1].item()
            assert_same_bits(learnable(x, scale, torch.tensor([zero]), dy, 1.0)[0], y.detach())
        _, theirs = learnable(x, scale, torch.tensor([-2.0]), dy, 1.0)
        assert theirs[1].item() == pytest.approx(gradients[-1.0], rel=1e-3)
        assert abs(gradients[-2.0] - gradients[-1.0]) > 1

    def test_straight_through_of_a_tensors_scale(self, device):
        x, dy = sample((40, 300), torch.float32), torch.ones(40, 300)
        scale, zero = torch.tensor(0.3), torch.tensor(2, dtype=torch.int32)
        leaf = x.clone().requires_grad_()
        expected = torch.fake_quantize_per_tensor_affine(leaf, scale, zero, -8, 7)
        y, dx = device.straight_through(x, scale, zero, dy=dy, format="int4")
        assert_same_bits(y, expected.detach())
        assert_same_bits(dx, torch.autograd.grad(expected, leaf, dy)[0])

    def test_nan_is_kept(self, device):
        x = torch.tensor([[math.nan, 1.0]])
        y = device.fake_quantize(x, ONE, format="int4")
        assert y[0, 0].isnan()
        zero = torch.zeros(1, dtype=torch.int32)
        for theirs in (
            torch.fake_quantize_per_tensor_affine(x, 1.0, 0, -8, 7),
            torch.fake_quantize_per_channel_affine(x, torch.ones(1), zero, 0, -8, 7),
        ):
            assert theirs[0, 0].isfinite()  # a code, which one is up to the processor
            assert theirs[0, 1] == y[0, 1] == 1

    @pytest.mark.parametrize("zero", [-9, 8, 20, -1000])
    def test_zero_points_beyond_the_range(self, device, zero):
        # torch refuses them; here the formula holds, in float32.
        x, scale = sample((40, 300), torch.float32), torch.tensor(0.3)
        inverse, shift = np.float32(1) / scale.numpy(), np.float32(zero)
        codes = np.clip(np.rint(x.numpy() * inverse) + shift, np.float32(-8), np.float32(7))
        expected = torch.from_numpy((codes - shift) * scale.numpy())
        at = torch.tensor(zero, dtype=torch.int32)
        assert_same_bits(device.fake_quantize(x, scale, at, format="int4"), expected)
        q = strop.quantize(x, scale, at, format="int4")
        assert_same_bits(q.dequantize(), expected)
        with pytest.raises(RuntimeError, match=r"between .?quant_min.? and .?quant_max"):
            torch.fake_quantize_per_tensor_affine(x, 0.3, zero, -8, 7)
        rows = torch.full((40,), 0.3), torch.full((40,), zero, dtype=torch.int32)
        with pytest.raises(RuntimeError, match=r"between .?quant_min.? and .?quant_max"):
            torch.fake_quantize_per_channel_affine(x, *rows, 0, -8, 7)

    def test_codes_beyond_64_bits_saturate(self, device):
        x = torch.tensor([[math.inf, 1e30, 1e18, -1e18, -1e30, -math.inf]])
        y = device.fake_quantize(x, ONE, format="int4")
        assert y.tolist() == [[7, 7, 7, -8, -8, -8]]
        zero = torch.zeros(1, dtype=torch.int32)
        theirs = torch.fake_quantize_per_channel_affine(x, torch.ones(1), zero, 0, -8, 7)
        assert torch.equal(theirs[:, 2:], y[:, 2:])
        if platform.machine() == "x86_64":  # whose conversion to int64 gives the least one
            assert theirs[0, :2].tolist() == [-8, -8]


@pytest.fixture
def nf4():
    """bitsandbytes' NF4."""
    peer("bitsandbytes")
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    def call(x, block=64):
        codes, state = quantize_4bit(x, blocksize=block, quant_type="nf4")
        return dequantize_4bit(codes, state).view(x.shape)

    return call


class TestBitsandbytesNf4:
    OPTIONS = {"format": "nf4", "block_size": (1, 64)}

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
    def test_bits(self, device, nf4, dtype):
        wide = every_exponent(128, dtype)
        most = wide.view(-1, 2, 64).abs().amax(-1)
        wide = wide[((most >= 2.0**-126) & most.isfinite()).all(1)]
        assert len(wide) > 30
        for x in (sample((64, 128), dtype), wide, wide[:1] * 0):
            for block in (64, 128):
                y = device.fake_quantize(x, format="nf4", block_size=(1, block))
                theirs = nf4(x, block)
                # (AVX-512's instruction to bfloat16 has no subnormals)
                flushed = (theirs == 0) & (y.abs() < 2.0**-126) & (dtype == torch.bfloat16)
                assert_same_bits(torch.where(flushed, theirs, y), theirs)

    def test_midpoints_go_to_the_lower_code(self, device, nf4):
        from bitsandbytes.functional import get_4bit_type

        values = get_4bit_type("nf4", device="cpu")
        assert_same_bits(strop.NumberFormat.get("nf4").values(), values)
        middle, infinity = (values[1:] + values[:-1]) / 2, torch.full((15,), math.inf)
        x = torch.ones(1, 64)
        for i, to in enumerate((-infinity, middle, infinity)):
            x[0, 16 * i : 16 * i + 15] = torch.nextafter(middle, to)
        y = device.fake_quantize(x, **self.OPTIONS)
        assert_same_bits(y, nf4(x))
        for i in range(3):
            codes = torch.bucketize(y[0, 16 * i : 16 * i + 15], values)
            assert codes.tolist() == [n + (i == 2) for n in range(15)]

    def test_scales_are_at_least_the_smallest_normal_number(self, device, nf4):
        # The peer bounds what it multiplies by, but not what it decodes with.
        x = every_exponent(64, torch.float32)
        x = x[x.abs().amax(1) < 1e-38]
        assert len(x) > 15
        y = device.fake_quantize(x, **self.OPTIONS)
        tiny = torch.tensor(2.0**-126)
        assert_same_bits(y, strop.fake_quantize(x, tiny, format="nf4"))
        theirs = strop.fake_quantize(x * (1 / torch.tensor(1e-38)), ONE, format="nf4")
        assert_same_bits(nf4(x), theirs * x.abs().amax(1, keepdim=True))

    def test_short_blocks_are_multiplied_by_the_inverse(self, device, nf4):
        # The peer divides in a last block that is short: here another side of a midpoint.
        x = torch.zeros(1, 4)
        x[0, 0], x[0, 1] = float.fromhex("0x1.cdade4p-1"), float.fromhex("-0x1.878c6ap-1")
        y, theirs = device.fake_quantize(x, **self.OPTIONS), nf4(x)
        values = strop.NumberFormat.get("nf4").values()
        assert {y[0, 1].item(), theirs[0, 1].item()} == set((values[:2] * x[0, 0]).tolist())

    def test_blocks_end_with_their_row(self, device, nf4):
        x = sample((2, 96), torch.float32)
        flat = device.fake_quantize(x.view(-1), format="nf4", block_size=(64,))
        assert_same_bits(nf4(x.view(-1)), flat)  # the peer's do not: it has no rows
        y = device.fake_quantize(x, **self.OPTIONS)
        assert_same_bits(y[:, :64], torch.stack([nf4(row) for row in x[:, :64].clone()]))
        assert not torch.equal(y.view(-1), flat)

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_not_finite(self, device, nf4, value):
        x = sample((1, 64), torch.float32) + 0.25
        x[0, 3] = value
        theirs = nf4(x)
        assert theirs.isnan().sum() == (64 if math.isnan(value) else 63)
        assert math.isnan(value) or theirs[0, 3].isinf()
        assert device.fake_quantize(x, **self.OPTIONS).isnan().all()
