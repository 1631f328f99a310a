"""Quantized tensors of other libraries: restored to the bit as those libraries do it."""

import pytest
import torch

import strop
from conftest import assert_same_bits
from quantize_problems import sample

REASON = "the peer {} is not installed"


def quantized(config, dtype=torch.float32):
    quantization = pytest.importorskip("torchao.quantization", reason=REASON.format("torchao"))
    linear = torch.nn.Linear(128, 48, dtype=dtype)
    quantization.quantize_(linear, config(quantization))
    return linear.weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_integers_of_torchao(bits, dtype):
    granularity = pytest.importorskip(
        "torchao.quantization.granularity", reason=REASON.format("torchao")
    )
    weight = quantized(
        lambda q: q.IntxWeightOnlyConfig(
            weight_dtype=getattr(torch, f"int{bits}"), granularity=granularity.PerGroup(32)
        ),
        dtype,
    )
    q = strop.QuantizedTensor.from_torchao(weight)
    assert q.codes.shape == (48, 128 * bits // 8)
    assert q.dtype == dtype
    wanted = weight.dequantize()
    if dtype == torch.float32:
        assert_same_bits(strop.dequantize(q), wanted)
    else:  # torchao multiplies in bfloat16
        torch.testing.assert_close(strop.dequantize(q), wanted, rtol=2**-7, atol=0)


def test_int8_of_torchao():
    weight = quantized(lambda q: q.Int8WeightOnlyConfig())
    assert_same_bits(
        strop.dequantize(strop.QuantizedTensor.from_torchao(weight)), weight.dequantize()
    )


def test_float8_of_torchao():
    weight = quantized(lambda q: q.Float8WeightOnlyConfig())
    assert_same_bits(
        strop.dequantize(strop.QuantizedTensor.from_torchao(weight)), weight.dequantize()
    )


@pytest.mark.parametrize(
    ("elements", "format"),
    [
        (torch.float8_e4m3fn, "mxfp8"),
        (torch.float8_e5m2, "mxfp8_e5m2"),
        ("fp6_e2m3", "mxfp6_e2m3"),
        ("fp6_e3m2", "mxfp6_e3m2"),
        (torch.float4_e2m1fn_x2, "mxfp4"),
    ],
    ids=str,
)
def test_mx_of_torchao(elements, format):
    module = pytest.importorskip(
        "torchao.prototype.mx_formats.mx_tensor", reason=REASON.format("torchao")
    )
    x = sample((6, 64), torch.float32)
    theirs = module.MXTensor.to_mx(x, elements, 32)
    q = strop.QuantizedTensor.from_torchao(theirs)
    ours = strop.quantize(x, format=format)
    assert q.format == format
    assert torch.equal(q.codes, ours.codes)
    assert torch.equal(q.scale, ours.scale)
    assert_same_bits(strop.dequantize(q), theirs.dequantize(torch.float32))


def test_nvfp4_of_torchao():
    module = pytest.importorskip(
        "torchao.prototype.mx_formats.nvfp4_tensor", reason=REASON.format("torchao")
    )
    x = sample((6, 64), torch.float32)
    for scale in (None, module.per_tensor_amax_to_scale(x.abs().max())):
        theirs = module.NVFP4Tensor.to_nvfp4(x, per_tensor_scale=scale)
        q = strop.QuantizedTensor.from_torchao(theirs)
        assert_same_bits(strop.dequantize(q), theirs.dequantize(torch.float32))
    assert torch.equal(q.codes, strop.quantize(x, format="nvfp4").codes)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_bitsandbytes(nested, dtype):
    functional = pytest.importorskip(
        "bitsandbytes.functional", reason=REASON.format("bitsandbytes")
    )
    x = sample((48, 128), dtype)
    packed, state = functional.quantize_4bit(
        x, blocksize=64, quant_type="nf4", compress_statistics=nested
    )
    q = strop.QuantizedTensor.from_bitsandbytes(packed, state)
    assert q.shape == (48, 128)
    wanted = functional.dequantize_4bit(packed, state)
    if nested:  # the order in which absmax is restored differs in its last bit
        torch.testing.assert_close(
            strop.dequantize(q), wanted, rtol=1e-5 if dtype == torch.float32 else 2**-7, atol=0
        )
    else:
        assert_same_bits(strop.dequantize(q), wanted)
        ours = strop.quantize(x, format="nf4", block_size=(1, 64))
        assert torch.equal(q.codes, ours.codes)


def test_bitsandbytes_that_has_no_counterpart():
    functional = pytest.importorskip(
        "bitsandbytes.functional", reason=REASON.format("bitsandbytes")
    )
    packed, state = functional.quantize_4bit(torch.randn(4, 100), quant_type="nf4")
    with pytest.raises(ValueError, match="do not divide rows"):
        strop.QuantizedTensor.from_bitsandbytes(packed, state)
    packed, state = functional.quantize_4bit(torch.randn(4, 128), quant_type="fp4")
    with pytest.raises(ValueError, match="quant_state is of fp4; nf4 is needed"):
        strop.QuantizedTensor.from_bitsandbytes(packed, state)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
def test_float8(dtype):
    x = sample((6, 64), torch.float32).to(dtype)
    for scale in (None, torch.tensor(0.3), torch.rand(6, 1), torch.rand(6, 2), torch.rand(1, 64)):
        q = strop.QuantizedTensor.from_float8(x, scale)
        assert_same_bits(
            strop.dequantize(q), x.float() * (1.0 if scale is None else _spread(scale))
        )
        assert q.codes.numel() == x.numel()
    every = torch.arange(256, dtype=torch.uint8).view(dtype)
    assert_same_bits(strop.dequantize(strop.QuantizedTensor.from_float8(every)), every.float())
    with pytest.raises(TypeError, match=r"tensor is torch.float32; torch.float8_e4m3fn"):
        strop.QuantizedTensor.from_float8(x.float())
    with pytest.raises(ValueError, match="5 blocks do not divide an axis of 64"):
        strop.QuantizedTensor.from_float8(x, torch.rand(6, 5))


def _spread(scale):
    if scale.dim() == 0:
        return scale
    return scale.repeat_interleave(6 // scale.shape[0], 0).repeat_interleave(
        64 // scale.shape[1], 1
    )


def packed_as_words(codes, bits):
    """Codes as pack-quantized has them: unsigned, densely, low bits first, in int32 words."""
    numbers = (codes.long() + (1 << (bits - 1))).to(torch.uint8)
    numbers = torch.nn.functional.pad(numbers, (0, -numbers.shape[-1] % 32))
    packed = strop.pack_bits(numbers, bits).view(torch.int32)
    return packed[..., : -(-codes.shape[-1] * bits // 32)].contiguous()


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("asymmetric", [False, True])
def test_compressed_tensors(bits, asymmetric):
    rows, columns, group = 32, 120, 40
    half = 1 << (bits - 1)
    codes = torch.randint(-half, half, (rows, columns))
    scale = (torch.rand(rows, columns // group) + 0.1).bfloat16()
    zero = torch.randint(-half, half, scale.shape)
    state = {
        "layer.weight_packed": packed_as_words(codes, bits),
        "layer.weight_scale": scale,
        "layer.weight_shape": torch.tensor([rows, columns]),
    }
    if asymmetric:
        state["layer.weight_zero_point"] = packed_as_words(zero.T, bits).T
    q = strop.QuantizedTensor.from_compressed_tensors(state, "layer", bits=bits)
    less = zero.repeat_interleave(group, 1) if asymmetric else 0
    wanted = (codes - less).float() * scale.float().repeat_interleave(group, 1)
    assert_same_bits(strop.dequantize(q), wanted.bfloat16())
    assert_same_bits(strop.dequantize(q, dtype=torch.float32), wanted)
    assert q.codes.shape == (rows, columns * bits // 8)


@pytest.mark.parametrize("bits", range(2, 9))
def test_compressed_tensors_by_itself(bits):
    module = "compressed_tensors.compressors.pack_quantized.helpers"
    packing = pytest.importorskip(module, reason=REASON.format("compressed-tensors"))
    codes = torch.randint(-(1 << (bits - 1)), 1 << (bits - 1), (32, 120), dtype=torch.int8)
    assert torch.equal(packing.pack_to_int32(codes, bits), packed_as_words(codes, bits))


def test_compressed_tensors_that_have_no_counterpart():
    load = strop.QuantizedTensor.from_compressed_tensors
    with pytest.raises(ValueError, match=r"state lacks layer.weight_packed"):
        load({}, "layer")
    state = {
        "weight_packed": torch.zeros(4, 4, dtype=torch.int32),
        "weight_scale": torch.ones(4, 1),
        "weight_shape": torch.tensor([4, 32]),
        "weight_g_idx": torch.tensor([1, 0] * 16),
    }
    with pytest.raises(ValueError, match="weight_g_idx reorders columns"):
        load(state)
    del state["weight_g_idx"]
    state["weight_shape"] = torch.tensor([4, 64])
    with pytest.raises(ValueError, match="rows of 4 words do not hold 64 codes of 4 bits"):
        load(state)


def test_others_are_refused():
    with pytest.raises(TypeError, match="tensor is a Tensor; torchao's MXTensor"):
        strop.QuantizedTensor.from_torchao(torch.randn(3))
