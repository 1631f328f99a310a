"""strop.pack_model of what compressed-tensors itself makes of a model."""

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from models.problems import batch, packed_names

W8, W4 = {"num_bits": 8, "strategy": "channel"}, {"num_bits": 4, "strategy": "group"}
TOKEN = {"num_bits": 8, "strategy": "token", "dynamic": True}
BLOCK = {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [16, 16]}
FP4 = {"num_bits": 4, "type": "float"}
SCHEMES = {
    "w4a16": ({**W4, "group_size": 16}, None),
    "w4a16 asymmetric": ({**W4, "group_size": 16, "symmetric": False}, None),
    "w3a16": ({**W8, "num_bits": 3}, None),
    "w8a8": (W8, TOKEN),
    "w8a8 asymmetric": (W8, {**TOKEN, "symmetric": False}),
    "w8a8 of the tensor": ({"num_bits": 8, "strategy": "tensor"}, TOKEN),
    "fp8": ({**W8, "type": "float"}, {**TOKEN, "type": "float"}),
    "fp8 in blocks": (BLOCK, None),
    "nvfp4": ({**FP4, "strategy": "tensor_group", "group_size": 16}, None),
    "mxfp4": ({**FP4, "strategy": "group", "group_size": 32, "scale_dtype": torch.uint8}, None),
}


CASES = [(name, torch.bfloat16) for name in SCHEMES]
CASES += [(name, torch.float32) for name in SCHEMES if "fp4" not in name]  # restored to bfloat16


def library():
    pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    from compressed_tensors import compressors, quantization

    return compressors, quantization


def calibrate(layer, quantization):
    """Scales and zero points as an observer of the weight finds them."""
    how, blocks, whole = layer.quantization_scheme.weights, layer.weight.detach(), None
    if how.strategy == "block":
        blocks = blocks.unflatten(0, (-1, 16)).unflatten(-1, (-1, 16)).transpose(1, 2).flatten(2)
    elif how.group_size:
        blocks = blocks.unflatten(-1, (-1, how.group_size))
    elif how.strategy == "tensor":
        blocks = blocks.flatten()
    low, high = (blocks.amin(-1), blocks.amax(-1))
    if how.strategy == "tensor_group":
        whole = layer.weight_global_scale
        whole.data.fill_(448 * 6 / float(blocks.abs().max()))
    scale, zero = quantization.utils.calculate_qparams(low, high, how, whole)
    layer.weight_scale.data.copy_(scale.view_as(layer.weight_scale))
    if not how.symmetric:
        layer.weight_zero_point.data.copy_(zero.view_as(layer.weight_zero_point))


def compressed(name, dtype):
    """A model as transformers loads it: compressed, until it is called."""
    compressors, quantization = library()
    weights, inputs = SCHEMES[name]
    args = quantization.QuantizationArgs
    how = quantization.QuantizationScheme(
        targets=["Linear"],
        weights=args(**weights),
        input_activations=None if inputs is None else args(**inputs),
    )
    config = quantization.QuantizationConfig(
        config_groups={"all": how}, quantization_status="frozen", ignore=["3"]
    )
    torch.manual_seed(0)
    layers = (nn.Linear(64, 96), nn.GELU(), nn.Linear(96, 32), nn.Linear(32, 32))
    model = nn.Sequential(*layers).to(dtype).eval()
    quantization.apply_quantization_config(model, config, show_progress=False)
    for layer in (model[0], model[2]):
        calibrate(layer, quantization)
    compressors.ModelCompressor(quantization_config=config).compress_model(model)
    return model


def decompressed(layer):
    """The weight by the library, of a layer that stays compressed."""
    compressors, _ = library()
    how = layer.quantization_scheme
    compressor = compressors.BaseCompressor.get_value_from_registry(how.format.value)
    state = {name: tensor.detach() for name, tensor in layer.named_parameters()}
    return compressor.decompress(state, how)["weight"]


@pytest.mark.parametrize("called", [False, True])
@pytest.mark.parametrize(("name", "dtype"), CASES)
def test_as_the_library_has_it(name, dtype, called):
    x, (_, inputs) = batch(2, 5, 64).to(dtype), SCHEMES[name]
    model, reference = compressed(name, dtype), compressed(name, dtype)
    expected = [decompressed(model[i]) for i in (0, 2)]
    results = reference(x)
    if called:
        model(x)
    report = strop.pack_model(model, x, only_if_faster=False).to_dict()
    assert packed_names(model) == ["0", "2", "3"], report["left_alone"]
    for i, dense in zip((0, 2), expected, strict=True):
        assert_same_bits(model[i].packed.to_dense(), dense, i)
    integers = inputs is not None and "type" not in inputs
    symmetric = integers and inputs.get("symmetric", True)
    for entry in report["layers"][:2]:
        assert entry["activations"] == (("int8" if symmetric else "uint8") if integers else None)
        assert entry["sqnr"] > (30 if inputs or dtype == torch.bfloat16 else 100)
    assert float((model(x) - results).norm() / results.norm()) < 0.05
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("name", ["w4a16", "w8a8"])
def test_what_is_left_alone_is_decompressed_by_the_first_call(name):
    model, reference = compressed(name, torch.float32), compressed(name, torch.float32)
    x = batch(2, 5, 64)
    strop.pack_model(model, x, filter=lambda name, _: name == "0", only_if_faster=False)
    assert model[2].quantization_status == "compressed"
    results, expected = model(x), reference(x)
    assert model[2].quantization_status == "decompressed"
    torch.testing.assert_close(results, expected, rtol=1e-2, atol=1e-2)
    assert_same_bits(model(x), results)
    assert type(strop.densify(model)[0]) is nn.Linear
    torch.testing.assert_close(model(x), results, rtol=5e-2, atol=1e-2)
