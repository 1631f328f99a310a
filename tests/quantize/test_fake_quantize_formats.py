"""fake_quantize in float formats, NF4 and recipes: against the oracle, on every device."""

import math

import pytest
import torch

import strop
from core.devices import assert_same_bits, oracle
from quantize.problems import (
    DTYPES,
    FLOATS,
    RECIPES,
    blocks_of,
    grid_of,
    roundings_of,
    sample,
    scale_dtype,
)

reference = oracle("fake_quantize")
SHAPES = [(), (1,), (5,), (40,), (6, 70), (3, 4, 33), (2, 1030), (2, 0)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FLOATS + RECIPES)
def test_shapes_and_blocks(device, format, dtype):
    for shape in SHAPES:
        x = sample(shape, dtype)
        for block in blocks_of(format, shape) if shape else [None]:
            for rounding in roundings_of(format):
                options = {"format": format, "rounding": rounding, "seed": 3}
                options |= {} if block is None else {"block_size": block}
                y = device.fake_quantize(x, **options)
                assert_same_bits(y, reference(x, **options), (shape, options))
                if format in RECIPES:
                    continue
                scale = (torch.rand(grid_of(shape, block)) * 0.3 + 0.05).to(scale_dtype(dtype))
                y = device.fake_quantize(x, scale, **options)
                assert_same_bits(y, reference(x, scale, **options), (shape, options))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("format", FLOATS)
def test_every_16_bit_input(device, format, dtype):
    x = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    scale = torch.tensor(0.0371)
    for rounding in roundings_of(format):
        options = {"format": format, "rounding": rounding, "seed": 11}
        y = device.fake_quantize(x, scale, **options)
        assert_same_bits(y, reference(x, scale, **options), rounding)
        assert torch.equal(y.isnan(), x.isnan())
    # Each number in a block of its own: its own scale.
    options = {"format": format, "block_size": (1,)}
    assert_same_bits(device.fake_quantize(x, **options), reference(x, **options))


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize("format", [*FLOATS[:1], "nf4", *RECIPES])
def test_large(device, format, dtype):
    # Beyond the cache: streaming stores, several threads; in two levels, two passes.
    x = sample(device.size((1100, 2048), (220, 640)), dtype)
    options = {"format": format} if format in RECIPES else {"format": format, "block_size": (1, 64)}
    expected = reference(x, **options)
    assert_same_bits(device.fake_quantize(x, **options), expected)
    assert_same_bits(device.fake_quantize(x[:, :-1], **options), reference(x[:, :-1], **options))
    assert_same_bits(device.fake_quantize_(x, **options), expected)


@pytest.mark.parametrize("format", FLOATS + RECIPES)
def test_results_are_values(device, format):
    x = sample((64, 96), torch.float32)
    values = strop.NumberFormat.get(format).values()
    if format in FLOATS:
        y = device.fake_quantize(x * 1e5, torch.tensor(1.0), format=format)
        assert set(y.unique().tolist()) <= set(values.tolist())
        assert y.max() == values[-1]
        assert y.min() == values[0]
        again = device.fake_quantize(y, torch.tensor(1.0), format=format)
        assert_same_bits(again + 0.0, y + 0.0)
    else:
        y = device.fake_quantize(x, format=format)
        for block in y.view(-1, strop.NumberFormat.get(format).block):
            assert block.unique().numel() <= values.numel()


@pytest.mark.parametrize("format", FLOATS + RECIPES)
def test_not_finite(device, format):
    x = torch.linspace(-3, 3, 64).view(2, 32).clone()
    x[0, 3], x[0, 4], x[0, 5] = math.nan, math.inf, -math.inf
    one = strop.NumberFormat.get(format)
    if format in FLOATS:
        y = device.fake_quantize(x, torch.tensor(0.25), format=format)
        assert y[0, 3].isnan()
        assert y[0, 4:6].tolist() == [one.max / 4, one.min / 4]
        assert y.isnan().sum() == 1
    for value in (math.nan, math.inf, -math.inf):
        bad = torch.linspace(-3, 3, 64).view(2, 32).clone()
        bad[0, 3] = value
        block = {} if format in RECIPES else {"block_size": (1, -1)}
        y = device.fake_quantize(bad, format=format, **block)
        assert y[0, :16].isnan().all()
        # (a scale of the tensor is everybody's)
        assert bool(y[1].isnan().all()) == (format == "nvfp4")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FLOATS + RECIPES)
