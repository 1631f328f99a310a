"""pack_weight and packed_linear: values, gradients, transforms, compiled code, what is saved."""

import copy
import io
import pickle

import pytest
import torch

import strop
from core.devices import assert_same_bits
from linear.codes import FLOATS, INTEGERS, RECIPES, UNSIGNED, CodedWeight, random_input
from linear.problems import assert_close, generator

CASES = [
    ("int8", "int8"),
    ("uint8", "uint8"),
    ("int4", "uint8"),
    ("int8", None),
    ("uint4", None),
    ("nf4", None),
    ("mxfp4", None),
    ("nvfp4", None),
    ("float8_e4m3fn", None),
]


def weight_of(shape=(24, 64), seed=0):
    return torch.randn(shape, generator=generator(seed))


def packed(format="int8", activations="int8", shape=(24, 64)):
    return strop.pack_weight(weight_of(shape), format=format, activations=activations)


class TestValues:
    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_exact(self, format):
        w = strop.pack_weight(weight_of(), format=format)
        for rows in (1, 5):
            x = random_input(rows, 64)
            assert_close(strop.packed_linear(x, w), x, w.to_dense())

    @pytest.mark.parametrize("activations", ["int8", "uint8"])
    @pytest.mark.parametrize("format", ["int8", "uint4"])
    def test_integers(self, format, activations):
        group = None if format == "int8" else 32
        by_hand = CodedWeight((24, 64), format, group, activations, symmetric=False)
        w = strop.pack_weight(by_hand.quantized, activations=activations)
        bias = torch.randn(24, generator=generator(2))
        x = random_input(7, 64)
        assert_same_bits(strop.packed_linear(x, w, bias), by_hand.by_torch(x, bias))

    @pytest.mark.parametrize("block_size", [(1, 16), (1, -1), (4, 32), (-1, 16), (5, 24), (-1, -1)])
    def test_blocks(self, block_size):
        w = strop.pack_weight(weight_of(), format="int5", block_size=block_size)
        x = random_input(3, 64)
        assert_close(strop.packed_linear(x, w), x, w.to_dense())

    def test_default_blocks(self):
        assert packed("int8").scale.shape == (24, 1)
        assert packed("int4").scale.shape == (24, 2)
        assert packed("mxfp4", None).scale.shape == (24, 2)

    def test_given_scales(self):
        w = strop.pack_weight(weight_of(), format="int8", scale=torch.full((24, 1), 0.02))
        assert (w.scale == 0.02).all()

    def test_a_quantized_tensor_is_kept(self):
        q = strop.quantize(weight_of(), format="nf4", block_size=(1, 64))
        w = strop.pack_weight(q)
        assert w.codes is q.codes
        assert w.scale is q.scale

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_dtypes(self, dtype):
        w = strop.pack_weight(weight_of().to(dtype), format="int8")
        assert w.to_dense().dtype == dtype
        x = random_input(4, 64, dtype)
        y = strop.packed_linear(x, w)
        assert y.dtype == dtype
        dense = w.quantized().dequantize(torch.float32)
        assert_close(y, x, dense)

    def test_leading_dimensions_and_out(self):
        w = packed()
        x = random_input(12, 64).view(3, 4, 64)
        y = strop.packed_linear(x, w)
        assert y.shape == (3, 4, 24)
        assert_same_bits(strop.packed_linear(x[0, 0], w), y[0, 0])
        out = torch.empty(3, 4, 24)
        assert strop.packed_linear(x, w, out=out) is out
        assert_same_bits(out, y)
        turned = torch.empty(24, 4, 3).permute(2, 1, 0)
        assert_same_bits(strop.packed_linear(x, w, out=turned), y)

    def test_bytes(self):
        weight = weight_of((256, 512))
        for format, share in (("int8", 0.26), ("int4", 0.16), ("mxfp4", 0.14)):
            state = strop.pack_weight(weight, format=format).state_dict()
            assert sum(t.nbytes for t in state.values()) < share * weight.nbytes

    def test_is_described(self):
        assert packed().plan() == "[24, 64], int8, int8 activations: by its kernels"
        assert (packed().nnz, packed().sparsity) == (24 * 64, 0.0)


