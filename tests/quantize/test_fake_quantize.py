"""fake_quantize against the oracle: formats, roundings, blocks, dtypes, layouts, instruction sets."""

import math

import pytest
import torch

import strop
from core.devices import assert_same_bits, oracle
from quantize.problems import (
    DTYPES,
    INTEGERS,
    ROUNDINGS,
    SMALL_INTEGERS,
    grid_of,
    sample,
    scale_dtype,
)

reference = oracle("fake_quantize")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("size", [1, 7, 31, 33, 111, 500, 4099])
def test_sizes(device, size, rounding, dtype):
    x = sample((size,), dtype)
    for options in ({}, {"block_size": (32,)}, {"block_size": (5,), "symmetric": False}):
        options |= {"rounding": rounding, "seed": 3}
        assert_same_bits(device.fake_quantize(x, **options), reference(x, **options), options)
        grid = grid_of(x.shape, options.get("block_size"))
        scale = (torch.rand(grid) * 0.3 + 0.05).to(scale_dtype(dtype))
        zero = torch.randint(-5, 5, grid)
        assert_same_bits(
            device.fake_quantize(x, scale, zero, **options),
            reference(x, scale, zero, **options),
            options,
        )


@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_formats(device, format, symmetric):
    x = sample((6, 70), torch.float32)
    options = {"format": format, "symmetric": symmetric, "block_size": (1, 32)}
    y = device.fake_quantize(x, **options)
    assert_same_bits(y, reference(x, **options))
    entry = strop.NumberFormat.get(format)
    for row in y[:, :32]:
        assert row.unique().numel() <= entry.max - entry.min + 1
    one = torch.tensor(1.0)
    codes = device.fake_quantize(x * 1e6, one, format=format)
    assert codes.min() == entry.min
    assert codes.max() == entry.max


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("format", SMALL_INTEGERS)
def test_every_16_bit_input(device, format, rounding, dtype):
    x = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)
    scale = torch.tensor(0.0371)
    zero = torch.tensor(3, dtype=torch.int8)
    options = {"format": format, "rounding": rounding, "seed": 11}
    y = device.fake_quantize(x, scale, zero, **options)
    assert_same_bits(y, reference(x, scale, zero, **options))
    assert torch.equal(y.isnan(), x.isnan())
    # Each number in a block of its own: its own scale.
    options["block_size"] = (1,)
    assert_same_bits(device.fake_quantize(x, **options), reference(x, **options))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("shape", "block_size"),
    [
        ((), None),
        ((), ()),
        ((0,), None),
        ((3, 0), (1, 2)),
        ((1,), (1,)),
        ((5, 7), (2, 3)),
        ((5, 7), (-1, 1)),
        ((5, 7), (1, -1)),
        ((4, 96), (1, 32)),
        ((4, 100), (1, 33)),
        ((130, 140), (64, 64)),
        ((3, 4, 5), (1, -1, 2)),
        ((2, 3, 4, 5), (-1, 1, -1, -1)),
        ((2, 3, 2, 3, 4), (1, 2, 1, -1, 3)),
        ((2, 1, 3, 2, 2, 5), (2, 1, 1, -1, 1, 4)),
        ((2, 1, 3, 2, 2, 5), None),
    ],
    ids=str,
)
def test_shapes(device, shape, block_size, dtype):
    x = sample(shape, dtype)
    grid = grid_of(shape, block_size)
    scale = (torch.rand(grid) + 0.1).to(scale_dtype(dtype))
    floating = torch.randn(grid).to(scale_dtype(dtype))
    for arguments in (
        (x,),
        (x, scale),
        (x, scale, torch.ones(grid, dtype=torch.int32)),
        (x, scale, floating),
    ):
        for rounding in ("half_even", "stochastic"):
            options = {"block_size": block_size, "rounding": rounding, "seed": 1}
            y = device.fake_quantize(*arguments, **options)
            assert y.shape == x.shape
            assert_same_bits(y, reference(*arguments, **options), options)


@pytest.mark.parametrize("dtype", DTYPES[:3], ids=str)
@pytest.mark.parametrize(
    "block_size", [None, (1, -1), (1, 32), (-1, 1), (128, 128), (1, 33)], ids=str
)
def test_large(device, block_size, dtype):
    # Beyond the cache: streaming stores, two passes, several threads.
    rows, columns = device.size((1100, 2050), (220, 650))
    x = sample((rows, columns), dtype)
    x[5, 7] = math.nan
    x[200, 3] = -math.inf
    for options in ({}, {"symmetric": False}):
        options |= {"block_size": block_size, "format": "int4"}
        assert_same_bits(device.fake_quantize(x, **options), reference(x, **options))
    scale = torch.rand(grid_of(x.shape, block_size)) + 0.05
    shifted = torch.empty(rows * columns + 1, dtype=dtype)[1:].view(
        rows, columns
    )  # no aligned stores
    options = {"block_size": block_size}
    expected = reference(x, scale, **options)
    assert_same_bits(device.fake_quantize(x, scale, **options), expected)
    assert_same_bits(device.fake_quantize(x, scale, **options, out=shifted), expected)
    assert_same_bits(device.fake_quantize_(x, scale, **options), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [4, 8, 16, 64, 128, 256, 512, 1024, 2048])
