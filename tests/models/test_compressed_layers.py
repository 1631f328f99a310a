"""strop.pack_model of the layers of compressed-tensors: codes and scales are taken as they are."""

import functools
import types
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional

import strop
from core.devices import assert_same_bits
from models.problems import (
    assert_unchanged,
    batch,
    layers,
    pack,
    packed_names,
    reasons,
    state_of,
)
from quantize.test_compressed_tensors import words

TOKENS = {"int8": True, "uint8": False}


def of_the_library(function):
    """A forward as compressed-tensors puts it on a layer: its own, around the class's."""
    name = "compressed_tensors.quantization.lifecycle.forward"
    code, names = function.__code__, {**globals(), "__name__": name}
    return functools.wraps(nn.Linear.forward)(types.FunctionType(code, names))


def quantized_forward(self, input):
    how = self.quantization_scheme.input_activations
    if how is not None:
        rows = {"format": "int8", "block_size": (1,) * (input.dim() - 1) + (-1,)}
        input = strop.fake_quantize(input, symmetric=how.symmetric, **rows)
    return nn.Linear.forward(self, input)


def scheme(activations=None, **weights):
    defaults = {"type": "int", "num_bits": 8, "symmetric": True, "strategy": "channel"}
    beside = {"group_size": None, "block_structure": None}
    inputs = None
    if activations is not None:
        inputs = SimpleNamespace(**{**defaults, "strategy": "token", "dynamic": True})
        vars(inputs).update(activations)
    return SimpleNamespace(
        weights=SimpleNamespace(**{**defaults, **beside, **weights}), input_activations=inputs
    )


def compressed(linear, how, tensors):
    """The layer as ``compress_module`` leaves it: without a weight, or with one in bytes."""
    del linear.weight
    for name, tensor in tensors.items():
        setattr(linear, name, nn.Parameter(tensor, requires_grad=False))
    linear.quantization_scheme, linear.quantization_status = how, "compressed"
    linear.forward = of_the_library(quantized_forward).__get__(linear)
    return linear


