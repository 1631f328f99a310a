"""Quantized tensors of other libraries: restored to the bit as those libraries do it."""

import numpy as np
import pytest
import torch

import strop
from core.devices import assert_same_bits
from quantize.problems import sample

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


def test_float8_blocks_of_torchao():
    # Stated, where the scale's shape leaves a doubt.
    module = pytest.importorskip("torchao.quantization", reason=REASON.format("torchao"))
    x = sample((8, 96), torch.float32)
    granularity = pytest.importorskip("torchao.quantization.granularity")
    for granule, grid in (
        (granularity.PerBlock((4, 32)), (2, 3)),
        (granularity.PerBlock((1, 48)), (8, 2)),
        (granularity.PerRow(), (8, 1)),
        (granularity.PerTensor(), (1, 1)),
    ):
        theirs = module.Float8Tensor.from_hp(x, granularity=granule)
        assert theirs.scale.shape == grid
        q = strop.QuantizedTensor.from_torchao(theirs)
        assert_same_bits(q.dequantize(), theirs.dequantize())


def test_transposed_ones_of_torchao_are_refused():
    # Their blocks run down the columns, whatever sizes coincide.
    mx = pytest.importorskip(
        "torchao.prototype.mx_formats.mx_tensor", reason=REASON.format("torchao")
    )
    nvfp4 = pytest.importorskip("torchao.prototype.mx_formats.nvfp4_tensor")
    for shape in ((64, 64), (32, 64), (1, 64), (64, 32)):
        x = sample(shape, torch.float32)
        made = [mx.MXTensor.to_mx(x, e, 32) for e in (torch.float8_e4m3fn, torch.float4_e2m1fn_x2)]
        for tensor in (*made, nvfp4.NVFP4Tensor.to_nvfp4(x)):
            with pytest.raises(ValueError, match="blocks along the last axis, of shape"):
                strop.QuantizedTensor.from_torchao(tensor.t())


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


@pytest.mark.parametrize("name", ["MXTensor", "NVFP4Tensor"])
def test_swizzled_scales_are_refused(name):
    # They have the shape of others where 128 rows and four blocks divide a matrix.
    def tensor(**facts):
        block, scales = {"MXTensor": (32, "float8_e8m0fnu")}.get(name, (16, "float8_e4m3fn"))
        fields = {
            "qdata": torch.zeros(128, 128, dtype=torch.float8_e4m3fn),
            "scale": torch.ones(128, 256 // block).to(getattr(torch, scales)),
            "elem_dtype": torch.float4_e2m1fn_x2,
            "block_size": block,
            "per_tensor_scale": None,
            "orig_dtype": torch.float32,
        }
        return type(name, (), fields | facts)()

    class NoSwizzle:
        pass

    class Swizzle_32_4_4:
        pass

    load = strop.QuantizedTensor.from_torchao
    for facts in ({"is_swizzled_scales": False}, {"swizzle_type": NoSwizzle()}):
        assert load(tensor(**facts)).shape == (128, 256)
    for facts in ({"is_swizzled_scales": True}, {"swizzle_type": Swizzle_32_4_4()}, {}):
        with pytest.raises(ValueError, match="scales are swizzled"):
            load(tensor(**facts))


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


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "shape", [(100,), (1, 100), (1, 1, 98), (3, 64), (2, 3, 64), (63,)], ids=str
)
def test_bitsandbytes_last_blocks(shape, nested):
    functional = pytest.importorskip(
        "bitsandbytes.functional", reason=REASON.format("bitsandbytes")
    )
    x = sample(shape, torch.float32)
    packed, state = functional.quantize_4bit(
        x, blocksize=64, quant_type="nf4", compress_statistics=nested
    )
    q = strop.QuantizedTensor.from_bitsandbytes(packed, state)
    wanted = functional.dequantize_4bit(packed, state).view(shape)
    torch.testing.assert_close(q.dequantize(), wanted, rtol=1e-6 if nested else 0, atol=0)
    again = strop.unpack_bits(q.codes, 4, shape[-1])
    assert torch.equal(strop.pack_bits(again, 4), q.codes)  # what is left of a last byte is 0


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
    packed, state = functional.quantize_4bit(torch.randn(4, 128), quant_type="nf4")
    with pytest.raises(
        ValueError, match="packed has 255 bytes and absmax 8 elements; .* 256 and 8"
    ):
        strop.QuantizedTensor.from_bitsandbytes(packed[:-1], state)
    state.packing_format_for_cpu = True
    with pytest.raises(ValueError, match="laid out anew for a CPU"):
        strop.QuantizedTensor.from_bitsandbytes(packed, state)


