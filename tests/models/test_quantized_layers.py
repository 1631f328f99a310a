"""strop.pack_model of layers that are quantized already: codes and scales are taken as they are."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional

import strop
from core.devices import assert_same_bits
from models.problems import batch, layers, net, pack, packed_names, reasons

LAYERS = ["0", "2", "4"]
DYNAMIC = "Int8DynamicActivationInt8WeightConfig"


class TestTorchao:
    def model(self, config="Int8WeightOnlyConfig", **options):
        quantization = pytest.importorskip(
            "torchao.quantization", reason="torchao is not installed"
        )
        options = {
            name: getattr(quantization, option) if isinstance(option, str) else option
            for name, option in options.items()
        }
        model = net()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quantization.quantize_(model, getattr(quantization, config)(**options))
        return model

    def test_as_it_is(self):
        model = self.model()
        expected = {i: strop.QuantizedTensor.from_torchao(model[i].weight) for i in (0, 2, 4)}
        reference = model(batch(5, 48))
        report = pack(model, batch(5, 48), activations=None)
        assert packed_names(model) == LAYERS
        for i, q in expected.items():
            assert_same_bits(model[i].packed.to_dense(), q.dequantize())
        torch.testing.assert_close(model(batch(5, 48)), reference, rtol=1e-4, atol=1e-4)
        assert layers(report)["0"]["sqnr"] > 60
        again = strop.load_packed(self.model(), model.state_dict())
        assert_same_bits(again(batch(5, 48)).detach(), model(batch(5, 48)).detach())

    def test_is_not_pruned(self):
        model = self.model()
        model[2] = nn.Linear(64, 64)
        strop.pack_model(model, sparsity=0.5, only_if_faster=False)
        assert model[0].packed.format == "int8"
        assert model[2].packed.sparsity == pytest.approx(0.5, abs=1e-3)

    @pytest.mark.parametrize("mapping", ["SYMMETRIC", "ASYMMETRIC"])
    def test_activations_are_carried_over(self, mapping):
        kind = pytest.importorskip("torchao.quantization.quant_primitives").MappingType
        model = self.model(DYNAMIC, act_mapping_type=kind[mapping], set_inductor_config=False)
        report = pack(model, batch(50, 48))
        wanted = {"SYMMETRIC": "int8", "ASYMMETRIC": "uint8"}[mapping]
        for entry in layers(report).values():
            assert entry["activations"] == wanted
            assert entry["sqnr"] > 60

    def test_activations_of_a_token(self):
        PerAxis = pytest.importorskip("torchao.quantization").PerAxis  # noqa: N806
        model = self.model(
            "Int8DynamicActivationIntxWeightConfig",
            weight_dtype=torch.int8,
            weight_granularity=PerAxis(0),
        )
        report = pack(model, batch(50, 48))
        assert {entry["activations"] for entry in layers(report).values()} == {"uint8"}
        assert min(entry["sqnr"] for entry in layers(report).values()) > 60

    @pytest.mark.parametrize(
        "change",
        [
            {"reduce_range": True},
            {"granularity": "PerTensor"},
            {"act_quant_scale": torch.ones(1, 1)},
        ],
    )
    def test_other_activations_are_not(self, change):
        model = self.model(DYNAMIC, set_inductor_config=False)
        for name, value in change.items():
            for i in (0, 2, 4):
                weight = model[i].weight
                if name == "granularity":
                    value = pytest.importorskip("torchao.quantization").PerTensor()
                setattr(weight if name.startswith("act") else weight.act_quant_kwargs, name, value)
        assert {entry["activations"] for entry in layers(pack(model)).values()} == {None}

    def test_exact_where_a_recipe_says_so(self):
        model = self.model(DYNAMIC, set_inductor_config=False)
        report = pack(model, recipe={"0": {"activations": None}, "2": {"min_sqnr": None}})
        found = {name: entry["activations"] for name, entry in layers(report).items()}
        assert found == {"0": None, "2": "int8", "4": "int8"}

    def test_what_scales_its_input_is_left_alone(self):
        model = self.model()
        model[0].weight.act_pre_scale = torch.ones(48)
        report = pack(model)
        assert packed_names(model) == ["2", "4"]
        assert reasons(report)["0"].endswith("it multiplies its input by act_pre_scale")


class TestBitsandbytes:
    def model(self, quant_type="nf4", dtype=torch.float32, **options):
        bnb = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
        linear = bnb.nn.Linear4bit(128, 64, quant_type=quant_type, **options)
        return nn.Sequential(linear.to(dtype).to("cpu"))

    def test_as_it_is(self):
        model = self.model()
        x = batch(5, 128)
        reference = model(x)
        expected = strop.QuantizedTensor.from_bitsandbytes(
            model[0].weight.detach(), model[0].weight.quant_state
        )
        pack(model)
        assert model[0].packed.format == "nf4"
        assert_same_bits(model[0].packed.to_dense(), expected.dequantize())
        torch.testing.assert_close(model(x), reference, rtol=1e-2, atol=1e-2)
        assert_same_bits(strop.load_packed(self.model(), model.state_dict())(x), model(x))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_dense_again(self, dtype):
        model = self.model(dtype=dtype)
        state = model[0].weight.quant_state
        assert state.dtype == dtype
        q = strop.QuantizedTensor.from_bitsandbytes(model[0].weight.detach(), state)
        report = pack(model)
        assert layers(report)["0"]["dense_bytes"] == 64 * 128 * dtype.itemsize
        strop.densify(model)
        assert type(model[0]) is nn.Linear
        assert_same_bits(model[0].weight.detach(), q.dequantize())

    def test_fp4_is_left_alone(self):
        entry = pack(self.model("fp4")).to_dict()["left_alone"][0]
        assert (entry["name"], entry["shape"], entry["dense_bytes"]) == ("0", [64, 128], 64 * 64)
        assert entry["reason"].endswith("quant_state is of fp4; nf4 is needed")


class Own(nn.Linear):
    """A layer that restores its weight at each call."""

    def forward(self, x):
        held = self.weight() if isinstance(self.weight, nn.Module) else self.weight
        return functional.linear(x, held.dequantize(), self.bias)


def held(kind=nn.Linear, format="int8", wrap=False, shape=(24, 64), **options):
    linear = kind(64, 24)
    q = strop.quantize(torch.randn(shape), format=format, block_size=(1, -1), **options)
    del linear.weight
    linear.weight = strop.nn.Held(q) if wrap else q
    return linear, q


class TestQuantizedTensor:
    @pytest.mark.parametrize("wrap", [False, True])
    @pytest.mark.parametrize("kind", [nn.Linear, Own])
    @pytest.mark.parametrize("format", ["int8", "int4", "nf4"])
    def test_as_it_is(self, kind, format, wrap):
        layer, q = held(kind, format, wrap)
        model, bias, x = nn.Sequential(layer), layer.bias, batch(5, 64)
        report = pack(model, x) if kind is Own or not wrap else pack(model)
        weight = model[0].packed
        assert (weight.format, weight.block_size) == (q.format, q.block_size)
        assert torch.equal(weight.codes, q.codes)
        assert_same_bits(weight.to_dense(), q.dequantize())
        assert model[0].bias is bias
        assert layers(report)["0"]["shape"] == [24, 64]
        expected = functional.linear(x, q.dequantize(), bias)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        strop.densify(model)
        assert type(model[0]) is nn.Linear
        assert_same_bits(model[0].weight.detach(), q.dequantize())

    def test_asked_activations(self):
        model = nn.Sequential(held()[0], held(format="nf4")[0])
        report = pack(model, format="int4", activations="uint8")
        assert [entry["activations"] for entry in layers(report).values()] == ["uint8", None]

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({"format": "int16"}, "no codes of at most 8 bits"),
            ({"shape": (23, 64)}, r"it has shape (23, 64); the layer has (24, 64)"),
        ],
    )
    def test_what_does_not_fit_is_left_alone(self, options, why):
        layer, q = held(Own, **options)
        model = nn.Sequential(layer)
        report = pack(model, format="int8")
        assert why in reasons(report)["0"]
        assert model[0] is layer
        assert layer.weight is q

    def test_whose_forward_was_replaced(self):
        layer, _ = held()
        layer.forward = lambda x: x
        assert reasons(pack(nn.Sequential(layer)))["0"] == "its forward was replaced"