def test_zeros_and_the_tiniest(device, format, dtype):
    block = {} if format in RECIPES else {"block_size": (1, 32)}
    zeros = torch.zeros(3, 70, dtype=dtype)
    assert torch.equal(device.fake_quantize(zeros, format=format, **block), zeros)
    for tiny in (1e-44, 1e-40, 1e-38, 3e-30, 1e30):
        x = sample((3, 70), torch.float64).mul(tiny).to(dtype)
        y = device.fake_quantize(x, format=format, **block)
        assert_same_bits(y, reference(x, format=format, **block), tiny)


@pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_signs_of_zeros(device, format):
    x = torch.tensor([-0.0, -1e-30, 0.0, 1e-30])
    y = device.fake_quantize(x, torch.tensor(1.0), format=format)
    assert y.tolist() == [0.0] * 4
    assert y.signbit().tolist() == [True, True, False, False]


def test_ties(device):
    one = torch.tensor(1.0)
    x = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -2.5, -5.0])  # between e2m1's values
    expected = {
        "half_even": [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0, -2.0, -4.0],
        "half_away": [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -3.0, -6.0],
        "floor": [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, -3.0, -6.0],
        "ceil": [0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -2.0, -4.0],
        "trunc": [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, -2.0, -4.0],
    }
    for rounding, wanted in expected.items():
        y = device.fake_quantize(x, one, format="float4_e2m1fn", rounding=rounding)
        assert y.tolist() == wanted, rounding


