"""What autograd is told of every op: gradients are right in double backward, or refused, or constants."""

import dataclasses
import warnings

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn import functional

import strop
from strop._core.gradient import written_places

NAMES = sorted(n for n in torch._C._dispatch_get_all_op_names() if n.startswith("strop::"))
OPS = [
    getattr(getattr(torch.ops.strop, n[7:].split(".")[0]), (n + ".default").split(".")[1])
    for n in NAMES
]
X = torch.linspace(-2, 2, 64, dtype=torch.float64).view(4, 16)
SCALE = torch.linspace(0.1, 0.4, 16, dtype=torch.float64).view(4, 4)
ZERO = torch.linspace(-1, 1, 16, dtype=torch.float64).view(4, 4)
ROWS = torch.tensor([[0.1], [0.4], [0.0], [1.5]], dtype=torch.float64)
IMAGES = torch.linspace(0, 1, 2 * 3 * 5 * 6, dtype=torch.float64).view(2, 3, 5, 6)
MATRIX = strop.affine_matrix(20.0, (1, 0.5), 1.2, 0, 5, 6)
INT4 = {"format": "int4", "block_size": (1, 4)}
CHOSEN = strop.fake_quantize(X, **INT4)
QUANTIZED = strop.quantize(X, SCALE, **INT4)
BYTES = torch.arange(16, dtype=torch.uint8)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name().removeprefix("strop::"))
def test_every_op_is_declared(op):
    known = lambda key: torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key)  # noqa: E731
    if known("CompositeImplicitAutograd"):
        return
    assert known("Autograd")  # else gradients are lost, with a warning at best
    assert known("Meta")
    assert known("Negative") == bool(written_places(op))


def _like_fake_quantize(x, scale, zero):
    """Learned step size quantization to int4, by torch's ops."""
    scale, zero = (t.repeat_interleave(4, 1) for t in (scale, zero))
    code = x / scale
    code = code + (torch.round(code + zero) - zero - code).detach()
    return (torch.clamp(code + zero, -8, 7) - zero) * scale


def _like_soft_threshold(x, amount):
    return torch.where(x.abs() > amount, x - x.sign() * amount, 0)


WEIGHT = torch.linspace(-1, 1, 7 * 16).view(7, 16) * (torch.arange(7 * 16).view(7, 16) % 3 == 0)
PACKED = {
    backward: strop.pack_weight(WEIGHT, plan="packed", backward=backward)
    for backward in (False, True)
}
BIAS = torch.linspace(-1, 1, 7)

# Function, the same by torch's ops, tensors.
DIFFERENTIABLE = {
    "fake_quantize, scale chosen": (
        lambda x: strop.fake_quantize(x, **INT4),
        lambda x: CHOSEN + x - x.detach(),
        [X],
    ),
    "fake_quantize, scale given": (
        lambda x: strop.fake_quantize(x, SCALE, ZERO, **INT4),
        lambda x: _like_fake_quantize(x, SCALE, ZERO),
        [X],
    ),
    "fake_quantize, scale and zero_point learned": (
        lambda *t: strop.fake_quantize(*t, **INT4),
        _like_fake_quantize,
        [X, SCALE, ZERO],
    ),
    "soft_threshold": (
        lambda x: strop.soft_threshold(x, 0.5),
        lambda x: _like_soft_threshold(x, 0.5),
        [X],
    ),
    "soft_threshold, amount learned": (strop.soft_threshold, _like_soft_threshold, [X, ROWS]),
    **{
        f"packed_linear, activation={activation}, backward={backward}": (
            lambda x, b, w=weight, a=activation: strop.packed_linear(x, w, b, activation=a),
            lambda x, b, f=like: f(functional.linear(x, WEIGHT, b)),
            [X.float(), BIAS],
        )
        for backward, weight in PACKED.items()
        for activation, like in {None: lambda y: y, "gelu": functional.gelu}.items()
    },
}


def _two_derivatives(function, tensors):
    """The gradients of a loss that is no straight line, and what they change by along a direction."""
    leaves = [t.clone().requires_grad_() for t in tensors]
    y = function(*leaves)
    loss = (y * torch.linspace(1, 2, y.numel()).view(y.shape)).sin().sum()
    first = torch.autograd.grad(loss, leaves, create_graph=True)
    directions = [torch.linspace(-1, 1, t.numel(), dtype=t.dtype).view(t.shape) for t in tensors]
    along = sum((g * d).sum() for g, d in zip(first, directions, strict=True))
    return [y, *first, *torch.autograd.grad(along, leaves)]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_double_backward(name):
    function, like, tensors = DIFFERENTIABLE[name]
    expected = _two_derivatives(like, tensors)
    for found, wanted in zip(_two_derivatives(function, tensors), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)  # (sums have an order)


