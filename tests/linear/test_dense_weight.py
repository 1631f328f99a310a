"""Weights without a mask and without a format: kept as they are, run by torch's faster dense way."""

import copy
import pickle

import pytest
import torch
from torch.nn import functional

import strop
from core.devices import assert_same_bits
from linear.problems import generator
from strop._linear import dense_ways
from strop._linear.dense_weight import DenseWeight
from strop._linear.masked_layouts import one_method

SHAPE = (45, 70)
METHODS = ["dense", "prepacked"] if dense_ways.can_prepack(torch.float32) else ["dense"]


def full(dtype=torch.float32):
    return torch.randn(SHAPE, generator=generator()).to(dtype)


def made(method="dense", dtype=torch.float32):
    made = strop.pack_weight(full(dtype))
    return DenseWeight(made.values, made.shape, one_method(method), "auto")


def inputs(*shape, **options):
    return torch.randn(shape, generator=generator(1), **options)


class TestPacking:
    def test_keeps_values_alone(self):
        w = strop.pack_weight(full())
        assert isinstance(w, DenseWeight)
        assert sorted(w.state_dict()) == ["plan", "shape", "values"]
        assert (w.sparsity, w.nnz, w.format, w.shape) == (0, 45 * 70, None, SHAPE)
        assert w.nbytes == 4 * 45 * 70
        assert "129 and more rows: dense" in w.plan()
        assert_same_bits(w.to_dense(), full())

    def test_where_nothing_is_zero_and_none_is_asked_to_skip(self):
        holes = full()
        holes[3, 4] = 0
        assert not isinstance(strop.pack_weight(holes), DenseWeight)
        assert not isinstance(strop.pack_weight(full(), plan="packed"), DenseWeight)
        assert not isinstance(strop.pack_weight(full(), dtype=torch.bfloat16), DenseWeight)
        assert not isinstance(strop.pack_weight(full(), torch.ones(SHAPE) > 0), DenseWeight)

    def test_measured(self):
        w = strop.pack_weight(full(), plan="measure", rows=[1, 32])
        assert set(w.method_names()) <= {"dense", "prepacked"}
        assert w.plan_source == "measure"


@pytest.mark.parametrize("method", METHODS)
class TestProducts:
    @pytest.mark.parametrize("activation", [None, "relu", "gelu"])
    @pytest.mark.parametrize("shape", [(1, 70), (2, 40, 70), (70,), (0, 70)])
    def test_are_torch_s(self, method, shape, activation):
        w, x, bias = made(method), inputs(*shape), inputs(45)
        expected = functional.linear(x, full(), bias)
        expected = getattr(functional, activation)(expected) if activation else expected
        found = strop.packed_linear(x, w, bias, activation=activation)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
        out = torch.empty_like(expected)
        assert strop.packed_linear(x, w, bias, activation=activation, out=out) is out
        assert_same_bits(out, found)

    def test_gradients(self, method):
        w, x, bias = made(method), inputs(3, 70, requires_grad=True), inputs(45, requires_grad=True)
        found = torch.autograd.grad(strop.packed_linear(x, w, bias).square().sum(), [x, bias])
        y = functional.linear(x, full(), bias)
        expected = torch.autograd.grad(y.square().sum(), [x, bias])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_other_dtypes_of_input(self, method):
        w = made(method)
        assert strop.packed_linear(inputs(3, 70).bfloat16(), w).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert strop.packed_linear(inputs(3, 70), w).dtype == torch.bfloat16
        wide = strop.pack_weight(full(torch.float64))
        x = inputs(3, 70).double()
        assert_same_bits(strop.packed_linear(x, wide), functional.linear(x, full(torch.float64)))

    def test_is_kept(self, method):
        w, x = made(method), inputs(9, 70)
        expected = strop.packed_linear(x, w)
        again = strop.PackedWeight.from_state_dict(w.state_dict())
        for other in (again, copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
            assert other.methods == w.methods
            assert_same_bits(strop.packed_linear(x, other), expected)
        w.values.mul_(2)
        torch.testing.assert_close(strop.packed_linear(x, w), 2 * expected)

    def test_of_a_layer(self, method):
        layer = strop.nn.PackedLinear(made(method), inputs(45), activation="relu")
        x = inputs(9, 70)
        expected = layer(x)
        torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), expected)
        torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), expected)
        other = strop.nn.PackedLinear(
            strop.pack_weight(torch.ones(SHAPE), format="int8"), inputs(45), activation="relu"
        )
        other.load_state_dict(layer.state_dict())
        assert_same_bits(other(x), expected)
        assert sorted(other.state_dict()) == ["activation", "bias", "plan", "shape", "values"]
        half = copy.deepcopy(layer).to(torch.bfloat16)
        assert half.packed.dtype == torch.bfloat16
        assert half(x.bfloat16()).dtype == torch.bfloat16
        assert layer.to("meta")(x.to("meta")).shape == (9, 45)


def test_a_nan_is_a_value_like_others():
    weight = full()
    weight[2, 3] = float("nan")
    layer = strop.nn.PackedLinear(strop.pack_weight(weight)).to(torch.bfloat16)
    assert layer(inputs(1, 70).bfloat16()).isnan().nonzero().tolist() == [[0, 2]]


class TestErrors:
    def test_of_a_state(self):
        state = made().state_dict()
        for text, forged in {
            "values has shape": {"values": state["values"][:-1]},
            "values has dtype int64": {"values": state["values"].long()},
            "shape is not 2 integers": {"shape": state["shape"][:1]},
            "the plan is not as": {"plan": state["plan"][:9]},
        }.items():
            with pytest.raises((ValueError, TypeError), match=f"strop.PackedWeight: .*{text}"):
                strop.PackedWeight.from_state_dict(state | forged)
        with pytest.raises(ValueError, match="methods of a dense weight"):
            DenseWeight(full(), SHAPE, one_method("quads"), "auto")

    @pytest.mark.parametrize(
        ("x", "bias", "text"),
        [
            (inputs(3, 69), None, "input has shape"),
            (inputs(3, 70), inputs(44), "bias has shape"),
            (inputs(3, 70).double(), None, "input has dtype float64"),
            (inputs(3, 70).long(), None, "input has dtype int64"),
        ],
    )
    @pytest.mark.parametrize("method", METHODS)
    def test_of_calls(self, method, x, bias, text):
        with pytest.raises((ValueError, TypeError), match=rf"strop\.packed_linear: .*{text}"):
            strop.packed_linear(x, made(method), bias)