class TestStochastic:
    @pytest.mark.parametrize("format", [f for f in FLOATS if f != "nf4"])
    def test_values_never_move(self, device, format):
        x = strop.NumberFormat.get(format).values()
        for seed in range(20):
            options = {"format": format, "rounding": "stochastic", "seed": seed}
            assert torch.equal(device.fake_quantize(x, torch.tensor(1.0), **options), x)

    @pytest.mark.parametrize("format", [f for f in FLOATS if f != "nf4"])
    def test_unbiased(self, device, format):
        draws = 1_000_000 if device.name != "cuda-host" else 250_000
        values = strop.NumberFormat.get(format).values()
        for place, share in ((-2, 0.3), (values.numel() // 2, 0.875), (1, 0.5)):
            low, high = values[place].item(), values[place + 1].item()
            value = torch.tensor(low + share * (high - low)).item()
            x = torch.full((draws,), value)
            options = {"format": format, "rounding": "stochastic", "seed": 5}
            y = device.fake_quantize(x, torch.tensor(1.0), **options)
            assert set(y.unique().tolist()) == {low, high}
            share = (value - low) / (high - low)
            sigma = (high - low) * math.sqrt(share * (1 - share) / draws)
            assert abs(y.double().mean().item() - value) < 4 * sigma

    @pytest.mark.parametrize("format", [f for f in FLOATS + RECIPES if f != "nf4"])
    def test_threads_change_nothing(self, format):
        before = torch.get_num_threads()
        x = sample((513, 4096), torch.float32)
        options = {"format": format, "rounding": "stochastic", "seed": 9}
        try:
            torch.set_num_threads(1)
            one = strop.fake_quantize(x, **options)
            torch.set_num_threads(4)
            assert_same_bits(strop.fake_quantize(x, **options), one)
        finally:
            torch.set_num_threads(before)


class TestGradients:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("format", FLOATS)
    def test_straight_through(self, device, format, dtype):
        most = strop.NumberFormat.get(format).max
        for block in ((1, 32), (1, 5), (1, -1)):
            x = (sample((7, 70), dtype).float() * most / 3).to(dtype)
            scale = torch.full(grid_of(x.shape, block), 0.5, dtype=scale_dtype(dtype))
            dy = torch.randn(x.shape).to(dtype)
            for rounding in roundings_of(format):
                options = {"format": format, "block_size": block, "rounding": rounding, "seed": 4}
                y, dx = device.straight_through(x, scale, dy=dy, **options)
                assert_same_bits(y, reference(x, scale, **options))
                inside = (x.float() * 2).abs() <= most
                assert 0.05 < inside.float().mean() < 0.95
                assert_same_bits(dx, torch.where(inside, dy, torch.zeros_like(dy)))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("format", FLOATS)
    def test_learned(self, device, format, dtype):
        learned = oracle_gradients()
        most = strop.NumberFormat.get(format).max
        for block in ((1, 32), (1, 5), None):
            x = (sample((7, 70), dtype).float() * most / 3).to(dtype)
            scale = torch.full(grid_of(x.shape, block), 0.5, dtype=scale_dtype(dtype))
            dy = torch.randn(x.shape).to(dtype)
            for rounding in roundings_of(format):
                options = {"format": format, "block_size": block, "rounding": rounding, "seed": 4}
                dx, dscale = device.gradients((x, scale), dy, grad_factor=0.5, **options)
                wanted = learned(dy, x, scale, grad_factor=0.5, **options)
                assert_same_bits(dx, wanted[0])
                bound = 3e-7 * most * dy.double().abs().sum().item()
                assert (dscale - wanted[1]).abs().max() <= bound

    @pytest.mark.parametrize("format", RECIPES)
    def test_recipes_pass_the_identity(self, torch_device, format):
        x, dy = sample((6, 64), torch.float32), torch.randn(6, 64)
        assert torch.equal(torch_device.gradients((x,), dy, format=format)[0], dy)


def oracle_gradients():
    from core.devices import to_array, to_tensor
    from strop import _C

    def call(*tensors, **options):
        found = _C.reference.learned_gradient(*map(to_array, tensors), **options)
        return [to_tensor(g) for g in found if g is not None]

    return call


@pytest.mark.parametrize(
    ("options", "scale", "text"),
    [
        (
            {"format": "mxfp8", "block_size": (1, 32)},
            False,
            "block_size is given; format mxfp8 has",
        ),
        ({"format": "mxfp4"}, True, "scale is given; format mxfp4 chooses its scales"),
        ({"format": "nf4", "rounding": "floor"}, False, "rounding 'floor' is not defined for"),
        ({"format": "float8_e4m3fn", "symmetric": False}, False, "symmetric is False; format"),
        ({"format": "float8_e5m2", "quant_max": 3}, False, "quant_max is given; it narrows"),
        ({"format": "mxfp8", "eps": 0.5}, False, "eps is given; the scales of format mxfp8"),
        ({"format": "float7"}, False, "format 'float7' is not known; known are int2"),
    ],
)
def test_errors(options, scale, text):
    x = torch.zeros(4, 64)
    with pytest.raises(ValueError, match=text):
        strop.fake_quantize(x, torch.tensor(1.0) if scale else None, **options)


def test_errors_of_zero_points():
    x = torch.zeros(4, 64)
    with pytest.raises(ValueError, match="zero_point is given; format float8_e5m2 has none"):
        strop.fake_quantize(x, torch.tensor(1.0), torch.tensor(1), format="float8_e5m2")


BY_DTYPE = {
    **{
        getattr(torch, f"{kind}{bits}"): f"{kind}{bits}"
        for kind in ("int", "uint")
        for bits in range(2, 9)
    },
    torch.int16: "int16",
    torch.float8_e4m3fn: "float8_e4m3fn",
    torch.float8_e5m2: "float8_e5m2",
    torch.float4_e2m1fn_x2: "float4_e2m1fn",
}


class TestTorchsDtypes:
    @pytest.mark.parametrize("dtype", BY_DTYPE, ids=str)
    def test_as_formats(self, dtype):
        x, name = sample((8, 64), torch.float32), BY_DTYPE[dtype]
        assert strop.NumberFormat.get(dtype) == strop.NumberFormat.get(name)
        options = {"block_size": (1, 32)}
        wanted = strop.fake_quantize(x, format=name, **options)
        assert_same_bits(strop.fake_quantize(x, format=dtype, **options), wanted)
        assert_same_bits(strop.fake_quantize_(x.clone(), format=dtype, **options), wanted)
        q = strop.quantize(x, format=dtype, **options)
        assert q.format == name
        assert_same_bits(q.dequantize(), wanted)
        chosen = strop.choose_scale(x, format=dtype, **options)
        assert_same_bits(chosen.scale, strop.choose_scale(x, format=name, **options).scale)
        report = strop.quantization_report({"w": x}, formats=[dtype, (torch.int8, (1, 8))])
        assert [f["format"] for f in report.to_dict()["formats"]] == [name, "int8"]

    def test_compiled(self):
        x = sample((8, 64), torch.float32)

        def call(x):
            found = []
            for dtype in (torch.int4, torch.uint3, torch.float8_e5m2, torch.float4_e2m1fn_x2):
                q = strop.quantize(x, format=dtype, block_size=(1, 32))
                found += [strop.fake_quantize(x, format=dtype), q.dequantize()]
                found.append(strop.choose_scale(x, format=dtype).scale)
            return found

        for ours, wanted in zip(torch.compile(call, fullgraph=True)(x), call(x), strict=True):
            assert_same_bits(ours, wanted)

    OTHERS = {
        torch.int1: "int2",
        torch.uint1: "uint2",
        torch.bool: "uint2",
        torch.uint16: "int16",
        torch.int32: "integer",
        torch.int64: "integer",
        torch.uint64: "integer",
        torch.qint8: "int8",
        torch.quint4x2: "uint4",
        torch.float8_e4m3fnuz: "float8_e4m3fn",
        torch.float8_e5m2fnuz: "float8_e5m2",
        torch.float8_e8m0fnu: "mxfp8",
        torch.bfloat16: "float8_e4m3fn",
    }

    @pytest.mark.parametrize("dtype", OTHERS, ids=str)
    def test_others_have_a_nearest_one(self, dtype):
        text = rf"format '{dtype}' is not known; known are int2, .*; {dtype} has .*: "
        text += f"{self.OTHERS[dtype]} is nearest"
        x = torch.ones(4, 32)
        for call in (
            lambda: strop.fake_quantize(x, format=dtype),
            lambda: strop.quantize(x, format=dtype),
            lambda: strop.choose_scale(x, format=dtype),
            lambda: strop.NumberFormat.get(dtype),
            lambda: strop.quantization_report({"w": x}, formats=[dtype]),
        ):
            with pytest.raises(ValueError, match=text):
                call()

    def test_others_compiled(self):
        compiled = torch.compile(
            lambda x: strop.fake_quantize(x, format=torch.float8_e4m3fnuz), fullgraph=True
        )
        with pytest.raises(Exception, match="float8_e4m3fnuz has bias 8"):
            compiled(torch.ones(4, 32))

    def test_numbers_without_a_nearest_one(self):
        with pytest.raises(ValueError, match=r"format 'torch.complex64' is not known; .*, nvfp4$"):
            strop.fake_quantize(torch.ones(4), format=torch.complex64)


@pytest.mark.parametrize("format", [*FLOATS, "mxfp4", "nvfp4"])
def test_compiled(format):
    x = sample((8, 64), torch.float32)

    def call(t):
        return strop.fake_quantize(t, format=format) * 2

    assert_same_bits(torch.compile(call, fullgraph=True, backend="aot_eager")(x), call(x))


class TestTransforms:
    @pytest.mark.parametrize("format", ["float8_e4m3fn", "nf4", "mxfp8", "nvfp4"])
    def test_vmap(self, format):
        for x in (sample((3, 5, 40), torch.float32), sample((6,), torch.float32)):
            x[0] = x[0] * 7
            found = torch.func.vmap(lambda t: strop.fake_quantize(t, format=format))(x)
            assert_same_bits(found, torch.stack([strop.fake_quantize(t, format=format) for t in x]))

    @pytest.mark.parametrize("format", ["float8_e5m2", "float4_e2m1fn", "nf4"])
    def test_gradients(self, format):
        most = strop.NumberFormat.get(format).max
        x, dy = sample((6, 40), torch.float32) * most, torch.randn(6, 40)
        scale = torch.rand(6, 2) + 0.5
        call = lambda x, s: strop.fake_quantize(x, s, format=format, block_size=(1, 20))  # noqa: E731
        _, back = torch.func.vjp(call, x, scale)
        leaves = [x.clone().requires_grad_(), scale.clone().requires_grad_()]
        wanted = torch.autograd.grad(call(*leaves), leaves, dy)
        for found, expected in zip(back(dy), wanted, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * most)
