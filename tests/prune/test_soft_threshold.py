"""soft_threshold: against the oracle on every device, its gradients, torch's transforms."""

import math

import pytest
import torch
from torch.library import opcheck

import strop
from core.devices import assert_same_bits, oracle
from prune.problems import DTYPES, shrink, shrink_gradient, weights

reference = oracle("soft_threshold")
reference_gradient = oracle("soft_threshold_gradient")


def amounts(shape, dtype):
    """Amounts of every kind: for all, for each row or column, for each weight."""
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    generator = torch.Generator().manual_seed(5)
    ones = [(), (1,) * len(shape), shape]
    if len(shape) > 1:
        ones += [(*shape[:-1], 1), shape[-1:]]
    for size in dict.fromkeys(ones):
        amount = torch.randn(size, generator=generator).to(wide)
        if amount.numel() > 6:
            amount.view(-1)[2], amount.view(-1)[5] = math.nan, math.inf
        yield amount


class TestOracle:
    def test_formula(self):
        w = torch.randn(1000)
        expected = torch.sign(w) * torch.clamp(w.abs() - 0.5, min=0)
        assert torch.equal(reference(w, torch.tensor(0.5)), expected)
        assert torch.equal(reference(w, torch.tensor(0.5)), torch.nn.functional.softshrink(w, 0.5))

    def test_corners(self):
        inf, nan = math.inf, math.nan
        rows = [  # weight, amount, result
            (0.5, 0.5, 0.0),
            (-0.5, 0.5, 0.0),
            (-0.25, 0.5, 0.0),
            (-0.0, 0.0, 0.0),
            (0.0, -1.0, 0.0),
            (-0.0, -1.0, 0.0),
            (-2.0, -1.0, -3.0),
            (nan, 0.5, nan),
            (1.0, nan, nan),
            (0.0, nan, 0.0),
            (inf, 1.0, inf),
            (-inf, 1.0, -inf),
            (1.0, inf, 0.0),
            (inf, inf, nan),
        ]
        w, amount, expected = torch.tensor(rows).unbind(1)
        assert_same_bits(reference(w.contiguous(), amount.contiguous()), expected.contiguous())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestKernels:
    @pytest.mark.parametrize("shape", [(), (7,), (33,), (5, 31), (3, 4, 33), (2, 500), (0, 3)])
    def test_result(self, device, dtype, shape):
        w = weights(shape, dtype) if shape != (0, 3) else torch.zeros(shape, dtype=dtype)
        for amount in amounts(shape, dtype):
            assert_same_bits(device.soft_threshold(w, amount), reference(w, amount), amount.shape)

    def test_number(self, device, dtype):
        w = weights((3, 50), dtype)
        for number in (0.0, 0.3, math.inf):
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            expected = reference(w, torch.tensor(number, dtype=wide))
            assert_same_bits(shrink(device, w, number), expected)

    def test_gradient(self, device, dtype):
        for shape in [(7,), (5, 31), (2, 500)]:
            w, dy = weights(shape, dtype), weights(shape, dtype, 9)
            for amount in amounts(shape, dtype):
                found = shrink_gradient(device, dy, w, amount)
                assert_same_bits(found, reference_gradient(dy, w, amount), amount.shape)

    def test_strides(self, device, dtype):
        w = weights((24, 40), dtype)
        amount = next(a for a in amounts((24, 40), dtype) if a.shape == (24, 1))
        expected = reference(w, amount)
        for out in (
            torch.empty(40, 24, dtype=dtype).t(),
            torch.empty(24, 80, dtype=dtype)[:, ::2],
            torch.empty(48, 41, dtype=dtype)[::2, 1:],
        ):
            device.soft_threshold(w, amount, out=out)
            assert_same_bits(out.contiguous(), expected)
        every = w.t().flip(0)
        found = device.soft_threshold(every, amount[:5, :1].expand(5, 24)[:1])
        assert_same_bits(
            found.contiguous(), reference(every.contiguous(), amount[:1].expand(1, 24))
        )

    def test_in_place(self, device, dtype):
        w = weights((24, 40), dtype)
        expected = reference(w, next(amounts((), dtype)).abs())
        for written in (w.clone(), w.t().clone().t()):
            assert device.soft_threshold_(written, next(amounts((), dtype)).abs()) is written
            assert_same_bits(written.contiguous(), expected)
        out = w.clone()
        device.soft_threshold(out, next(amounts((), dtype)).abs(), out=out)
        assert_same_bits(out, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_large(device, dtype):
    # Streaming stores, at addresses of any alignment, and several threads.
    rows, columns = device.size((1200, 3001), (30, 301))
    w = weights((rows, columns), dtype)
    for amount in (torch.tensor(0.5), torch.rand(rows, 1), torch.rand(rows, columns)):
        assert_same_bits(device.soft_threshold(w, amount), reference(w, amount))
        out = torch.empty(rows * columns + 3, dtype=dtype)[3:].view(rows, columns)
        assert_same_bits(device.soft_threshold(w, amount, out=out), reference(w, amount))


class TestGradients:
    def test_gradcheck(self):
        w = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
        for shape in ((), (4, 1), (6,), (4, 6)):
            amount = torch.rand(shape, dtype=torch.float64, requires_grad=True)
            torch.autograd.gradcheck(strop.soft_threshold, (w, amount))
            torch.autograd.gradgradcheck(strop.soft_threshold, (w, amount))
        torch.autograd.gradcheck(lambda t: strop.soft_threshold(t, 0.3), (w,))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_formula(self, torch_device, dtype):
        w, dy = weights((9, 31), dtype).nan_to_num(1, 2, 3), torch.randn(9, 31).to(dtype)
        amount = torch.rand(9, 1)
        leaves = [torch_device.put(t).clone().requires_grad_() for t in (w, amount)]
        y = strop.soft_threshold(*leaves)
        dw, da = (g.cpu() for g in torch.autograd.grad(y, leaves, torch_device.put(dy)))
        passes = w.float().abs() > amount
        assert torch.equal(dw, torch.where(passes, dy, 0))
        torch.testing.assert_close(da, (-w.sign() * dw).float().sum(1, keepdim=True))
        assert da.dtype == torch.float32

    def test_amount_of_16_bits(self):
        w = torch.randn(5, 6).bfloat16().requires_grad_()
        amount = torch.rand(5, 1).bfloat16().requires_grad_()
        y = strop.soft_threshold(w, amount)
        assert_same_bits(y.detach(), reference(w.detach(), amount.detach().float()))
        assert torch.autograd.grad(y.sum(), amount)[0].dtype == torch.bfloat16


class TestTransforms:
    def test_functorch(self):
        w, amount = torch.randn(4, 6), torch.rand(4, 1)
        f = lambda *t: (strop.soft_threshold(*t) ** 2).sum()  # noqa: E731
        leaves = [t.clone().requires_grad_() for t in (w, amount)]
        expected = torch.autograd.grad(f(*leaves), leaves)
        for a, b in zip(torch.func.grad(f, (0, 1))(w, amount), expected, strict=True):
            torch.testing.assert_close(a, b)
        number = torch.func.grad(lambda t: strop.soft_threshold(t, 0.5).sum())(w)
        assert torch.equal(number, (w.abs() > 0.5).float())
        y, dy = torch.func.jvp(lambda t: strop.soft_threshold(t, 0.5), (w,), (torch.ones_like(w),))
        assert_same_bits(y, strop.soft_threshold(w, 0.5))
        assert torch.equal(dy, number)
        hessian = torch.func.hessian(lambda t: f(t, amount[:1]))(w[:1])
        kept = (w[0].abs() > amount[0]).float()
        torch.testing.assert_close(hessian[0, :, 0], 2 * torch.diag(kept))

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_gradients_of_what_is_not_finite(self, dtype):
        """Those of the kernels, though Inf less itself is NaN, and in the type that compares."""
        inf, nan = math.inf, math.nan
        w = torch.tensor([inf, -inf, nan, 0.0, 0.10009765625, -3.0, 3.0], dtype=dtype)
        rows = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.1, nan, inf])
        for amount in (0.1, rows.to(torch.float64 if dtype == torch.float64 else torch.float32)):
            leaf = w.clone().requires_grad_()
            y = strop.soft_threshold(leaf, amount)
            (wanted,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
            found, gradient = torch.func.vjp(lambda t: strop.soft_threshold(t, amount), w)  # noqa: B023
            assert_same_bits(found, y.detach())
            assert_same_bits(gradient(torch.ones_like(y))[0], wanted)
            _, tangent = torch.func.jvp(
                lambda t: strop.soft_threshold(t, amount),  # noqa: B023
                (w,),
                (torch.ones_like(w),),
            )
            assert_same_bits(tangent, wanted)
        leaf, whole = rows.clone().requires_grad_(), w.float()
        y = strop.soft_threshold(whole, leaf)
        (wanted,) = torch.autograd.grad(y, leaf, torch.ones_like(y))
        _, gradient = torch.func.vjp(lambda a: strop.soft_threshold(whole, a), rows)
        assert_same_bits(gradient(torch.ones_like(y))[0], wanted)

    def test_vmap(self):
        w, amount = torch.randn(3, 4, 6), torch.rand(3, 4, 1)
        for in_dims, tensors in (
            ((0, None), (w, amount[0])),
            ((0, 0), (w, amount)),
            ((None, 0), (w[0], amount)),
            ((1, 0), (w.movedim(0, 1), amount[:, :, 0].movedim(0, 0)[:, :1])),
        ):
            found = torch.func.vmap(strop.soft_threshold, in_dims)(*tensors)
            for i in range(3):
                one = [t if d is None else t.select(d, i) for t, d in zip(tensors, in_dims)]  # noqa: B905
                assert torch.equal(found[i], strop.soft_threshold(*one))
        per_sample = torch.func.vmap(torch.func.grad(lambda t: strop.soft_threshold(t, 0.5).sum()))
        assert torch.equal(per_sample(w), (w.abs() > 0.5).float())

    def test_vmap_of_masks(self):
        w = torch.randn(4, 3, 10)
        found = torch.func.vmap(lambda t: strop.prune_mask(t, sparsity=0.5), 1)(w)
        assert torch.equal(found[2], strop.prune_mask(w[:, 2], sparsity=0.5))
        bits = torch.func.vmap(strop.pack_mask, 1)(found.movedim(0, 1))
        assert torch.equal(bits, strop.pack_mask(found))
        again = torch.func.vmap(lambda b: strop.unpack_mask(b, 10))(bits)
        assert torch.equal(again, found)
        masks = torch.func.vmap(lambda a, b: strop.prune_masks({"a": a, "b": b}, sparsity=0.5))(
            w, w
        )
        assert torch.equal(
            masks["b"][1], strop.prune_masks({"a": w[1], "b": w[1]}, sparsity=0.5)["b"]
        )

    def test_compile(self):
        def f(w, amount):
            y = strop.soft_threshold(w, 0.5) + strop.soft_threshold(w, amount)
            mask = strop.prune_mask(y.detach(), sparsity=0.5)
            bits = strop.pack_mask(mask)
            return y * strop.unpack_mask(bits, y.shape[-1])

        compiled = torch.compile(f, fullgraph=True, dynamic=True, backend="aot_eager")
        for shape in ((6, 10), (8, 33)):
            tensors = torch.randn(shape), torch.rand(shape[0], 1)
            results = []
            for function in (f, compiled):
                leaves = [t.clone().requires_grad_() for t in tensors]
                y = function(*leaves)
                results.append([y.detach(), *torch.autograd.grad(y.sum(), leaves)])
            for a, b in zip(*results, strict=True):
                torch.testing.assert_close(a, b)

    def test_compile_of_masks(self):
        f = lambda a, b: strop.prune_masks({"a": a, "b": b}, sparsity=0.4)  # noqa: E731
        pair = torch.randn(9, 9), torch.randn(7)
        found = torch.compile(f, fullgraph=True)(*pair)
        assert all(torch.equal(m, f(*pair)[name]) for name, m in found.items())

    def test_export(self):
        class Layer(torch.nn.Module):
            def forward(self, x):
                return strop.soft_threshold(x, 0.5)

        batch = {"x": {0: torch.export.Dim("batch", min=2)}}
        program = torch.export.export(Layer(), (torch.randn(4, 5),), dynamic_shapes=batch)
        x = torch.randn(7, 5)
        assert torch.equal(program.module()(x), strop.soft_threshold(x, 0.5))

    def test_modes(self):
        x = torch.randn(5, 5)
        with torch.inference_mode():
            y = x.clone()
            strop.soft_threshold_(y, 0.5)
        assert torch.equal(y, strop.soft_threshold(x, 0.5))
        leaf = x.clone().requires_grad_()
        squared = (leaf * 1) ** 2
        saved = leaf * 1
        product = saved * squared
        with torch.no_grad():
            strop.soft_threshold_(saved, 0.5)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            product.sum().backward()


class TestOpcheck:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_soft_threshold(self, dtype):
        for gradient in (False, True):
            w = torch.randn(5, 6).to(dtype).requires_grad_(gradient)
            wide = torch.float64 if dtype == torch.float64 else torch.float32
            amount = torch.rand(5, 1).to(wide).requires_grad_(gradient)
            opcheck(torch.ops.strop.soft_threshold.default, (w, 0.5))
            opcheck(torch.ops.strop.soft_threshold.default, (w, None, amount))
        plain = [t.detach() for t in (w, amount)]
        opcheck(torch.ops.strop.soft_threshold.out, (plain[0], 0.5), {"out": plain[0].clone()})
        opcheck(torch.ops.strop.soft_threshold_.default, (plain[0].clone(), None, plain[1]))
        opcheck(
            torch.ops.strop._soft_threshold_gradient.default, (plain[0], plain[0], None, plain[1])
        )

    def test_masks(self):
        w = torch.randn(6, 9, requires_grad=True)
        for options in ({"sparsity": 0.5}, {"threshold": 0.5}, {"pattern": "2:4"}):
            opcheck(torch.ops.strop.prune_mask.default, (w.t(),), options)
        opcheck(torch.ops.strop.prune_masks.default, ([w.detach(), w.detach()[0]], 0.5))
        mask = w.detach() > 0
        opcheck(torch.ops.strop.pack_mask.default, (mask.t(),))
        opcheck(torch.ops.strop.unpack_mask.default, (strop.pack_mask(mask), 9))