def packed_layer(shape, bits, asymmetric=False, activations=None, dtype=torch.float32):
    """(pack-quantized in groups of 16, the weight that it stands for)."""
    rows, columns = shape
    half, linear = 1 << (bits - 1), nn.Linear(columns, rows, dtype=dtype)
    codes = torch.randint(-half, half, shape)
    scale = ((torch.rand(rows, columns // 16) + 0.5) / half / 4).to(dtype)
    tensors = {"weight_packed": words(codes, bits), "weight_scale": scale}
    tensors["weight_shape"] = torch.tensor(shape)
    zero = torch.zeros(scale.shape, dtype=torch.int64)
    if asymmetric:
        zero = torch.randint(-half, half, scale.shape)
        tensors["weight_zero_point"] = words(zero.T, bits).T.contiguous()
    how = scheme(activations, num_bits=bits, strategy="group", group_size=16)
    how.weights.symmetric = not asymmetric
    wide = [t.repeat_interleave(16, 1).float() for t in (zero, scale)]
    return compressed(linear, how, tensors), ((codes - wide[0]) * wide[1]).to(dtype)


def bytes_layer(shape, kind="int", activations=None, dtype=torch.float32):
    """(int-quantized or float-quantized with a scale a row, the weight that it stands for)."""
    linear = nn.Linear(shape[1], shape[0], dtype=dtype)
    codes = torch.randint(-128, 128, shape).to(torch.int8)
    if kind == "float":
        codes = torch.randn(shape).to(torch.float8_e4m3fn)
    scale = ((torch.rand(shape[0], 1) + 0.5) / 512).to(dtype)
    layer = compressed(
        linear, scheme(activations, type=kind), {"weight": codes, "weight_scale": scale}
    )
    return layer, (codes.float() * scale.float()).to(dtype)


def decompressed(linear, dense):
    """The layer as the first call of its model leaves it."""
    for name in ("weight_packed", "weight"):
        linear._parameters.pop(name, None)
    linear.weight = nn.Parameter(dense, requires_grad=False)
    linear.quantization_status = "decompressed"
    return linear


def with_hook(model):
    """The model, which its first call decompresses for good."""

    def ct_decompress_hook(*_):
        raise AssertionError("the library's hook was called")

    model.ct_decompress_hook = model.register_forward_pre_hook(ct_decompress_hook)
    return model


class TestCompressedTensors:
    """Modules by hand, of the form that the library gives them."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    @pytest.mark.parametrize("asymmetric", [False, True])
    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_packed(self, bits, asymmetric, dtype):
        layer, dense = packed_layer((24, 64), bits, asymmetric, dtype=dtype)
        model, bias = with_hook(nn.Sequential(layer)), layer.bias
        report = pack(model)
        assert packed_names(model) == ["0"]
        weight, entry = model[0].packed, layers(report)["0"]
        assert (weight.format, weight.block_size, weight.activations) == (f"int{bits}", (1, 16), "")
        assert (entry["shape"], entry["dense_bytes"]) == ([24, 64], 24 * 64 * dtype.itemsize)
        assert_same_bits(weight.to_dense(), dense)
        assert model[0].bias is bias
        assert not hasattr(model, "ct_decompress_hook")
        x = batch(2, 3, 64).to(dtype)
        expected = functional.linear(x, dense, bias)
        torch.testing.assert_close(model(x), expected, rtol=2e-2, atol=2e-2)

    @pytest.mark.parametrize("kind", ["int", "float"])
    def test_bytes(self, kind):
        layer, dense = bytes_layer((24, 64), kind)
        model = nn.Sequential(layer)
        pack(model)
        assert model[0].packed.format == {"int": "int8", "float": "float8_e4m3fn"}[kind]
        assert_same_bits(model[0].packed.to_dense(), dense)
        restored = strop.densify(model)[0]
        assert type(restored) is nn.Linear
        assert "forward" not in vars(restored)
        assert not hasattr(restored, "quantization_scheme")
        assert_same_bits(restored.weight.detach(), dense)

    @pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 32), (4, 16)])
    def test_floats_of_blocks(self, bits, group):
        format = {(4, 32): "mxfp4", (8, 32): "mxfp8", (4, 16): "nvfp4"}[bits, group]
        q = strop.quantize(torch.randn(24, 64).bfloat16(), format=format)
        tensors, dense = {"weight_packed": q.codes, "weight_scale": q.scale}, q.dequantize()
        if bits == 8:
            tensors = {"weight": q.codes.view(torch.float8_e4m3fn), "weight_scale": q.scale}
        if format == "nvfp4":
            tensors["weight_scale"] = q.scale.view(torch.float8_e4m3fn)
            whole = tensors["weight_global_scale"] = torch.tensor([7.0])
            scale = (tensors["weight_scale"].float() / whole).repeat_interleave(16, 1)
            values = strop.QuantizedTensor(
                q.codes,
                torch.ones(1, 1),
                None,
                None,
                "float4_e2m1fn",
                None,
                (24, 64),
                torch.float32,
            )
            dense = (values.dequantize() * scale).bfloat16()
        how = scheme(type="float", num_bits=bits, strategy="group", group_size=group)
        model = nn.Sequential(compressed(nn.Linear(64, 24), how, tensors))
        pack(model)
        assert_same_bits(model[0].packed.to_dense(), dense)
        assert torch.equal(model[0].codes, q.codes)

    def test_with_inputs(self):
        first, one = packed_layer((48, 32), 4)
        second, two = bytes_layer((16, 48))
        model = with_hook(nn.Sequential(first, nn.GELU(), second).eval())
        before, x = state_of(model), batch(6, 32)
        with pytest.raises(ValueError, match="recipe has 'nothing'"):
            pack(model, x, recipe={"nothing": None})
        assert_unchanged(model, before)
        hidden = functional.gelu(functional.linear(x, one, first.bias))
        expected = functional.linear(hidden, two, second.bias)
        report = pack(model, x)
        assert packed_names(model) == ["0", "2"]
        assert layers(report)["0"]["activation"] == "gelu"
        for entry in layers(report).values():
            assert entry["sqnr"] > 60
            assert entry["timings"] == []  # (none where all are packed)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-4)

    def test_left_alone_it_is_as_it_was(self):
        first, second = packed_layer((48, 32), 4)[0], bytes_layer((16, 48))[0]
        model = with_hook(nn.Sequential(first, second).eval())
        before = state_of(model)
        report = pack(model, batch(6, 32), filter=lambda *_: False)
        assert set(reasons(report).values()) == {"not chosen by filter"}
        assert_unchanged(model, before)
        assert "weight" not in vars(first)
        assert hasattr(model, "ct_decompress_hook")
        pack(model, filter=lambda name, _: name == "0")
        assert len(model._forward_pre_hooks) == 1  # the other is still compressed

    @pytest.mark.parametrize(
        ("bits", "asymmetric", "dtype"),
        [
            (4, False, torch.bfloat16),
            (4, True, torch.bfloat16),
            (8, False, torch.bfloat16),
            (8, True, torch.float32),
        ],
    )
    def test_decompressed(self, bits, asymmetric, dtype):
        layer, dense = packed_layer((24, 64), bits, asymmetric, dtype=dtype)
        twin = nn.Sequential(packed_layer((24, 64), bits, asymmetric, dtype=dtype)[0])
        state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
        twin[0].load_state_dict(state)
        pack(twin)
        model = nn.Sequential(decompressed(layer, dense))
        layer.weight_zero_point = None
        if asymmetric:
            zero = twin[0].packed.zero_point
            layer.weight_zero_point = nn.Parameter(zero, requires_grad=False)
        pack(model, batch(3, 64).to(dtype), sparsity=0.5)
        assert torch.equal(model[0].codes, twin[0].codes)
        assert_same_bits(model[0].packed.to_dense(), dense)

    def test_what_was_trained_since_is_left_alone(self):
        layer, dense = bytes_layer((24, 64))
        model = nn.Sequential(decompressed(layer, dense + 1e-3))
        why = reasons(pack(model, batch(3, 64)))["0"]
        assert "its scales do not give it back exactly" in why

    @pytest.mark.parametrize("activations", TOKENS)
    def test_activations_are_carried_over(self, activations):
        layer, _ = bytes_layer((24, 64), activations={"symmetric": TOKENS[activations]})
        model, x = nn.Sequential(layer), batch(50, 64)
        report = pack(model, x)
        assert model[0].packed.activations == layers(report)["0"]["activations"] == activations
        assert layers(report)["0"]["sqnr"] > 100

    @pytest.mark.parametrize(
        "change",
        [{"dynamic": False}, {"strategy": "tensor"}, {"num_bits": 4}, {"type": "float"}],
    )
    def test_other_activations_are_not(self, change):
        model = nn.Sequential(bytes_layer((24, 64), activations=change)[0])
        assert layers(pack(model))["0"]["activations"] is None

    def test_zero_points_that_are_no_codes_keep_activations_away(self):
        layer, dense = bytes_layer((24, 64), activations={})
        layer.quantization_scheme.weights.symmetric = False
        zero = torch.full((24, 1), 200, dtype=torch.int16)
        layer.weight_zero_point = nn.Parameter(zero, requires_grad=False)
        model = nn.Sequential(layer)
        assert layers(pack(model))["0"]["activations"] is None
        torch.testing.assert_close(
            model[0].packed.to_dense(), dense - 200 * layer.weight_scale.detach()
        )

    def test_an_embedding_stays_and_runs_meanwhile(self):
        layer, _ = packed_layer((24, 64), 4)
        embedding = nn.Embedding(10, 64)
        tensors = {"weight": torch.randint(-9, 9, (10, 64)).to(torch.int8)}
        compressed(embedding, scheme(), {**tensors, "weight_scale": torch.rand(10, 1) + 0.1})
        del embedding.forward
        model = with_hook(nn.Sequential(embedding, layer))
        before = embedding.state_dict()
        pack(model, torch.arange(10))
        assert packed_names(model) == ["1"]
        assert "weight" not in vars(embedding)
        assert all(torch.equal(t, before[name]) for name, t in embedding.state_dict().items())
        assert hasattr(model, "ct_decompress_hook")

    def test_asked_activations_come_first(self):
        make = lambda: nn.Sequential(bytes_layer((24, 64), activations={})[0])  # noqa: E731
        asked = pack(make(), format="int4", activations="uint8")
        assert layers(asked)["0"]["activations"] == "uint8"
        exact = pack(make(), recipe={"*": {"activations": None}})
        assert layers(exact)["0"]["activations"] is None
        floats = bytes_layer((24, 64), "float", {})[0]
        assert layers(pack(nn.Sequential(floats)))["0"]["activations"] is None

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"weight_scale": torch.ones(24, 3)}, "3 blocks along an axis of 64"),
            ({"weight_packed": torch.zeros(24, 5, dtype=torch.int32)}, "rows of 5 words"),
            ({"weight_shape": torch.tensor([24, 56])}, "rows of 8 words do not hold 56"),
            ({"weight_shape": torch.tensor([23, 64])}, "23 rows are needed"),
            ({"weight_g_idx": torch.arange(64).flip(0) // 16}, "g_idx reorders columns"),
            ({"weight_packed": torch.zeros(24, 8, device="meta")}, "on meta"),
            ({"weight_scale": None}, "state lacks"),
        ],
    )
    def test_what_does_not_fit_is_left_alone(self, change, why):
        layer, _ = packed_layer((24, 64), 4)
        for name, tensor in change.items():
            held = None if tensor is None else nn.Parameter(tensor, requires_grad=False)
            setattr(layer, name, held)
        model = nn.Sequential(nn.Linear(64, 64), layer)
        entries = pack(model, format="int8").to_dict()["left_alone"]
        assert (entries[0]["name"], entries[0]["shape"]) == ("1", [24, 64])
        assert why in entries[0]["reason"]
        assert model[1] is layer
        model = nn.Sequential(nn.Linear(64, 64), layer)
        with pytest.raises(ValueError, match=r"strop\.pack_model: .*'1' does not run: .*" + why):
            pack(model, batch(3, 64), format="int8")
        assert packed_names(model) == []

    @pytest.mark.parametrize(
        ("how", "why"),
        [
            ({"num_bits": 16}, "bits is 16"),
            ({"type": "float", "num_bits": 6}, "floats of 6 bits are not known"),
            ({"type": "float", "num_bits": 4}, "torch.int32; bytes are needed"),
        ],
    )
    def test_formats_that_are_not_known(self, how, why):
        layer, _ = packed_layer((24, 64), 4)
        vars(layer.quantization_scheme.weights).update(how)
        assert why in reasons(pack(nn.Sequential(layer)))["0"]

    def test_whose_forward_is_not_the_library_s(self):
        layer, _ = packed_layer((24, 64), 4)
        forward = layer.forward
        layer.forward = functools.wraps(forward)(lambda x: 2 * forward(x))
        assert reasons(pack(nn.Sequential(layer)))["0"] == "its forward was replaced"
        layer, _ = bytes_layer((24, 64), activations={})
        layer.weight = nn.Parameter(torch.randn(24, 64))
        layer.quantization_scheme.weights = None
        assert reasons(pack(nn.Sequential(layer)))["0"] == "its forward was replaced"
        layer, _ = packed_layer((24, 64), 4)
        layer.quantization_status = "frozen"
        assert reasons(pack(nn.Sequential(layer)))["0"].endswith("quantization_status is frozen")

    def test_is_not_pruned(self):
        model = nn.Sequential(packed_layer((64, 64), 4)[0], nn.Linear(64, 64))
        assert list(strop.prune_masks(model, sparsity=0.5)) == ["1.weight"]
        with pytest.raises(ValueError, match="masks has '0.weight', which cannot be pruned"):
            pack(model, masks={"0.weight": torch.ones(64, 64) > 0})

    def test_loaded(self):
        model = nn.Sequential(packed_layer((64, 64), 4)[0], bytes_layer((64, 64))[0])
        pack(model)
        for fresh in (
            nn.Sequential(packed_layer((64, 64), 4)[0], bytes_layer((64, 64))[0]),
            nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)),
        ):
            again = strop.load_packed(fresh, model.state_dict())
            assert_same_bits(again(batch(3, 64)).detach(), model(batch(3, 64)).detach())