class TestGradients:
    @pytest.mark.parametrize("activation", [None, "gelu"])
    @pytest.mark.parametrize(("format", "activations"), CASES)
    def test_of_input_and_bias(self, format, activations, activation):
        w = packed(format, activations)
        x = random_input(5, 64).requires_grad_()
        bias = torch.randn(24, generator=generator(1), requires_grad=True)
        y = strop.packed_linear(x, w, bias, activation=activation)
        dy = torch.randn(5, 24, generator=generator(2))
        y.backward(dy)
        z = strop.packed_linear(x.detach(), w, bias.detach()).requires_grad_()
        (torch.nn.functional.gelu(z) if activation else z).backward(dy)
        torch.testing.assert_close(x.grad, z.grad @ w.to_dense())  # straight through x's rounding
        torch.testing.assert_close(bias.grad, z.grad.sum(0))

    @pytest.mark.parametrize("kind", ["codes", "masked"])
    def test_refuses_a_weight_that_was_written_to_since(self, kind):
        options = {"plan": "packed"} if kind == "masked" else {"format": "int8"}
        w = strop.pack_weight(weight_of(), **options)
        x = random_input(3, 64).requires_grad_()
        y = strop.packed_linear(x, w)
        y.sum().backward(retain_graph=True)
        w.state_dict()["values" if kind == "masked" else "scale"].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()

    def test_out_with_a_gradient_is_refused(self):
        x = random_input(2, 64).requires_grad_()
        with pytest.raises(RuntimeError, match="out is given, but a gradient is needed"):
            strop.packed_linear(x, packed(), out=torch.empty(2, 24))

    @pytest.mark.parametrize(("format", "activations"), CASES)
    def test_transforms(self, format, activations):
        w = packed(format, activations)
        x = random_input(6, 64).view(2, 3, 64)
        expected = strop.packed_linear(x, w)
        assert_same_bits(torch.vmap(lambda v: strop.packed_linear(v, w))(x), expected)
        of_x = torch.func.grad(lambda v: strop.packed_linear(v, w).sum())(x)
        torch.testing.assert_close(of_x, w.to_dense().sum(0).expand_as(x))
        _, tangent = torch.func.jvp(lambda v: strop.packed_linear(v, w), (x,), (x,))
        if activations is None:
            torch.testing.assert_close(tangent, expected, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_autocast(self, dtype):
        w = packed()
        x = random_input(3, 64)
        with torch.autocast("cpu", dtype=dtype):
            y = strop.packed_linear(x, w)
        assert_same_bits(y, strop.packed_linear(x.to(dtype), w))


class TestCompiled:
    @pytest.mark.parametrize(("format", "activations"), CASES[:1] + CASES[5:6])
    def test_fullgraph_with_gradients(self, format, activations):
        w = packed(format, activations)

        @torch.compile(fullgraph=True, backend="aot_eager", dynamic=True)
        def layer(x, w):
            return strop.packed_linear(x, w, activation="relu")

        for rows in (2, 5):
            x = random_input(rows, 64)
            assert_same_bits(layer(x, w), strop.packed_linear(x, w, activation="relu"))
            a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
            layer(a, w).sum().backward()
            strop.packed_linear(b, w, activation="relu").sum().backward()
            torch.testing.assert_close(a.grad, b.grad)

    def test_exported(self):
        class Model(torch.nn.Module):
            def forward(self, x):
                return strop.packed_linear(x, w)

        w = packed()
        x = random_input(3, 64)
        program = torch.export.export(Model(), (x,))
        assert_same_bits(program.module()(x), strop.packed_linear(x, w))

    def test_opcheck(self):
        w = packed("nvfp4", None)
        for x in (random_input(3, 64), random_input(3, 64).requires_grad_()):
            given = (
                w.layout,
                list(w.methods),
                w.codes,
                w.scale,
                w.zero_point,
                w.tensor_scale,
                w.format,
            )
            call = (x, *given, [], [24, 64], "", None, None, "")
            torch.library.opcheck(torch.ops.strop.packed_linear.codes, call)


class TestSaved:
    @pytest.mark.parametrize(("format", "activations"), CASES)
    def test_state_dict(self, format, activations):
        w = packed(format, activations)
        state = w.state_dict()
        assert {"codes", "scale", "shape", "plan"} <= set(state)
        assert "layout" not in state
        buffer = io.BytesIO()
        torch.save(state, buffer)
        buffer.seek(0)
        again = strop.PackedWeight.from_state_dict(torch.load(buffer, weights_only=True))
        x = random_input(3, 64)
        assert_same_bits(strop.packed_linear(x, again), strop.packed_linear(x, w))
        assert (again.format, again.activations, again.dtype) == (w.format, w.activations, w.dtype)

    @pytest.mark.parametrize("how", [copy.deepcopy, lambda w: pickle.loads(pickle.dumps(w))])
    def test_copies(self, how):
        w = packed("uint4", "uint8")
        x = random_input(3, 64)
        assert_same_bits(strop.packed_linear(x, how(w)), strop.packed_linear(x, w))

    def test_to(self):
        w = packed("int8", None).to(torch.bfloat16)
        assert w.dtype == torch.bfloat16
        assert w.to_dense().dtype == torch.bfloat16

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("scale"), "state dict has keys"),
            (lambda s: s.update(more=torch.ones(1)), "state dict has keys"),
            (lambda s: s.update(plan=torch.zeros(3, dtype=torch.uint8)), "the plan is not as"),
            (lambda s: s.update(shape=torch.tensor([24, 60])), "scale has shape|codes has shape"),
            (lambda s: s.update(scale=torch.ones(3, 1)), "scale has shape"),
        ],
    )
    def test_what_does_not_fit(self, change, message):
        state = packed("int4", None).state_dict()
        change(state)
        with pytest.raises(ValueError, match=message):
            strop.PackedWeight.from_state_dict(state)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"activations": "int8"}, "activations is given, but format is None"),
            ({"symmetric": False}, "symmetric is given, but format is None"),
            ({"format": "int9"}, "int9"),
            ({"format": "int16"}, "at most 8 bits"),
            ({"format": "integer"}, "no codes that could be stored"),
            ({"format": "nf4", "activations": "int8"}, "format nf4 is none"),
            ({"format": "int8", "activations": "int4"}, "activations is 'int4'"),
            ({"format": "int8", "activations": ""}, "activations is ''"),
            ({"format": "int8", "activations": 8}, "activations is a int"),
            ({"format": "int8", "block_size": (1,)}, "block_size"),
            ({"format": "mxfp4", "block_size": (1, 32)}, "block_size"),
        ],
    )
    def test_of_packing(self, options, message):
        with pytest.raises((ValueError, TypeError), match=rf"^strop\.\w+: .*{message}"):
            strop.pack_weight(weight_of(), **options)

    def test_of_weights(self):
        for weight, message in (
            (torch.ones(3), "two dimensions"),
            (torch.ones(3, 4, dtype=torch.float64), "float64"),
            (torch.ones(3, 4, dtype=torch.int32), "dtype int32"),
            ([[1.0]], "weight is a list"),
            (torch.ones(3, 4, device="meta"), "shape alone"),
        ):
            with pytest.raises((ValueError, TypeError), match=message):
                strop.pack_weight(weight, format="int8")

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda w: strop.packed_linear(torch.ones(3, 63), w), r"input has shape \[3, 63\]"),
            (
                lambda w: strop.packed_linear(torch.ones(3, 64).double(), w),
                "input has dtype float64",
            ),
            (lambda w: strop.packed_linear(torch.ones(3, 64).int(), w), "input has dtype int32"),
            (lambda w: strop.packed_linear(torch.ones(3, 64), w, torch.ones(3)), "bias has shape"),
            (
                lambda w: strop.packed_linear(torch.ones(3, 64), torch.ones(3)),
                "PackedWeight is needed",
            ),
            (lambda w: strop.packed_linear([1.0], w), "input is a list"),
            (lambda w: strop.packed_linear(torch.ones(3, 64), w, activation="tanh"), "'tanh'"),
            (
                lambda w: strop.packed_linear(torch.ones(3, 64), w, activation=1),
                "activation is a int",
            ),
            (
                lambda w: strop.packed_linear(torch.ones(3, 64), w, out=torch.ones(3, 3)),
                "out has shape",
            ),
        ],
    )
    def test_of_calls(self, call, message):
        with pytest.raises((ValueError, TypeError), match=rf"^strop\.packed_linear: .*{message}"):
            call(packed())
