"""PackedLinear: a layer whose weight stays in codes."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from linear.codes import random_input

CASES = [("int8", "int8"), ("uint4", "uint8"), ("nf4", None), ("nvfp4", None), ("mxfp8", None)]


def linear(seed=0, bias=True):
    torch.manual_seed(seed)
    return nn.Linear(64, 24, bias=bias)


def layer_of(format="int8", activations="int8", seed=0, **options):
    made = strop.nn.PackedLinear.from_dense
    return made(linear(seed), format=format, activations=activations, **options)


X = random_input(5, 64)


class TestLayer:
    @pytest.mark.parametrize("activation", [None, "gelu"])
    @pytest.mark.parametrize(("format", "activations"), CASES)
    def test_computes_what_the_function_does(self, format, activations, activation):
        dense = linear()
        layer = strop.nn.PackedLinear.from_dense(
            dense, format=format, activations=activations, activation=activation
        )
        w = strop.pack_weight(dense.weight, format=format, activations=activations)
        expected = strop.packed_linear(X, w, dense.bias, activation=activation)
        assert_same_bits(layer(X).detach(), expected.detach())
        assert layer.bias is dense.bias

    def test_to_dense(self):
        dense = layer_of("nf4", None, activation="relu").to_dense()
        assert [type(m) for m in dense] == [nn.Linear, nn.ReLU]
        torch.testing.assert_close(dense(X), layer_of("nf4", None, activation="relu")(X))

    def test_trains_its_bias_and_what_is_before(self):
        model = nn.Sequential(nn.Linear(64, 64), layer_of())
        model(X).sum().backward()
        assert [name for name, p in model.named_parameters() if p.grad is not None] == [
            "0.weight",
            "0.bias",
            "1.bias",
        ]

    def test_is_described(self):
        text = repr(layer_of("int4", "uint8", activation="gelu"))
        assert "in_features=64, out_features=24, bias=True, activation=gelu" in text
        assert "format=int4, activations=uint8" in text

    def test_without_bias(self):
        layer = strop.nn.PackedLinear.from_dense(linear(bias=False), format="int8")
        assert sorted(layer.state_dict()) == ["codes", "plan", "scale", "shape"]

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda: strop.nn.PackedLinear(torch.ones(3)), "weight is a Tensor"),
            (lambda: strop.nn.PackedLinear(layer_of().packed, torch.ones(3)), "bias has shape"),
            (
                lambda: strop.nn.PackedLinear(layer_of().packed, torch.ones(24).double()),
                "bias has dtype float64",
            ),
            (lambda: strop.nn.PackedLinear(layer_of().packed, activation="tanh"), "'tanh'"),
            (lambda: strop.nn.PackedLinear.from_dense(nn.ReLU(), format="int8"), "nn.Linear"),
            (
                lambda: strop.nn.PackedLinear.from_dense(
                    nn.Linear(3, 3, device="meta"), format="int8"
                ),
                "on meta",
            ),
        ],
    )
    def test_errors(self, call, message):
        with pytest.raises((ValueError, TypeError), match=rf"strop\.nn\.PackedLinear: .*{message}"):
            call()


class TestState:
    @pytest.mark.parametrize("assign", [False, True])
    @pytest.mark.parametrize(("format", "activations"), CASES)
    def test_is_loaded(self, format, activations, assign):
        first = layer_of(format, activations, 0, activation="relu")
        second = layer_of(format, activations, 1, activation="relu")
        buffer = io.BytesIO()
        torch.save(first.state_dict(), buffer)
        buffer.seek(0)
        second.load_state_dict(torch.load(buffer, weights_only=True), assign=assign)
        assert_same_bits(second(X).detach(), first(X).detach())

    def test_of_another_format(self):
        first, second = layer_of("int4", "uint8"), layer_of("int8", "int8")
        second.load_state_dict(first.state_dict())
        assert second.packed.format == "int4"
        assert_same_bits(second(X).detach(), first(X).detach())

    def test_in_its_own_tensors(self):
        first, second = layer_of(seed=0), layer_of(seed=1)
        held = second.codes
        second.load_state_dict(first.state_dict())
        assert second.codes is held
        first.codes.zero_()
        assert not torch.equal(second.codes, first.codes)

    def test_in_a_model(self):
        def build(seed):
            return nn.Sequential(layer_of(seed=seed), nn.ReLU())

        first, second = build(0), build(1)
        assert {"0.codes", "0.plan", "0.bias"} <= set(first.state_dict())
        second.load_state_dict(first.state_dict())
        assert_same_bits(second(X).detach(), first(X).detach())

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda s: s.pop("scale"), "Missing key.*scale"),
            (lambda s: s.update(more=torch.ones(1)), "Unexpected key.*more"),
            (lambda s: s.update(activation=torch.tensor(1)), "activation is relu"),
            (lambda s: s.update(scale=torch.ones(3, 1)), "scale has shape"),
            (
                lambda s: s.update(
                    strop.pack_weight(torch.ones(3, 64), format="int8").state_dict()
                ),
                "the layer has",
            ),
        ],
    )
    def test_what_does_not_fit(self, change, message):
        state = layer_of().state_dict()
        change(state)
        layer = layer_of(seed=1)
        before = layer.codes.clone()
        with pytest.raises(RuntimeError, match=message):
            layer.load_state_dict(state)
        if "key" not in message:  # (torch loads what it knows)
            assert torch.equal(layer.codes, before)
            assert torch.equal(layer.packed.codes, before)

    @pytest.mark.parametrize("how", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
    def test_copies(self, how):
        layer = layer_of("nvfp4", None)
        again = how(layer)
        assert_same_bits(again(X).detach(), layer(X).detach())
        again.codes.zero_()
        assert not torch.equal(again(X), layer(X))

    def test_written_in_place(self):
        layer, other = layer_of(seed=0), layer_of(seed=1)
        layer(X)
        with torch.no_grad():
            layer.codes.copy_(other.codes)
            layer.scale.copy_(other.scale)
            layer.bias.copy_(other.bias)
        assert_same_bits(layer(X).detach(), other(X).detach())

    def test_functional_call(self):
        layer, other = layer_of(seed=0), layer_of(seed=1)
        tensors = {"codes": other.codes, "scale": other.scale, "bias": other.bias}
        y = torch.func.functional_call(layer, tensors, (X,))
        assert_same_bits(y.detach(), other(X).detach())
        assert_same_bits(layer(X).detach(), layer_of(seed=0)(X).detach())


class TestMoves:
    def test_a_cast_leaves_codes_and_scales(self):
        layer = layer_of("int8", None)
        scale = layer.scale.clone()
        layer.to(torch.bfloat16)
        assert layer.scale.dtype == torch.float32
        assert torch.equal(layer.scale, scale)
        assert layer.bias.dtype == torch.bfloat16
        assert layer.packed.dtype == torch.bfloat16
        assert layer(X.bfloat16()).dtype == torch.bfloat16

    def test_meta_and_empty(self):
        layer = layer_of().to("meta")
        assert layer(X.to("meta")).shape == (5, 24)
        layer.to_empty(device="cpu")
        with pytest.raises(ValueError, match="no values since to_empty"):
            layer(X)
        assert "not loaded" in repr(layer)
        layer.load_state_dict(layer_of(seed=3).state_dict())
        assert_same_bits(layer(X).detach(), layer_of(seed=3)(X).detach())

    def test_shared_memory(self):
        layer = layer_of().share_memory()
        assert layer.codes.is_shared()
        assert_same_bits(layer(X).detach(), layer_of()(X).detach())

    def test_inference_mode(self):
        with torch.inference_mode():
            layer = layer_of()
            y = layer(X)
        assert_same_bits(layer(X).detach(), y.clone())


class TestCompiled:
    def test_fullgraph(self):
        layer = layer_of("int4", "uint8", activation="gelu")
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
        for rows in (2, 7):
            x = random_input(rows, 64)
            assert_same_bits(compiled(x).detach(), layer(x).detach())

    def test_exported(self):
        layer = layer_of()
        program = torch.export.export(layer, (X,))
        assert_same_bits(program.module()(X).detach(), layer(X).detach())

    def test_traced_by_fx(self):
        model = nn.Sequential(layer_of(), nn.ReLU())
        traced = torch.fx.symbolic_trace(model)
        assert_same_bits(traced(X).detach(), model(X).detach())

    def test_under_vmap_and_grad(self):
        layer = layer_of("nf4", None)
        x = X[:4].view(2, 2, 64)
        y = torch.vmap(lambda v: layer(v))(x)
        torch.testing.assert_close(y, layer(x))