def spread(parameter, shape, block):
    """A block's parameter for each of its elements, numpy's way."""
    array = parameter.reshape(
        (1,) * (len(shape) - parameter.dim()) + tuple(parameter.shape)
    ).numpy()
    for axis, (n, b) in enumerate(zip(shape, block, strict=True)):
        array = np.repeat(array, n if b < 0 else b, axis).take(range(n), axis)
    return torch.from_numpy(array.copy())


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2], ids=str)
class TestFloat8:
    load = staticmethod(strop.QuantizedTensor.from_float8)

    def test_every_value(self, dtype):
        every = torch.arange(256, dtype=torch.uint8).view(dtype)
        assert_same_bits(self.load(every).dequantize(), every.float())
        scale = torch.tensor(0.3)
        assert_same_bits(self.load(every, scale).dequantize(), every.float() * scale)
        assert_same_bits(self.load(every[3], scale).dequantize(), every[3].float() * scale)

    @pytest.mark.parametrize(
        ("shape", "block", "grid"),
        [
            ((192, 128), (128, 128), (2, 1)),
            ((192, 128), (96, 128), (2, 1)),
            ((300, 200), (128, 128), (3, 2)),
            ((6, 64), (1, 32), (6, 2)),
            ((6, 64), (-1, 32), (1, 2)),
            ((6, 64), (4, -1), (2, 1)),
            ((6, 64), (100, 100), (1, 1)),
            ((3, 10, 7), (1, 4, 3), (3, 3, 3)),
            ((10,), (4,), (3,)),
        ],
    )
    def test_blocks_that_are_given(self, dtype, shape, block, grid):
        x, scale = sample(shape, torch.float32).to(dtype), torch.rand(grid) + 0.1
        q = self.load(x, scale, block_size=block)
        assert q.block_size == block
        assert_same_bits(q.dequantize(), x.float() * spread(scale, shape, block))
        assert_same_bits(
            self.load(x, torch.tensor(0.3), block_size=block).dequantize(), x.float() * 0.3
        )

    def test_blocks_that_leave_no_doubt(self, dtype):
        # Every size, against all sizes that have this number of blocks.
        for n in range(1, 40):
            x = sample((n, 3), torch.float32).to(dtype)
            for count in range(1, n + 2):
                sizes = [b for b in range(1, n + 1) if -(-n // b) == count]
                scale = torch.rand(count, 1) + 0.1
                if len(sizes) == 1 or count == 1:
                    block = (sizes[0] if count > 1 else -1, -1)
                    wanted = x.float() * spread(scale, (n, 3), block)
                    assert_same_bits(self.load(x, scale).dequantize(), wanted, (n, count))
                    continue
                text = "give block_size" if sizes else "no block size does"
                with pytest.raises(
                    ValueError, match=f"{count} blocks along an axis of {n}.*{text}"
                ):
                    self.load(x, scale)

    def test_groups_that_leave_no_doubt(self, dtype):
        x, scale = sample((2, 4096), torch.float32).to(dtype), torch.rand(2, 128)
        q = self.load(x, scale)
        assert q.block_size == (1, 32)
        assert_same_bits(q.dequantize(), x.float() * spread(scale, x.shape, (1, 32)))

    def test_scales_that_are_powers_of_two(self, dtype):
        x, scale = sample((6, 64), torch.float32).to(dtype), 2.0 ** torch.arange(-3, 3.0)[:, None]
        q = self.load(x, scale.to(torch.float8_e8m0fnu))
        assert_same_bits(q.dequantize(), x.float() * scale)

    def test_float64_scales_stay(self, dtype):
        x, scale = sample((6, 64), torch.float32).to(dtype), torch.rand(6, 1, dtype=torch.float64)
        q = self.load(x, scale, dtype=torch.float64)
        assert_same_bits(q.dequantize(), x.double() * scale)

    def test_empty(self, dtype):
        for shape in ((0, 64), (4, 0)):
            x = torch.empty(shape).to(dtype)
            for scale in (None, torch.ones(shape[0], 1)):
                assert self.load(x, scale).dequantize().shape == shape

    @pytest.mark.parametrize(
        ("scale", "block", "error", "text"),
        [
            ((2, 1), None, ValueError, "2 blocks along an axis of 192, which may be of 96 to 191"),
            (
                (2, 2),
                (128, 128),
                ValueError,
                r"blocks of \(128, 128\) of a tensor .* have \(2, 1\)",
            ),
            ((192,), None, ValueError, "one entry per dimension"),
            ((192,), (1, -1), ValueError, r"have \(192, 1\)"),
            ((2, 1), (128,), ValueError, "give one entry per dimension"),
            ((2, 1), (128, 0), ValueError, "1 or more or -1"),
            ((2, 1), 128, TypeError, "block_size is a int"),
            ((2, 1), (128, 1.5), TypeError, "an entry of block_size is a float"),
            ((2, 1), (128, True), TypeError, "an entry of block_size is a bool"),
            ((0, 1), None, ValueError, "0 blocks along an axis of 192"),
        ],
    )
    def test_what_does_not_fit(self, dtype, scale, block, error, text):
        with pytest.raises(error, match=text):
            self.load(torch.zeros(192, 128).to(dtype), torch.ones(scale), block_size=block)

    def test_other_types(self, dtype):
        x = torch.zeros(4).to(dtype)
        with pytest.raises(TypeError, match=r"tensor is torch.float32; torch.float8_e4m3fn"):
            self.load(x.float())
        with pytest.raises(TypeError, match="tensor is torch.float8_e4m3fnuz"):
            self.load(x.to(torch.float8_e4m3fnuz))
        with pytest.raises(TypeError, match="scale is a float"):
            self.load(x, 0.5)
        with pytest.raises(TypeError, match=r"scale has dtype torch.int64"):
            self.load(x, torch.tensor(2))


def test_others_are_refused():
    with pytest.raises(TypeError, match="tensor is a Tensor; torchao's MXTensor"):
        strop.QuantizedTensor.from_torchao(torch.randn(3))
