"""packed_linear of masked weights within torch: gradients, transforms, compiled and exported graphs, errors."""

import io

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from linear.problems import ACTIVATIONS, assert_close, generator, pruned
from strop._linear import ops
from strop._linear.masked_weight import TENSORS


def made(plan="packed", shape=(24, 40), sparsity=0.8, **options):
    return strop.pack_weight(pruned(shape, sparsity), plan=plan, **options)


def arguments(w, x, bias=None, activation=""):
    return (x, *(getattr(w, name) for name in TENSORS), list(w.methods), bias, activation)


class TestGradients:
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    @pytest.mark.parametrize("backward", [False, True])
    @pytest.mark.parametrize("activation", [None, *list(ACTIVATIONS)[1:]])
    def test_as_dense(self, plan, backward, activation):
        w = made(plan, backward=backward)
        for rows in (1, 5, 40):
            x = torch.randn(2, rows, 40, generator=generator(rows), requires_grad=True)
            bias = torch.randn(24, generator=generator(1), requires_grad=True)
            dy = torch.randn(2, rows, 24, generator=generator(2))
            found = torch.autograd.grad(
                strop.packed_linear(x, w, bias, activation=activation), (x, bias), dy
            )
            y = ACTIVATIONS[activation or ""](nn.functional.linear(x, w.to_dense(), bias))
            for a, b in zip(found, torch.autograd.grad(y, (x, bias), dy), strict=True):
                assert torch.allclose(a, b, rtol=1e-4, atol=1e-5)

    def test_of_one_of_both(self):
        w = made()
        x, bias = torch.randn(3, 40), torch.randn(24)
        strop.packed_linear(x.requires_grad_(), w, bias).sum().backward()
        assert x.grad is not None
        strop.packed_linear(x.detach(), w, bias.requires_grad_()).sum().backward()
        assert torch.equal(bias.grad, torch.full((24,), 3.0))
        one = torch.randn(40, requires_grad=True)
        strop.packed_linear(one, w, bias).sum().backward()
        assert torch.allclose(one.grad, w.to_dense().sum(0), atol=1e-5)

    def test_by_differences(self):
        w = strop.pack_weight(pruned((6, 9), 0.5).double())
        x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
        bias = torch.randn(6, dtype=torch.float64, requires_grad=True)
        call = lambda x, b: strop.packed_linear(x, w, b, activation="silu")  # noqa: E731
        assert torch.autograd.gradcheck(call, (x, bias))
        assert torch.autograd.gradgradcheck(call, (x, bias))

    def test_twice(self):
        w = made(backward=True)
        x = torch.randn(3, 40, requires_grad=True)
        y = strop.packed_linear(x, w, activation="gelu")
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (again,) = torch.autograd.grad(dx.square().sum(), x)
        z = nn.functional.gelu(nn.functional.linear(x, w.to_dense()))
        (dz,) = torch.autograd.grad(z.square().sum(), x, create_graph=True)
        (expected,) = torch.autograd.grad(dz.square().sum(), x)
        assert torch.allclose(again, expected, rtol=1e-3, atol=1e-4)

    def test_transforms(self):
        w = made()
        dense = w.to_dense()
        x = torch.randn(5, 40)
        loss = lambda x: strop.packed_linear(x, w, activation="gelu").sum()  # noqa: E731
        same = lambda x: nn.functional.gelu(nn.functional.linear(x, dense)).sum()  # noqa: E731
        assert torch.allclose(torch.func.grad(loss)(x), torch.func.grad(same)(x), atol=1e-5)
        assert torch.allclose(
            torch.func.vmap(torch.func.grad(loss))(x),
            torch.func.vmap(torch.func.grad(same))(x),
            atol=1e-5,
        )
        _, tangent = torch.func.jvp(loss, (x,), (x,))
        assert torch.allclose(tangent, torch.func.jvp(same, (x,), (x,))[1], atol=1e-4)

    def test_out_is_refused(self):
        x = torch.randn(3, 40, requires_grad=True)
        with pytest.raises(RuntimeError, match="out is given, but a gradient is needed"):
            strop.packed_linear(x, made(), out=torch.empty(3, 24))
        with torch.no_grad():
            strop.packed_linear(x, made(), out=torch.empty(3, 24))


class TestTransforms:
    def test_vmap(self):
        w = made()
        x = torch.randn(3, 5, 40)
        call = lambda x: strop.packed_linear(x, w, activation="relu")  # noqa: E731
        assert torch.allclose(torch.vmap(call)(x), call(x), atol=1e-5)
        assert torch.allclose(torch.vmap(call, in_dims=1)(x), call(x).movedim(1, 0), atol=1e-5)
        bias = torch.randn(3, 24)
        found = torch.vmap(lambda x, b: strop.packed_linear(x, w, b))(x, bias)
        for i in range(3):
            assert torch.allclose(found[i], strop.packed_linear(x[i], w, bias[i]), atol=1e-5)
        found = torch.vmap(lambda b: strop.packed_linear(x, w, b))(bias)
        assert found.shape == (3, 3, 5, 24)

    def test_inference_mode(self):
        w = made()
        with torch.inference_mode():
            x = torch.randn(5, 40)
            assert_close(strop.packed_linear(x, w), x, w.to_dense())


