"""Gradients of fake_quantize under functorch, forward-mode AD, double backward, compile, modes."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

import strop
from quantize.test_fake_quantize_gradient import mask_of, problem


def small():
    x, scale, zero, _ = problem((4, 6), (1, 3))
    return x, scale, zero, {"format": "int4", "block_size": (1, 3), "grad_factor": 0.5}


class TestTransforms:
    """functorch and forward-mode AD, against ordinary backward."""

    def test_grad(self):
        x, scale, zero, options = small()
        f = lambda *t: (strop.fake_quantize(*t, **options) ** 2).sum()  # noqa: E731
        leaves = [t.clone().requires_grad_() for t in (x, scale, zero)]
        expected = torch.autograd.grad(f(*leaves), leaves)
        for a, b in zip(torch.func.grad(f, (0, 1, 2))(x, scale, zero), expected, strict=True):
            torch.testing.assert_close(a, b)
        half = torch.func.grad(lambda t: (f(t, scale, None) / 8).float())(x.bfloat16())
        assert half.dtype == torch.bfloat16
        g = lambda t: strop.fake_quantize(t, format="int4", block_size=(1, 3)).sum()  # noqa: E731
        assert torch.equal(torch.func.grad(g)(x), torch.ones_like(x))

    def test_vmap(self):
        x, scale, zero, options = small()
        xs, scales = torch.stack([x, 2 * x, -x]), torch.stack([scale, scale / 2, scale])
        for seed in (None, 5, torch.tensor(5), torch.tensor([3, 4, 5])):
            more = {**options, "rounding": "half_even" if seed is None else "stochastic"}
            call = lambda *t: strop.fake_quantize(*t[:3], seed=t[3], **more)  # noqa: B023, E731
            batched = isinstance(seed, torch.Tensor) and seed.dim() == 1
            for in_dims, tensors in (
                ((0, None, None), (xs, scale, zero)),
                ((0, 0, None), (xs, scales, zero)),
                ((None, 0, None), (x, scales, zero)),
                ((2, None, None), (xs.movedim(0, 2), scale, zero)),
            ):
                got = torch.func.vmap(call, (*in_dims, 0 if batched else None))(*tensors, seed)
                for i in range(3):
                    one = [t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims)]  # noqa: B905
                    assert torch.equal(got[i], call(*one, seed[i] if batched else seed))
        whole = torch.func.vmap(lambda t: strop.fake_quantize(t))(xs)
        assert torch.equal(whole[1], strop.fake_quantize(xs[1]))

    def test_per_sample_gradients(self):
        x, scale, zero, options = small()
        xs = torch.stack([x, 2 * x])
        f = lambda t: (strop.fake_quantize(t, scale, zero, **options) ** 2).sum()  # noqa: E731
        got = torch.func.vmap(torch.func.grad(f))(xs)
        for i in range(2):
            assert torch.equal(got[i], torch.func.grad(f)(xs[i]))

    def test_forward_mode(self):
        x, scale, zero, options = small()
        f = lambda *t: strop.fake_quantize(*t, **options)  # noqa: E731
        tangents = [torch.randn_like(t) for t in (x, scale, zero)]
        y, dy = torch.func.jvp(f, (x, scale, zero), tuple(tangents))
        assert torch.equal(y, f(x, scale, zero))
        leaves = [t.clone().requires_grad_() for t in (x, scale, zero)]
        cotangent = torch.randn_like(x)
        found = torch.autograd.grad(f(*leaves), leaves, cotangent)
        backward = sum((g * t).sum() for g, t in zip(found, tangents, strict=True))
        torch.testing.assert_close((dy * cotangent).sum(), backward)
        with forward_ad.dual_level():
            dual = f(forward_ad.make_dual(x, tangents[0]), scale, zero)
            tangent = forward_ad.unpack_dual(dual).tangent
        kept = mask_of(x, scale, zero, format="int4", block_size=(1, 3))
        assert torch.equal(tangent, torch.where(kept, tangents[0], torch.zeros_like(x)))

    @pytest.mark.parametrize("learned", [False, True])
    def test_double_backward(self, learned):
        x, scale, zero, options = small()
        leaves = [x.clone().requires_grad_()]
        others = [t.clone().requires_grad_(learned) for t in (scale, zero)]
        dy = torch.randn_like(x).requires_grad_()
        y = strop.fake_quantize(leaves[0], *others, **options)
        wanted = leaves + (others if learned else [])
        first = torch.autograd.grad(y, wanted, dy, create_graph=True)
        plain = torch.autograd.grad(
            strop.fake_quantize(leaves[0], *others, **options), wanted, dy.detach()
        )
        for a, b in zip(first, plain, strict=True):
            torch.testing.assert_close(a, b)
        # The first backward is linear in dy: <g, J dy> has the gradient J^T g.
        weights = [torch.randn_like(g) for g in first]
        (second,) = torch.autograd.grad(
            sum((w * g).sum() for w, g in zip(weights, first, strict=True)), dy, create_graph=True
        )
        pushed = torch.func.jvp(
            lambda *t: strop.fake_quantize(*t, *([] if learned else others), **options),
            tuple(t.detach() for t in wanted),
            tuple(weights),
        )[1]
        torch.testing.assert_close(second, pushed)

    def test_hessian(self):
        x = torch.tensor([0.3, 0.8, 40.0])
        f = lambda t: (strop.fake_quantize(t, torch.tensor(0.25), format="int4") ** 2).sum()  # noqa: E731
        expected = torch.diag(torch.tensor([2.0, 2.0, 0.0]))
        assert torch.equal(torch.func.hessian(f)(x), expected)


class TestCompile:
    @pytest.mark.parametrize("learned", [False, True])
    def test_backward_with_dynamic_shapes(self, learned):
        def f(x, scale, zero):
            y = strop.fake_quantize(
                x * 2, scale, zero, format="int4", block_size=(1, -1), grad_factor=0.5
            )
            return (y * torch.arange(y.shape[1])).sum()

        compiled = torch.compile(f, fullgraph=True, dynamic=True)
        for rows in (3, 5, 9):
            x, scale, zero, _ = problem((rows, 40), (1, -1), seed=rows)
            found = []
            for call in (f, compiled):
                leaves = [x.clone().requires_grad_()]
                leaves += [t.clone().requires_grad_(learned) for t in (scale, zero)]
                found.append(torch.autograd.grad(call(*leaves), leaves if learned else leaves[:1]))
            for a, b in zip(*found, strict=True):
                torch.testing.assert_close(a, b)

    def test_dynamic_scale_and_seed(self):
        f = lambda x, seed: strop.fake_quantize(  # noqa: E731
            x, format="int4", block_size=(1, 8), rounding="stochastic", seed=seed
        ).sin()
        compiled = torch.compile(f, fullgraph=True)
        x = torch.randn(4, 16, requires_grad=True)
        for seed in (torch.tensor(1), torch.tensor(2)):
            expected = torch.autograd.grad(f(x, seed).sum(), x)[0]
            torch.testing.assert_close(torch.autograd.grad(compiled(x, seed).sum(), x)[0], expected)


@pytest.mark.parametrize("strict", [False, True])
def test_export_of_a_model_that_learns(strict):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(8, 16))
            self.scale = torch.nn.Parameter(torch.full((8, 1), 0.1))

        def forward(self, x):
            w = strop.fake_quantize(self.weight, self.scale, format="int4", block_size=(1, -1))
            return x @ w.t()

    model, x = Model(), torch.randn(9, 16)
    batch = ({0: torch.export.Dim("batch")},)
    exported = torch.export.export(model, (x[:4],), dynamic_shapes=batch, strict=strict)
    again = exported.module()
    assert torch.equal(again(x), model(x))
    again(x).square().sum().backward()
    model(x).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert torch.equal(again.get_parameter(name).grad, parameter.grad), name


def test_checkpoint_autocast_and_hooks():
    x, scale, zero, options = small()
    leaf = x.clone().requires_grad_()
    f = lambda t: strop.fake_quantize(t, scale, zero, **options).square().sum()  # noqa: E731
    expected = torch.autograd.grad(f(leaf), leaf)[0]
    again = torch.autograd.grad(checkpoint(f, leaf, use_reentrant=False), leaf)[0]
    assert torch.equal(again, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = strop.fake_quantize(leaf, scale, zero, **options)
    assert y.dtype == torch.float32
    assert y.requires_grad
    with torch.inference_mode():
        assert not strop.fake_quantize(leaf, scale, zero, **options).requires_grad


def test_subclass():
    class Tagged(torch.Tensor):
        pass

    x, scale, zero, options = small()
    tagged = x.as_subclass(Tagged).requires_grad_()
    y = strop.fake_quantize(tagged, scale, zero, **options)
    assert isinstance(y, Tagged)
    plain = x.clone().requires_grad_()
    strop.fake_quantize(plain, scale, zero, **options).sum().backward()
    y.sum().backward()
    assert torch.equal(tagged.grad.as_subclass(torch.Tensor), plain.grad)


@pytest.mark.parametrize("format", ["int8", "uint4", "float8_e4m3fn", "float4_e2m1fn", "nf4"])
@pytest.mark.parametrize("scale", [0.05, 0.0, float("inf"), float("nan"), 1e-45])
def test_blocks_that_are_nothing_but_padding(format, scale):
    """A transform gives the eager result and gradients, where a scale or an element cannot be divided by."""
    row = [0.3, -0.7, float("inf"), -float("inf"), float("nan"), 100.0, -100.0, 0.0]
    rows = torch.tensor([row, [0.0] * 8, [0.25, -0.5, 1, -2, 100, -100, 0.5, 0.125], row[2:4] * 4])
    scales = torch.tensor([[0.05], [scale], [scale], [scale]])
    points = (None, torch.full((4, 1), 3.0)) if format in ("int8", "uint4") else (None,)

    def call(x, s, *z):
        return strop.fake_quantize(x, s, *z, format=format, block_size=(1, -1))

    for point in points:
        tensors = [rows, scales] + ([] if point is None else [point])
        leaves = [t.clone().requires_grad_() for t in tensors]
        eager = call(*leaves)
        wanted = torch.autograd.grad(eager, leaves, torch.ones_like(rows))
        found, gradients = torch.func.vjp(call, *tensors)
        close = {"rtol": 1e-5, "atol": 1e-6, "equal_nan": True}
        torch.testing.assert_close(found, eager.detach(), rtol=0, atol=0, equal_nan=True)
        for of_transform, of_eager in zip(gradients(torch.ones_like(rows)), wanted, strict=True):
            torch.testing.assert_close(of_transform, of_eager, **close)
