"""Gradients of fake_quantize: against the oracle and torch, on every device; opcheck; errors."""

import math

import pytest
import torch

import strop
from core.devices import assert_same_bits, oracle, to_array, to_tensor
from strop import _C

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
ROUNDINGS = ["half_even", "half_away", "floor", "ceil", "trunc", "stochastic"]
BLOCKS = [None, (1, -1), (1, 32), (-1, 1), (2, 5), (1, 33), (64, 64)]


def problem(shape=(7, 70), block=(1, 32), dtype=torch.float32, zero="float", seed=0):
    """(x, scale, zero_point, dy): a third of the codes of int4 out of range."""
    g = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=g) * 3).to(dtype)
    grid = [1] * len(shape)
    if block is not None:
        grid = [math.ceil(n / (b if b > 0 else n)) for n, b in zip(shape, block, strict=True)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    scale = (torch.rand(grid, generator=g) * 0.3 + 0.2).to(wide)
    zeros = {
        "none": None,
        "int": torch.randint(-3, 3, grid, generator=g),
        "float": torch.randn(grid, generator=g).to(wide),
    }
    return x, scale, zeros[zero], torch.randn(shape, generator=g).to(dtype)


def mask_of(x, scale, zero, **options):
    """The oracle's mask, as bools."""
    import numpy as np

    bits = np.zeros((x.numel() + 31) // 32 * 4, np.uint8)
    _C.reference.fake_quantize(to_array(x), to_array(scale), to_array(zero), mask=bits, **options)
    flat = np.unpackbits(bits, count=x.numel(), bitorder="little").astype(bool)
    return torch.from_numpy(flat).view(x.shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("zero", ["none", "int", "float"])
def test_straight_through(device, zero, block, dtype):
    for shape in ((7, 70), (1, 1), (70, 130)):
        x, scale, zero_point, dy = problem(shape, block, dtype, zero)
        for rounding in ROUNDINGS:
            options = {"format": "int4", "block_size": block, "rounding": rounding, "seed": 4}
            y, dx = device.straight_through(x, scale, zero_point, dy=dy, **options)
            assert_same_bits(y, oracle("fake_quantize")(x, scale, zero_point, **options))
            kept = mask_of(x, scale, zero_point, **options)
            assert_same_bits(dx, torch.where(kept, dy, torch.zeros_like(dy)), options)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("zero", ["none", "int", "float"])
def test_learned(device, zero, block, dtype):
    for shape in ((7, 70), (70, 1300)):
        x, scale, zero_point, dy = problem(shape, block, dtype, zero)
        for rounding in ("half_even", "floor", "stochastic"):
            options = {"format": "int4", "block_size": block, "rounding": rounding, "seed": 4}
            found = device.gradients((x, scale, zero_point), dy, grad_factor=0.25, **options)
            wanted = _C.reference.learned_gradient(
                *(to_array(t) for t in (dy, x, scale, zero_point)), grad_factor=0.25, **options
            )
            wanted = [to_tensor(t) for t in wanted if t is not None]
            assert_same_bits(found[0], wanted[0])
            for ours, theirs in zip(found[1:], wanted[1:], strict=True):
                assert ours.dtype == theirs.dtype
                # Against the sum of the terms' sizes, of which rounding errors are a share.
                most = 16 * dy.double().abs().sum().item() / theirs.numel()
                assert (ours - theirs).abs().max() <= 3e-7 * most


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_straight_through_at_any_address(device, dtype):
    x, scale, _, dy = problem((1, 1003), None, dtype)
    for start in (0, 1, 2, 3):
        part, back = x[0, start:], dy[0, start:]
        options = {"format": "int4"}
        _, dx = device.straight_through(part, scale[0], dy=back, **options)
        kept = mask_of(part, scale[0], None, **options)
        assert_same_bits(dx, torch.where(kept, back, torch.zeros_like(back)), start)


def test_learned_sums_are_the_same_everywhere(device):
    before = torch.get_num_threads()
    try:
        for shape, block in (((300, 1000), None), ((513, 700), (-1, 1)), ((40, 5000), (1, -1))):
            x, scale, zero, dy = problem(shape, block)
            options = {"format": "int4", "block_size": block}
            found = []
            for threads in (1, 3):
                torch.set_num_threads(threads)
                found.append(device.gradients((x, scale, zero), dy, **options))
            strop.set_isa("baseline")
            on_cpu = to_array(dy), to_array(x), to_array(scale), to_array(zero)
            found.append([torch.from_numpy(g) for g in _C.cpu.learned_gradient(*on_cpu, **options)])
            for other in found[1:]:
                for a, b in zip(other, found[0], strict=True):
                    assert_same_bits(a, b, (shape, block))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("learned", [False, True])
def test_equal_to_torch_per_channel(device, learned):
    x, scale, _, dy = problem((40, 300), (1, -1))
    zero = torch.randint(-3, 4, (40, 1)).float() if learned else torch.randint(-3, 4, (40, 1))
    leaves = [x.clone().requires_grad_(), scale[:, 0].clone().requires_grad_(learned)]
    if learned:
        leaves.append(zero[:, 0].clone().requires_grad_())
        y = torch._fake_quantize_learnable_per_channel_affine(*leaves, 0, -8, 7, 0.5)
        expected = torch.autograd.grad(y, leaves, dy)
    else:
        y = torch.fake_quantize_per_channel_affine(*leaves, zero[:, 0].int(), 0, -8, 7)
        expected = torch.autograd.grad(y, leaves[0], dy)
    options = {"format": "int4", "block_size": (1, -1), "grad_factor": 0.5}
    ours = device.gradients((x, scale, zero), dy, **options)
    assert torch.equal(ours[0], expected[0])
    for a, b in zip(ours[1:] if learned else (), expected[1:], strict=True):
        torch.testing.assert_close(a[:, 0], b, rtol=1e-4, atol=1e-4)


def test_dynamic_scales_pass_the_identity(torch_device):
    x, _, _, dy = problem()
    assert torch.equal(torch_device.gradients((x,), dy, format="int4", block_size=(1, 32))[0], dy)


def test_parameters_that_are_broadcast(device):
    x, _, _, dy = problem((6, 64), (1, 32))
    for scale, zero in (
        (torch.tensor(0.3), None),
        (torch.full((6, 1), 0.3), torch.tensor(0.5)),
        (torch.full((2,), 0.3), torch.full((6, 2), 0.5)),
    ):
        options = {"format": "int4", "block_size": (1, 32)}
        found = device.gradients((x, scale, zero), dy, **options)
        grid = [scale.expand(6, 2).contiguous(), None if zero is None else zero.expand(6, 2)]
        full = device.gradients((x, grid[0], grid[1]), dy, **options)
        assert torch.equal(found[0], full[0])
        for part, whole, like in zip(found[1:], full[1:], (scale, zero), strict=False):
            assert part.shape == like.shape
            torch.testing.assert_close(part, whole.sum_to_size(like.shape))


@pytest.mark.parametrize("learned", [False, True])
def test_any_layout(torch_device, learned):
    x, scale, zero, dy = problem((6, 40), (1, -1), zero="float" if learned else "int")
    options = {"format": "int4", "block_size": (1, -1)}
    tensors = (x, scale, zero)
    wanted = torch_device.gradients(tensors, dy, **options)
    images = x.reshape(2, 3, 5, 8).to(memory_format=torch.channels_last)
    for strided in (
        x.t().contiguous().t(),
        torch.stack([x, x], 2)[:, :, 1],
        torch.zeros(6, 80)[:, ::2].copy_(x),
    ):
        found = torch_device.gradients((strided, scale, zero), dy, **options)
        assert torch.equal(found[0], wanted[0])
        for a, b in zip(found[1:], wanted[1:], strict=True):
            torch.testing.assert_close(a, b)
    for gradient in (
        dy.t().contiguous().t(),
        dy[:1].expand(6, 40),
        torch.tensor(1.0).expand(6, 40),
    ):
        found = torch_device.gradients(tensors, gradient, **options)
        again = torch_device.gradients(tensors, gradient.contiguous(), **options)
        assert torch.equal(found[0], again[0])
    one = torch.tensor(0.4)
    a = torch_device.gradients((images, one), dy.reshape(images.shape), format="int4")[0]
    b = torch_device.gradients((x, one), dy, format="int4")[0]
    assert torch.equal(a, b.reshape(images.shape))


def test_not_finite(device):
    x = torch.tensor([math.nan, math.inf, -math.inf, 1.0, 2.0])
    dy = torch.tensor([1.0, 2.0, 3.0, math.nan, math.inf])
    dx = device.gradients((x, torch.tensor(0.5)), dy, format="int4")[0]
    assert dx[:3].tolist() == [0, 0, 0]
    assert dx[3].isnan()
    assert dx[4] == math.inf


def test_empty(device):
    for shape in ((0,), (3, 0)):
        x = torch.zeros(shape)
        found = device.gradients((x, torch.tensor(0.5)), x, format="int4")
        assert found[0].shape == shape
        assert found[1].item() == 0.0


def test_opcheck():
    x, scale, zero, _ = problem()
    spelled = ("int4", [1, 32], "half_even", True)
    leaves = [t.clone().requires_grad_() for t in (x, scale, zero)]
    ops = torch.ops.strop
    for arguments in ((leaves[0], scale, None), (leaves[0], None, None), tuple(leaves)):
        torch.library.opcheck(ops.fake_quantize.default, (*arguments, *spelled))
    strop.fake_quantize(x, scale, format="int4", block_size=(1, 32))
    spec = _C.intern_quantize_spec("strop", format="int4", block_size=(1, 32))
    mask = ops._fake_quantize_with_mask(x, scale, zero, *spelled)[1]
    checks = ("test_schema", "test_faketensor", "test_autograd_registration")
    for op, arguments in (
        (ops._fake_quantize_with_mask.default, (x, scale, zero, *spelled)),
        (ops._fake_quantize_with_mask.packed, (x, scale, zero, spec)),
        (ops._masked_gradient.default, (x, mask)),
        (ops._learned_gradient.default, (x, x, scale, zero, *spelled)),
        (ops._learned_gradient.packed, (x, x, scale, None, spec)),
    ):
        torch.library.opcheck(op, arguments, test_utils=checks)
    out = {"out": torch.empty_like(x)}
    torch.library.opcheck(ops._masked_gradient.out, (x, mask), out, test_utils=checks[:2])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"mask": torch.zeros(3, dtype=torch.uint8)},
            r"mask has shape \[3\]; 64 consecutive bytes",
        ),
        ({"mask": torch.zeros(64)}, "mask has dtype float32; uint8 is needed"),
        ({"gradient": torch.zeros(7, 70, dtype=torch.int32)}, "gradient has dtype int32"),
        ({"gradient": torch.zeros(7, 140)[:, ::2]}, "gradient is not dense"),
        ({"out": torch.zeros(70, 7).t()}, "out has other strides than gradient"),
        ({"out": torch.zeros(7, 71)}, r"out has shape \[7, 71\]; gradient has \[7, 70\]"),
    ],
)
def test_errors_of_masked_gradient(change, text):
    arguments = {"gradient": torch.zeros(7, 70), "mask": torch.zeros(64, dtype=torch.uint8)}
    arguments |= {"out": torch.zeros(7, 70)} | change
    with pytest.raises(RuntimeError, match=text):
        torch.ops.strop._masked_gradient.out(
            arguments["gradient"], arguments["mask"], out=arguments["out"]
        )


def test_errors_of_learned_gradient():
    x, scale, zero, dy = problem()
    spelled = ("int4", [1, 32], "half_even", True)
    op = torch.ops.strop._learned_gradient
    with pytest.raises(RuntimeError, match="gradient has dtype bfloat16; input has float32"):
        op(dy.bfloat16(), x, scale, zero, *spelled)
    with pytest.raises(RuntimeError, match="a learned scale has to be given"):
        op(dy, x, None, None, *spelled)
    with pytest.raises(RuntimeError, match="input is not contiguous"):
        op(dy, x.t().contiguous().t(), scale, zero, *spelled)
    with pytest.raises(RuntimeError, match="a mask needs a scale"):
        torch.ops.strop._fake_quantize_with_mask(x, None, None, *spelled)