def test_groups_of_powers_of_two(device, width, dtype):
    x = sample((3, 5 * width // 2), dtype)  # the last one is short
    for symmetric in (True, False):
        options = {"block_size": (1, width), "format": "int4", "symmetric": symmetric}
        assert_same_bits(device.fake_quantize(x, **options), reference(x, **options), options)


@pytest.mark.parametrize(
    "kind",
    [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32]
    + [torch.uint64, torch.float32],
    ids=str,
)
def test_zero_points_of_every_dtype(device, kind):
    x = sample((7, 40), torch.float32)
    scale = torch.rand(7, 5) + 0.1
    zero = torch.arange(35).view(7, 5).to(kind)
    options = {"block_size": (1, 8), "format": "uint8"}
    assert_same_bits(
        device.fake_quantize(x, scale, zero, **options), reference(x, scale, zero, **options)
    )


def test_many_column_blocks(device):
    # More blocks than are held at a time: cut in halves.
    x = sample(device.size((300, 40000), (30, 4000)), torch.float32)
    options = {"block_size": (-1, 1), "rounding": "stochastic", "seed": 5}
    y = device.fake_quantize(x, **options)
    part = x[:, 3000:3050].contiguous()
    scale = part.abs().amax(0, keepdim=True) / 127.5
    near = (y[:, 3000:3050] / scale - part / scale).abs().max()
    assert near < 1.0001
    assert torch.equal(y, device.fake_quantize(x, **options))
    assert_same_bits(y[:, :3], reference(x, **options)[:, :3])


def test_threads_change_nothing():
    before = torch.get_num_threads()
    x = sample((513, 4099), torch.float32)
    try:
        for options in (
            {"block_size": None},
            {"block_size": (1, 32)},
            {"block_size": (-1, 1)},
            {"rounding": "stochastic", "seed": 9},
        ):
            torch.set_num_threads(1)
            one = strop.fake_quantize(x, **options)
            torch.set_num_threads(4)
            assert_same_bits(strop.fake_quantize(x, **options), one, options)
    finally:
        torch.set_num_threads(before)


def test_short_rows_and_expanded_input(device):
    sliced = sample((3000, 4), torch.float32)[:, :3]
    for block_size in (None, (1, -1), (-1, 1)):
        options = {"block_size": block_size}
        assert_same_bits(device.fake_quantize(sliced, **options), reference(sliced, **options))
    expanded = sample((5, 1), torch.float32).expand(5, 40)
    assert_same_bits(device.fake_quantize(expanded), reference(expanded))


def test_strides_are_kept():
    x = sample((2, 3, 8, 8), torch.float32).to(memory_format=torch.channels_last)
    assert strop.fake_quantize(x).is_contiguous(memory_format=torch.channels_last)
    t = sample((6, 10), torch.float32).t()
    assert strop.fake_quantize(t).stride() == t.stride()
    for odd in (t[::2], x[:, :, ::2], sample((4, 1), torch.float32).expand(4, 6)):
        assert strop.fake_quantize(odd).stride() == torch.empty_like(odd).stride()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_out_and_in_place(device, dtype):
    x = sample((9, 50), dtype)
    expected = reference(x, block_size=(1, 16))
    for out in (
        torch.empty_like(x),
        torch.empty(50, 9, dtype=dtype).t(),
        torch.empty(9, 150, dtype=dtype)[:, ::3],
    ):
        assert device.fake_quantize(x, block_size=(1, 16), out=out) is out
        assert_same_bits(out, expected)
    same = x.clone()
    assert device.fake_quantize(same, block_size=(1, 16), out=same) is same
    assert_same_bits(same, expected)
    assert device.fake_quantize_(x, block_size=(1, 16)) is x
    assert_same_bits(x, expected)


def test_interleaved_out_is_no_overlap():
    whole = sample((6, 40), torch.float32)
    expected = reference(whole[:, :20].clone())
    strop.fake_quantize(whole[:, :20], out=whole[:, 20:])
    assert_same_bits(whole[:, 20:], expected)
    expected = reference(whole[:, ::2].clone())
    strop.fake_quantize(whole[:, ::2], out=whole[:, 1::2])
    assert_same_bits(whole[:, 1::2], expected)


def test_not_finite(device):
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0])
    y = device.fake_quantize(x, torch.tensor(0.5), format="int4")
    assert y[0].isnan()
    assert y[1:].tolist() == [3.5, -4.0, 1.0]
    assert device.fake_quantize(x, torch.tensor(0.5), format="integer")[1] == math.inf
    x = torch.tensor([1.0, math.inf, 2.0, 2.0])
    for symmetric in (True, False):
        blocks = device.fake_quantize(x, quant_min=-127, block_size=(2,), symmetric=symmetric)
        assert blocks[:2].isnan().all()
        assert blocks[2:].tolist() == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("value", [0.0, -0.25, math.nan, math.inf, 1e-45, 3e38])
