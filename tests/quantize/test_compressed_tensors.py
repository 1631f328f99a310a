"""Weights of compressed-tensors checkpoints, against its layout bit by bit and against the library."""

import itertools

import numpy as np
import pytest
import torch

import strop
from core.devices import assert_same_bits

load = strop.QuantizedTensor.from_compressed_tensors
BITS = range(2, 9)


def library():
    """compressed-tensors' packing, scheme and compressor of each format."""
    reason = "the peer compressed-tensors is not installed"
    pytest.importorskip("compressed_tensors", reason=reason)
    packing = pytest.importorskip(
        "compressed_tensors.compressors.pack_quantized.base", reason=reason
    )
    from compressed_tensors import quantization
    from compressed_tensors.compressors.naive_quantized.base import NaiveQuantizationCompressor

    def scheme(**weights):
        args = quantization.QuantizationArgs(**weights)
        return quantization.QuantizationScheme(targets=["Linear"], weights=args)

    return packing, scheme, NaiveQuantizationCompressor


def words(codes, bits):
    """A row's codes, from the smallest as 0 on, as one long number cut into int32."""
    rows = []
    for row in codes.tolist():
        number = sum((code + (1 << (bits - 1))) << (bits * i) for i, code in enumerate(row))
        count = -(-len(row) * bits // 32)
        rows.append([number >> (32 * i) & 0xFFFFFFFF for i in range(count)])
    return torch.from_numpy(np.array(rows, np.uint32).view(np.int32))


def problem(rows, groups, bits, asymmetric, group=5, dtype=torch.bfloat16):
    """(a state, the weight that it means) of groups of columns."""
    g = torch.Generator().manual_seed(rows * 1000 + groups * 100 + bits * 10 + asymmetric)
    half, columns = 1 << (bits - 1), groups * group
    codes = torch.randint(-half, half, (rows, columns), generator=g)
    scale = (torch.rand(rows, groups, generator=g) + 0.1).to(dtype)
    state = {
        "weight_packed": words(codes, bits),
        "weight_scale": scale,
        "weight_shape": torch.tensor([rows, columns]),
    }
    zero = torch.zeros(rows, groups, dtype=torch.int64)
    if asymmetric:
        zero = torch.randint(-half, half, (rows, groups), generator=g)
        state["weight_zero_point"] = words(zero.T, bits).T.contiguous()
    spread = lambda t: t.repeat_interleave(group, 1)  # noqa: E731
    return state, ((codes - spread(zero)).float() * spread(scale.float())).to(dtype)


SIZES = list(itertools.product(range(1, 10), range(1, 5)))


@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize("bits", BITS)
class TestPacked:
    def test_groups(self, bits, asymmetric):
        for rows, groups in SIZES:
            for dtype in (torch.bfloat16, torch.float32):
                state, wanted = problem(rows, groups, bits, asymmetric, dtype=dtype)
                q = load(state, bits=bits)
                assert (q.format, q.dtype, q.shape) == (f"int{bits}", dtype, wanted.shape)
                assert_same_bits(q.dequantize(), wanted, (rows, groups))

    def test_as_the_library_decompresses(self, bits, asymmetric):
        packing, scheme, _ = library()
        compressor = packing.PackedQuantizationCompressor
        for rows, groups in SIZES:
            strategy = {"strategy": "group", "group_size": 5}
            if groups == 1:
                strategy = {"strategy": "channel"}
            how = scheme(num_bits=bits, symmetric=not asymmetric, **strategy)
            state, wanted = problem(rows, groups, bits, asymmetric)
            theirs = compressor.decompress(state, how)["weight"]
            assert_same_bits(theirs, wanted, (rows, groups))
            state, wanted = problem(rows, groups, bits, asymmetric, dtype=torch.float32)
            zero = torch.zeros(rows, groups, dtype=torch.int8)
            if asymmetric:
                zero = packing.unpack_from_int32(
                    state["weight_zero_point"], bits, torch.Size((rows, groups)), packed_dim=0
                )
            dense = {"weight": wanted, "weight_scale": state["weight_scale"]}
            again = compressor.compress({**dense, "weight_zero_point": zero}, how)
            assert sorted(again) == sorted(state)
            for key, tensor in state.items():
                assert torch.equal(again[key], tensor), (key, rows, groups)
            assert_same_bits(load(again, bits=bits).dequantize(), wanted)

    def test_a_scale_for_the_tensor(self, bits, asymmetric):
        # Its zero point is not packed, whatever number of rows the weight has.
        for rows in range(1, 10):
            state, _ = problem(rows, 2, bits, False)
            scale, zero = torch.tensor([0.25]), torch.tensor([1], dtype=torch.int8)
            codes = load({**state, "weight_scale": torch.ones(1)}, bits=bits).dequantize()
            state["weight_scale"] = scale
            if asymmetric:
                state["weight_zero_point"] = zero
            wanted = (codes - int(asymmetric)) * 0.25
            assert_same_bits(load(state, bits=bits).dequantize(), wanted, rows)
            if asymmetric:
                state["weight_zero_point"] = zero.int()
                assert_same_bits(load(state, bits=bits).dequantize(), wanted, rows)


@pytest.mark.parametrize("bits", BITS)
def test_zero_points_of_int8_are_not_packed(bits):
    for rows, groups in SIZES:
        state, wanted = problem(rows, groups, bits, True)
        packed = state["weight_zero_point"]
        state["weight_zero_point"] = load(state, bits=bits).zero_point
        assert state["weight_zero_point"].dtype == torch.int8
        assert_same_bits(load(state, bits=bits).dequantize(), wanted)
        state["weight_zero_point"] = torch.cat([packed, packed[:1]])
        with pytest.raises(ValueError, match=rf"weight_zero_point has shape \({len(packed) + 1}, "):
            load(state, bits=bits)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_int8_as_it_is(asymmetric):
    for bits, (rows, groups) in itertools.product((4, 8), SIZES):
        state, wanted = problem(rows, groups, bits, asymmetric, dtype=torch.float32)
        q = load(state, bits=bits)
        ones = {**state, "weight_scale": torch.ones(rows, groups)}
        ones.pop("weight_zero_point", None)
        plain = {"weight": load(ones, bits=bits).dequantize().to(torch.int8)}
        plain["weight_scale"] = state["weight_scale"]
        if asymmetric:
            plain["weight_zero_point"] = q.zero_point
        assert_same_bits(load(plain, bits=bits).dequantize(), wanted)
        assert_same_bits(load(plain, bits=8).dequantize(), wanted)


def test_float8_in_blocks():
    g = torch.manual_seed(0)
    weight = torch.randn(6, 12, generator=g).to(torch.float8_e4m3fn)
    for block, grid in (((4, 8), (2, 2)), ((4, 5), (2, 3)), ((6, 4), (1, 3))):
        state = {"x.weight": weight, "x.weight_scale": torch.rand(grid, generator=g) + 0.1}
        spread = state["x.weight_scale"].repeat_interleave(block[0], 0)[:6]
        spread = spread.repeat_interleave(block[1], 1)[:, :12]
        q = load(state, "x", block_size=block)
        assert_same_bits(q.dequantize(), weight.float() * spread)
    with pytest.raises(ValueError, match=r"2 blocks along an axis of 6, .* 3 to 5 .* block_size"):
        load({**state, "x.weight_scale": torch.ones(2, 2)}, "x")
    for scale in (torch.rand(1), torch.rand(6, 1), torch.rand(6, 3)):
        q = load({"weight": weight, "weight_scale": scale})
        spread = scale.repeat_interleave(12 // scale.shape[-1], -1)
        assert_same_bits(q.dequantize(), weight.float() * spread)


@pytest.mark.parametrize("kind", ["int", "float"])
def test_plain_weights_as_the_library_decompresses(kind):
    _, scheme, compressor = library()
    g = torch.manual_seed(0)
    weight = torch.randn(6, 12, generator=g)
    strategies = {
        "tensor": ((1,), {}),
        "channel": ((6, 1), {}),
        "group": ((6, 3), {"group_size": 4}),
        "block": ((2, 2), {"block_structure": [4, 8]}),
    }
    for strategy, (grid, options) in strategies.items():
        how = scheme(num_bits=8, type=kind, symmetric=True, strategy=strategy, **options)
        scale = torch.rand(grid, generator=g) / 10 + 0.02
        state = compressor.compress({"weight": weight, "weight_scale": scale}, how)
        theirs = compressor.decompress(state, how)["weight"]
        block = (4, 8) if strategy == "block" else None
        assert_same_bits(load(state, bits=8, block_size=block).dequantize(), theirs, strategy)


class TestRefused:
    STATE = {
        "weight_packed": torch.zeros(4, 4, dtype=torch.int32),
        "weight_scale": torch.ones(4, 2),
        "weight_shape": torch.tensor([4, 32]),
    }

    @pytest.mark.parametrize(
        ("change", "options", "error", "text"),
        [
            ({}, {"bits": 9}, ValueError, "bits is 9; 2 to 8"),
            (
                {"weight_shape": torch.tensor([4, 64])},
                {},
                ValueError,
                "rows of 4 words do not hold 64",
            ),
            ({"weight_shape": torch.tensor([5, 32])}, {}, ValueError, "5 rows are needed"),
            ({"weight_shape": torch.tensor([2, 4, 32])}, {}, ValueError, "has 3 entries; a matrix"),
            (
                {"weight_packed": torch.zeros(4, 16, dtype=torch.uint8)},
                {},
                TypeError,
                "nvfp4-pack-quantized",
            ),
            (
                {
                    "weight_packed": torch.zeros(4, 10, dtype=torch.int32),
                    "weight_shape": torch.tensor([4, 96]),
                },
                {"bits": 3},
                ValueError,
                "as older versions",
            ),
            ({"weight_scale": torch.ones(4, 3)}, {}, ValueError, "3 blocks along an axis of 32"),
            ({"weight_scale": torch.ones(4, 20)}, {}, ValueError, "no block size does"),
            ({"weight_scale": torch.ones(3, 2)}, {}, ValueError, "3 blocks along an axis of 4"),
            ({"weight_scale": torch.ones(4)}, {}, ValueError, "one entry per dimension"),
            ({}, {"block_size": (1, 8)}, ValueError, r"blocks of \(1, 8\) .* have \(4, 4\)"),
            ({}, {"block_size": (1,)}, ValueError, r"block_size is \(1,\) for a 2-D"),
            ({}, {"block_size": 16}, TypeError, "block_size is a int"),
            (
                {"weight_scale": torch.ones(4, 2).int()},
                {},
                TypeError,
                "scale has dtype torch.int32",
            ),
            (
                {"weight_zero_point": torch.zeros(4, 3, dtype=torch.int8)},
                {},
                ValueError,
                "weight_zero_point has shape",
            ),
            ({"weight_g_idx": torch.tensor([1, 0] * 16)}, {}, ValueError, "g_idx reorders columns"),
            (
                {"weight_g_idx": torch.arange(32) // 8},
                {},
                ValueError,
                "g_idx reorders columns",
            ),
        ],
    )
    def test_what_does_not_fit(self, change, options, error, text):
        with pytest.raises(error, match=text):
            load({**self.STATE, **change}, **options)

    def test_missing_keys(self):
        with pytest.raises(ValueError, match=r"state lacks layer.weight_packed"):
            load({}, "layer")
        with pytest.raises(ValueError, match="state lacks weight_packed"):
            load({"weight": torch.zeros(4, 4, dtype=torch.int8)})

    def test_plain_weights(self):
        wide = {"weight": torch.full((4, 4), 8, dtype=torch.int8), "weight_scale": torch.ones(1)}
        with pytest.raises(ValueError, match="codes of more than 4 bits; give bits"):
            load(wide)
        assert load(wide, bits=8).dequantize().unique().tolist() == [8]
        with pytest.raises(TypeError, match=r"tensor is torch.float32; torch.float8_e4m3fn"):
            load({**wide, "weight": torch.ones(4, 4)})

    def test_columns_in_order(self):
        for order in (torch.arange(32) // 16, torch.full((32,), -1)):
            q = load({**self.STATE, "weight_g_idx": order.int()})
            assert q.block_size == (1, 16)