@pytest.mark.parametrize(
    ("function", "tensors"),
    [
        (lambda x: strop.augment_images(x, MATRIX, std=0.5, dtype=x.dtype), [IMAGES]),
        (strop.warp_points, [IMAGES[:, 0, :, :2], MATRIX.double()]),
    ],
    ids=["augment_images", "warp_points"],
)
def test_double_backward_of_what_is_smooth(function, tensors):
    leaves = [t.clone().requires_grad_() for t in tensors]
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


class TestWithoutGradient:
    """Ops whose results have no gradient: constants where a function says so, else an error."""

    @pytest.mark.parametrize("name", ["quantize", "choose_scale", "prune_mask", "pack_masked"])
    def test_constants(self, name):
        op = getattr(torch.ops.strop, name)
        given = {
            "quantize": (None, None, "int4", [1, 4], "half_even", True),
            "choose_scale": ("int4", [1, 4], True),
            "prune_mask": (None, 0.5),
            "pack_masked": (None,),
        }[name]
        leaf = X.clone().requires_grad_()
        (gradient,) = torch.autograd.grad((leaf**3).sum(), leaf, create_graph=True)
        for x in (leaf, gradient):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                made = op(x, *given)
            made = [made] if isinstance(made, torch.Tensor) else made
            assert not any(t.requires_grad for t in made)

    @pytest.mark.parametrize("place", range(1, 4), ids=["scale", "zero_point", "tensor_scale"])
    def test_restoring_codes_is_refused(self, place):
        tensors = [QUANTIZED.codes, SCALE, ZERO, torch.tensor(1.0)]
        (tensors[place],) = torch.autograd.grad(  # as a double backward has it
            (leaf := tensors[place].clone().requires_grad_()).square().sum(),
            leaf,
            create_graph=True,
        )
        for options in ({}, {"out": torch.zeros_like(X)}):
            rest = ("int4", [1, 4]) if options else ("int4", [1, 4], [4, 16], X.dtype)
            with pytest.raises(
                RuntimeError, match="strop.dequantize: a tensor requires a gradient"
            ):
                torch.ops.strop.dequantize(*tensors, *rest, **options)
        q = dataclasses.replace(QUANTIZED, scale=SCALE.clone().requires_grad_())
        for options in ({}, {"out": torch.zeros_like(X)}):
            with pytest.raises(
                RuntimeError, match="strop.dequantize: a tensor requires a gradient"
            ):
                strop.dequantize(q, **options)
            with torch.no_grad():
                assert torch.equal(strop.dequantize(q, **options), strop.dequantize(QUANTIZED))
        with pytest.raises(RuntimeError, match="strop.dequantize: a tensor requires a gradient"):
            torch.func.grad(lambda s: strop.dequantize(dataclasses.replace(q, scale=s)).sum())(
                SCALE
            )

    WRITING = {
        "fake_quantize": lambda x, out: strop.fake_quantize(x, SCALE, **INT4, out=out),
        "fake_quantize_": lambda x, out: strop.fake_quantize_(x, SCALE, **INT4),
        "soft_threshold": lambda x, out: strop.soft_threshold(x, 0.5, out=out),
        "soft_threshold_": lambda x, out: strop.soft_threshold_(x, 0.5),
        "warp_masks": lambda x, out: strop.warp_masks(x[None], None, size=(4, 16), out=out[None]),
        "augment_images": lambda x, out: strop.augment_images(
            x[None, None], dtype=x.dtype, out=out[None, None]
        ),
    }

    @pytest.mark.parametrize("name", WRITING)
    def test_what_writes_to_a_tensor_refuses_gradients_and_tangents(self, name):
        call = self.WRITING[name]
        error = f"strop.{name}: (a tensor requires|masks would need) a gradient"
        before, out = X.clone(), torch.zeros_like(X)
        with pytest.raises(RuntimeError, match=error):
            call(before.requires_grad_(), out)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(X.clone(), torch.ones_like(X))
            with pytest.raises(RuntimeError, match=error):
                call(dual, out)
            assert torch.equal(dual, X)
        assert torch.equal(before, X)
        assert not out.any()

    def test_what_ops_write_to_is_marked(self):
        ops, out, codes = torch.ops.strop, torch.zeros_like(X), torch.zeros_like(BYTES)
        ops.dequantize(QUANTIZED.codes, SCALE, None, None, "int4", [1, 4], out=out)
        ops.unpack_bits(strop.pack_bits(BYTES, 4), 4, 16, out=codes)
        assert out._version == 1
        assert codes._version == 1