def test_any_scale_gives_what_the_arithmetic_gives(device, value):
    x = sample((5, 40), torch.float32)
    scale = torch.full((5, 1), 0.5)
    scale[2] = value
    for zero in (None, torch.full((5, 1), 2)):
        y = device.fake_quantize(x, scale, zero, block_size=(1, -1))
        assert_same_bits(y, reference(x, scale, zero, block_size=(1, -1)))
        rest = [0, 1, 3, 4]
        assert_same_bits(
            y[rest],
            reference(
                x[rest], scale[rest], zero if zero is None else zero[rest], block_size=(1, -1)
            ),
        )


def test_zero_blocks_and_eps(device):
    x = torch.zeros(3, 32)
    assert torch.equal(device.fake_quantize(x, block_size=(1, 32)), x)
    assert torch.equal(device.fake_quantize(x, block_size=(1, 32), symmetric=False), x)
    tiny = torch.full((4,), 1e-3)
    assert device.fake_quantize(tiny, eps=0.1).tolist() == [0.0] * 4
    negative = device.fake_quantize(torch.full((8,), -1e-9), torch.tensor(0.5))
    assert not torch.signbit(negative).any()


def test_bounds(device):
    x = torch.linspace(-20, 20, 41)
    one = torch.tensor(1.0)
    y = device.fake_quantize(x, one, format="int8", quant_min=-3, quant_max=5)
    assert torch.equal(y, x.round().clamp(-3, 5))
    assert torch.equal(device.fake_quantize(x, one, format="integer"), x.round())
    narrow = device.fake_quantize(x, quant_min=-127)
    assert torch.equal(narrow, (x * (1 / (x.abs().max() / 127))).round() * (x.abs().max() / 127))


def test_formats_by_dtype_and_object():
    x = sample((40,), torch.float32)
    for kind, name in (
        (torch.uint8, "uint8"),
        (torch.int16, "int16"),
        (strop.NumberFormat.get("int3"), "int3"),
    ):
        assert torch.equal(strop.fake_quantize(x, format=kind), strop.fake_quantize(x, format=name))


class TestStochastic:
    def test_grid_values_never_move(self, device):
        x = torch.arange(-8, 8).float() * 0.25
        for seed in range(50):
            y = device.fake_quantize(x, torch.tensor(0.25), rounding="stochastic", seed=seed)
            assert torch.equal(x, y)

    def test_unbiased(self, device):
        draws = 1_000_000
        for value in (0.1, 0.5, 0.875, -0.3):
            x = torch.full((draws,), value)
            y = device.fake_quantize(x, torch.tensor(1.0), rounding="stochastic", seed=1)
            fraction = value - math.floor(value)
            assert set(y.unique().tolist()) == {math.floor(value), math.floor(value) + 1.0}
            sigma = math.sqrt(fraction * (1 - fraction) / draws)
            assert abs(y.double().mean().item() - value) < 4 * sigma

    def test_follows_philox(self):
        # Salmon et al.'s test vectors: key and counter of zeros; and of ones in every bit.
        x = torch.full((4,), 0.5)
        words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
        expected = [1.0 if (w >> 8) / 2**24 < 0.5 else 0.0 for w in words]
        y = strop.fake_quantize(x, torch.tensor(1.0), rounding="stochastic", seed=0)
        assert y.tolist() == expected

    def test_index_is_logical(self, device):
        x = torch.rand(33, 20) * 9
        one = torch.tensor(1.0)
        plain = device.fake_quantize(x, one, rounding="stochastic", seed=4)
        other = device.fake_quantize(x.t().contiguous().t(), one, rounding="stochastic", seed=4)
        assert torch.equal(plain, other)
        assert not torch.equal(plain, device.fake_quantize(x, one, rounding="stochastic", seed=5))

    def test_seed_tensor(self):
        x = torch.rand(100)
        y = strop.fake_quantize(x, rounding="stochastic", seed=torch.tensor([7]))
        assert torch.equal(y, strop.fake_quantize(x, rounding="stochastic", seed=7))