class TestCompiled:
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_fullgraph_and_any_rows(self, plan):
        w = made(plan)
        call = lambda x, w, b: strop.packed_linear(x, w, b, activation="gelu") * 2  # noqa: E731
        compiled = torch.compile(call, fullgraph=True, dynamic=True)
        bias = torch.randn(24)
        for rows in (2, 7, 40, 200):
            x = torch.randn(rows, 40)
            assert torch.allclose(compiled(x, w, bias), call(x, w, bias), atol=1e-5)

    @pytest.mark.parametrize("backward", [False, True])
    def test_with_gradients(self, backward):
        w = made(backward=backward)
        call = lambda x, b: strop.packed_linear(x, w, b, activation="silu").square().sum()  # noqa: E731
        compiled = torch.compile(call, fullgraph=True)
        x, bias = torch.randn(5, 40, requires_grad=True), torch.randn(24, requires_grad=True)
        found = torch.autograd.grad(compiled(x, bias), (x, bias))
        for a, b in zip(found, torch.autograd.grad(call(x, bias), (x, bias)), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)

    def test_exported_and_loaded(self):
        class Layer(nn.Module):
            def __init__(self):
                super().__init__()
                self.w = made()

            def forward(self, x):
                return strop.packed_linear(x, self.w, activation="relu")

        layer, x = Layer(), torch.randn(6, 40)
        batch = torch.export.Dim("batch", min=2, max=4096)
        exported = torch.export.export(layer, (x,), dynamic_shapes={"x": {0: batch}})
        stream = io.BytesIO()
        torch.export.save(exported, stream)
        stream.seek(0)
        loaded = torch.export.load(stream).module()
        for rows in (6, 100):
            x = torch.randn(rows, 40)
            assert_same_bits(loaded(x), layer(x))

    def test_opcheck(self):
        w = made(backward=True)
        for rows in (1, 5, 40):
            x = torch.randn(rows, 40, requires_grad=True)
            bias = torch.randn(24, requires_grad=True)
            for call in (arguments(w, x), arguments(w, x.detach(), bias, "gelu")):
                torch.library.opcheck(torch.ops.strop.packed_linear.masked, call)
        torch.library.opcheck(torch.ops.strop.unpack_masked.default, (w.bits, w.values, 40))
        torch.library.opcheck(
            torch.ops.strop._packed_linear.default, (x.detach(), w.quads, 24, None, "")
        )
        torch.library.opcheck(
            torch.ops.strop._packed_linear.out,
            (x.detach(), w.quads, 24, None, ""),
            {"out": torch.empty(40, 24)},
        )
        torch.library.opcheck(
            torch.ops.strop._packed_transposed.default,
            (torch.randn(3, 24), w.back_quads, w.back_pairs, 40),
        )


class TestErrors:
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_name_what_is_wrong(self, plan):
        w = made(plan)
        x, bias = torch.randn(3, 40), torch.randn(24)
        linear = strop.packed_linear
        cases = [
            (TypeError, "weight is a Tensor; a PackedWeight", lambda: linear(x, torch.randn(24, 40))),
            (TypeError, "input is a list; a tensor", lambda: linear([1.0], w)),
            (TypeError, "input has dtype", lambda: linear(x.double(), w)),
            (TypeError, "input has dtype", lambda: linear(x.int(), w)),
            (ValueError, r"input has shape \[3, 39\]; the weight takes 40", lambda: linear(x[:, 1:], w)),
            (ValueError, r"input has shape \[\]", lambda: linear(torch.tensor(1.0), w)),
            (ValueError, r"bias has shape \[23\]; \[24\]", lambda: linear(x, w, bias[1:])),
            (ValueError, r"bias has shape \[1, 24\]", lambda: linear(x, w, bias[None])),
            (TypeError, "bias has dtype", lambda: linear(x, w, bias.double())),
            (ValueError, "activation is 'tanh'; None, relu", lambda: linear(x, w, activation="tanh")),
            (ValueError, "activation is ''; None, relu", lambda: linear(x, w, activation="")),
            (ValueError, r"out has shape \[3, 23\]", lambda: linear(x, w, out=torch.empty(3, 23))),
            (TypeError, "out has dtype",
             lambda: linear(x, w, out=torch.empty(3, 24, dtype=torch.float64))),
        ]  # fmt: skip
        for kind, text, call in cases:
            with pytest.raises(kind, match="strop.packed_linear: " + text):
                call()

    def test_out_that_overlaps(self):
        w = made(shape=(40, 40))
        x = torch.randn(3, 40)
        with pytest.raises(ValueError, match="out overlaps input; give a tensor apart"):
            strop.packed_linear(x, w, out=x)

    def test_raw_ops(self):
        w = made()
        x = torch.randn(3, 40)
        with pytest.raises(RuntimeError, match="the layout was not made by pack_weight"):
            ops.by_layout(x, torch.zeros(200, dtype=torch.uint8), 24, None, "")
        with pytest.raises(RuntimeError, match="a layout is a uint8 tensor"):
            ops.by_layout(x, torch.zeros(200), 24, None, "")
        with pytest.raises(RuntimeError, match="the layout has 24 rows; 25 are expected"):
            ops.by_layout(x, w.quads, 25, None, "")
        with pytest.raises(RuntimeError, match="the plan has 2 entries"):
            torch.ops.strop.packed_linear(*arguments(w, x)[:-3], [1, 2], None, "")
        with pytest.raises(RuntimeError, match="what the weight has not prepared"):
            torch.ops.strop.packed_linear(*arguments(w, x)[:-3], [4] * 7, None, "")
        with pytest.raises(RuntimeError, match="layout is 'rows'; mask, quads, pairs and panels"):
            ops.layout(w.bits, w.values, 40, "rows")
