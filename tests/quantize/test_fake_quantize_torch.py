"""fake_quantize as a torch op: opcheck, compile, export, modes; bit-equal to torch."""

import pytest
import torch

import strop
from core.devices import assert_same_bits
from strop import _C

OP = torch.ops.strop.fake_quantize.default
IN_PLACE = torch.ops.strop.fake_quantize_.default
OUT = torch.ops.strop.fake_quantize.out
CHECKS = (
    "test_schema",
    "test_faketensor",
    "test_autograd_registration",
    "test_aot_dispatch_dynamic",
)


def calls():
    x = torch.randn(6, 70)
    scale, zero = torch.rand(6, 1) * 0.1 + 0.01, torch.randint(-3, 3, (6, 1))
    return [
        (x, None, None, "int4", [1, 32], "half_even", True),
        (x, scale, zero, "int8", [1, -1], "floor", True),
        (x.bfloat16(), scale, None, "uint8", [1, -1], "half_even", True, None, 1, 200),
        (x.t(), None, None, "int4", [], "stochastic", False, 5),
        (x, None, None, "int4", [], "stochastic", False, None, None, None, 0.1, torch.tensor(5)),
    ]


@pytest.mark.parametrize("arguments", calls(), ids=range(len(calls())))
def test_opcheck(arguments):
    torch.library.opcheck(OP, arguments, test_utils=CHECKS)
    torch.library.opcheck(IN_PLACE, (arguments[0].clone(), *arguments[1:]), test_utils=CHECKS)
    out = {"out": torch.empty_like(arguments[0])}
    torch.library.opcheck(OUT, arguments, out, test_utils=CHECKS)


def test_opcheck_of_the_eager_forms():
    x = torch.randn(6, 70)
    spec = _C.intern_quantize_spec("strop", format="int8")
    for op in (torch.ops.strop._fake_quantize.default, torch.ops.strop._fake_quantize_.default):
        torch.library.opcheck(op, (x.clone(), torch.tensor(0.1), None, spec), test_utils=CHECKS[:3])


class TestCompile:
    def test_dynamic_shapes_and_seeds(self):
        def f(x, scale, seed):
            y = strop.fake_quantize(
                x * 2, scale, block_size=(1, -1), rounding="stochastic", seed=seed
            )
            return y + 1

        compiled = torch.compile(f, fullgraph=True, dynamic=True)
        for rows in (3, 5, 9):
            x, scale = torch.randn(rows, 40), torch.rand(rows, 1) + 0.1
            for seed in (1, 2, torch.tensor(3)):
                assert torch.equal(compiled(x, scale, seed), f(x, scale, seed))

    def test_mutation(self):
        def f(x, out):
            strop.fake_quantize(x, out=out)
            y = x.clone()
            strop.fake_quantize_(y, format=torch.int8, block_size=[1, 8])
            return out + y

        x = torch.randn(4, 16)
        compiled = torch.compile(f, fullgraph=True)
        assert torch.equal(compiled(x, torch.empty_like(x)), f(x, torch.empty_like(x)))

    @pytest.mark.parametrize("strict", [False, True])
    def test_export_with_dynamic_batch(self, strict):
        class Model(torch.nn.Module):
            def forward(self, x):
                return strop.fake_quantize(x, block_size=(1, -1), format="int4")

        batch = ({0: torch.export.Dim("batch")},)
        exported = torch.export.export(
            Model(), (torch.randn(4, 16),), dynamic_shapes=batch, strict=strict
        )
        x = torch.randn(9, 16)
        assert torch.equal(exported.module()(x), Model()(x))


def test_modes():
    x = torch.randn(4, 16)
    expected = strop.fake_quantize(x)
    with torch.inference_mode():
        assert torch.equal(strop.fake_quantize(x), expected)
        inside = x.clone()
        assert torch.equal(strop.fake_quantize_(inside), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert strop.fake_quantize(x).dtype == torch.float32
    with torch.no_grad():
        parameter = torch.nn.Parameter(x.clone())
        strop.fake_quantize_(parameter)
        assert torch.equal(parameter, expected)
    mapped = torch.func.vmap(strop.fake_quantize)(torch.stack([2 * x, x]))
    assert torch.equal(mapped[1], expected)


def test_versions_are_counted():
    x = torch.randn(8)
    before = x._version
    strop.fake_quantize_(x)
    strop.fake_quantize(torch.randn(8), out=x)
    OUT(torch.randn(8), None, None, "int8", [], "half_even", True, out=x)
    assert x._version == before + 3


def tied(shape, scale):
    """Codes that are halves as often as not, before and after the product is rounded."""
    codes = torch.randint(-300, 300, shape) / 2
    return torch.where(torch.rand(shape) < 0.5, codes * scale, torch.randn(shape) * 50 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_equal_to_torch(device, dtype):
    torch.manual_seed(0)
    for low, high, zero in ((-128, 127, 0), (0, 255, 77), (-8, 7, -2)):
        options = {"format": "uint8" if low == 0 else "int8", "quant_min": low, "quant_max": high}
        scale = torch.tensor(0.00214854861)
        x = tied((300, 41), 0.00214854861).to(dtype)
        expected = torch.fake_quantize_per_tensor_affine(x, scale, torch.tensor(zero), low, high)
        zero_point = torch.tensor(zero, dtype=torch.int32)
        assert_same_bits(device.fake_quantize(x, scale, zero_point, **options), expected)
        scales = torch.rand(300) * 0.1 + 0.001
        x = tied((300, 41), scales[:, None]).to(dtype)
        zeros = torch.randint(low, high, (300,), dtype=torch.int32)
        expected = torch.fake_quantize_per_channel_affine(x, scales, zeros, 0, low, high)
        ours = device.fake_quantize(
            x, scales[:, None], zeros[:, None], block_size=(1, -1), **options
        )
        assert_same_bits(ours, expected)


def test_floating_zero_points_give_torchs_codes(device):
    torch.manual_seed(0)
    x, scale, zero = torch.randn(300, 41) * 3, torch.rand(300) * 0.1 + 0.001, torch.randn(300)
    expected = torch.fake_quantize_per_channel_affine(x, scale, zero, 0, -128, 127)
    ours = device.fake_quantize(x, scale[:, None], zero[:, None], block_size=(1, -1))
    assert ((ours - expected).abs() < 1e-4 * scale[:, None]).all()  # a code apart would be 1
