"""Weights with a mask and a format by the CUDA kernels: executed on the CPU here, and on a GPU where there is one."""

import copy
import io

import pytest
import torch

import strop
from core.devices import _cuda_host, assert_same_bits, to_array, to_tensor
from linear.codes import FLOATS, INTEGERS, RECIPES, UNSIGNED, random_input
from linear.gpu.problems import replayed
from linear.problems import ACTIVATIONS, assert_close, generator, kept
from strop._linear.code_tensors import kept_codes
from strop._prune import ops as prune_ops

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BLOCKS = [(1, -1), (1, 32), (1, 24), (1, 5), (3, 40), (-1, 16), (-1, -1)]
on_host = [
    pytest.mark.cuda_host,
    pytest.mark.skipif(_cuda_host is None, reason="strop._cuda_host is not built here"),
]


class Weight:
    """Codes, a mask, and what kernels read of both."""

    def __init__(
        self, shape, format, block_size=(1, 32), sparsity=0.5, *, symmetric=True, mask=None
    ):
        options = {} if format in RECIPES else {"block_size": block_size, "symmetric": symmetric}
        weight = torch.randn(shape, generator=generator())
        self.of(
            strop.quantize(weight, format=format, **options),
            kept(shape, sparsity) if mask is None else mask,
        )

    def of(self, q, mask):
        self.q, self.mask = q, mask
        self.bits = prune_ops.pack_mask(mask)
        self.codes = kept_codes(q, self.bits)
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), mask.sum(1).cumsum(0)])
        self.dense = torch.where(mask, q.dequantize(), 0)
        return self

    def arguments(self, **changed):
        q = self.q
        tensors = {
            "codes": self.codes, "scale": q.scale, "zero_point": q.zero_point,
            "tensor_scale": q.tensor_scale, "bits": self.bits, "starts": self.starts,
        }  # fmt: skip
        given = {name: to_array(tensor) for name, tensor in tensors.items()}
        return given | {"format": q.format, "block_size": q.block_size, "shape": q.shape} | changed

    def times(self, x, bias=None, activation="", **changed):
        given = self.arguments(bias=to_array(bias), activation=activation, **changed)
        return to_tensor(_cuda_host.packed_linear_codes(to_array(x), **given))

    def unpacked(self, dtype=torch.float32):
        x = torch.empty(0, self.q.shape[1], dtype=dtype)
        return to_tensor(_cuda_host.unpack_codes(to_array(x), **self.arguments()))


class TestOnHost:
    pytestmark = on_host

    @pytest.fixture(autouse=True)
    def any_launch(self):
        yield
        _cuda_host.set_launch(0)

    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_every_format(self, format):
        for number, block_size in enumerate(BLOCKS[: 1 if format in RECIPES else None]):
            symmetric = format in FLOATS or number % 2 == 0
            shape = (9, 96) if format in RECIPES else (9, 83)
            w = Weight(shape, format, block_size, (0.3, 0.6, 0.9)[number % 3], symmetric=symmetric)
            x = random_input(1 + number, shape[1])
            assert_close(w.times(x), x, w.dense, note=block_size)
            assert_same_bits(w.unpacked() + 0.0, w.dense + 0.0, block_size)

    @pytest.mark.parametrize("format", ["int8", "uint4", "int3", "nf4", "float8_e4m3fn", "nvfp4"])
    def test_odd_shapes_and_masks(self, format):
        for shape in ((1, 1), (5, 7), (3, 33), (8, 255), (13, 1027), (2, 4099)):
            if format == "nvfp4":
                shape = (shape[0], -(-shape[1] // 16) * 16)
            for sparsity in (0.0, 0.5, 0.95, 1.0) if shape[1] < 1000 else (0.0, 0.5):
                w = Weight(shape, format, (1, -1), sparsity)
                rows = 3 if sparsity else 1
                x = random_input(rows, shape[1])
                assert_close(w.times(x), x, w.dense, note=(shape, sparsity))

    def test_patterns(self):
        columns = torch.arange(96)
        two_of_four = ((columns % 4) // 2 == 0).expand(9, 96)
        empty_rows = kept((9, 96), 0.4) & (torch.arange(9) % 3 > 0)[:, None]
        for mask in (two_of_four, empty_rows, two_of_four & False, two_of_four | True):
            w = Weight((9, 96), "int5", (1, 32), mask=mask.contiguous(), symmetric=False)
            x = random_input(4, 96)
            assert_close(w.times(x), x, w.dense)
            assert_same_bits(w.unpacked(), w.dense)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_every_dtype_and_number_of_rows(self, dtype):
        w = Weight((10, 264), "int4")
        bias = torch.randn(10, generator=generator(1)).to(dtype)
        for rows in range(1, 17):
            x = random_input(rows, 264, dtype)
            y = w.times(x, bias)
            assert y.dtype == dtype
            assert_close(y, x, w.dense, bias, note=rows)
        assert_same_bits(w.unpacked(dtype) + 0.0, w.dense.to(dtype) + 0.0)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations(self, activation):
        w = Weight((13, 40), "nf4", (1, 20))
        bias = torch.randn(13, generator=generator(2)) * 10
        for dtype in DTYPES:
            x = random_input(3, 40, dtype)
            assert_close(w.times(x, bias, activation), x, w.dense, bias, activation)

    def test_floating_zero_points(self):
        codes = strop.pack_bits(torch.arange(64, dtype=torch.uint8).view(2, 32) % 16, 4)
        zero = torch.tensor([[0.5], [7.25]])
        q = strop.QuantizedTensor(
            codes, torch.ones(2, 1), zero, None, "uint4", (1, 32), (2, 32), torch.float32
        )
        w = Weight((2, 32), "uint4").of(q, kept((2, 32), 0.5))
        x = random_input(2, 32)
        assert_close(w.times(x), x, w.dense)

    @pytest.mark.parametrize("format", ["int4", "uint8", "float8_e5m2", "mxfp4"])
    def test_what_was_pruned_contributes_nothing(self, format):
        mask = kept((5, 288), 0.6)
        mask[:, ::3] = False
        w = Weight((5, 288), format, (1, 32), mask=mask, symmetric="u" not in format)
        for rows in (1, 5):
            x = random_input(rows, 288)
            expected = w.times(x)
            x[:, ::3] = torch.tensor([torch.nan, torch.inf, -torch.inf]).repeat(32)
            assert_same_bits(w.times(x), expected)

    @pytest.mark.parametrize("block_size", [(1, 32), (1, 12), (1, -1)])
    def test_nor_does_its_scale(self, block_size):
        """A group that is not finite, and of which nothing is kept."""
        weight = torch.randn(4, 96, generator=generator())
        q = strop.quantize(weight, format="int8", block_size=block_size)
        mask = kept((4, 96), 0.5)
        group = block_size[1] if block_size[1] > 0 else 96
        mask[1, :group] = False
        q.scale[1, 0] = torch.nan
        w = Weight((4, 96), "int8").of(q, mask)
        assert not w.times(random_input(2, 96)).isnan().any()
        assert not w.unpacked().isnan().any()

    def test_rows_do_not_depend_on_each_other(self):
        w, x = Weight((7, 520), "float8_e5m2"), random_input(8, 520)
        whole = w.times(x)
        x[5, 100], mask = torch.nan, w.mask[:, 100]
        for rows in (1, 2, 3, 5):
            assert_same_bits(w.times(x[:rows]), whole[:rows])
        assert torch.equal(w.times(x)[5].isnan(), mask)

    def test_strides_and_alignment(self):
        w = Weight((6, 264), "int8", (1, 88))
        full = torch.randn(9, 700, generator=generator())
        for x in (full[:4, :264], full[::2, 3:267], full[:3, 8:272], full[2, 1:265], full[0, :264]):
            assert_close(w.times(x), x, w.dense)

    def test_any_number_of_threads_and_order(self):
        w, x = Weight((21, 1300), "uint4"), random_input(6, 1300)
        expected, dense = w.times(x, activation="gelu"), w.unpacked()
        for seed in range(4):
            _cuda_host.set_launch(seed, multiprocessors=1, blocks_each=1 + seed)
            assert_same_bits(w.times(x, activation="gelu"), expected)
            assert_same_bits(w.unpacked(), dense)

    @pytest.mark.parametrize("shape", [(0, 8), (5, 0), (0, 0)])
    def test_nothing(self, shape):
        w = Weight(shape, "int8", (1, 8))
        bias = torch.arange(float(shape[0]))
        for rows in (0, 2):
            assert_same_bits(w.times(torch.ones(rows, shape[1]), bias), bias.expand(rows, shape[0]))
        assert w.unpacked().shape == shape

    def test_errors(self):
        w, x = Weight((4, 64), "int8"), torch.ones(2, 64)
        bits, starts, codes = (to_array(t) for t in (w.bits, w.starts, w.codes))
        cases = [
            (ValueError, r"bits has shape \[4, 7\]; \[4, 8\]", {"bits": bits[:, :7].copy()}),
            (TypeError, "starts has dtype int32", {"starts": starts.astype("i4")}),
            (ValueError, r"starts has shape \[4\]; \[5\]", {"starts": starts[1:]}),
            (ValueError, "beside a mask one dimension", {"codes": codes[:64].reshape(4, 16)}),
            (ValueError, "not the whole weight's", {"starts": None}),
            (ValueError, "multiplied with floats alone", {"activations": "int8"}),
            (ValueError, "scale has shape", {"block_size": (1, 16)}),
        ]  # fmt: skip
        for kind, text, changed in cases:
            with pytest.raises(kind, match=text):
                w.times(x, **changed)


class TestOnAGpu:
    pytestmark = [
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    ]

    @staticmethod
    def packed(shape, format, **options):
        weight, mask = torch.randn(shape, generator=generator()), kept(shape, 0.5)
        symmetric = format not in UNSIGNED
        return strop.pack_weight(weight, mask, format=format, symmetric=symmetric, **options)

    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_exact(self, format):
        for shape in ((9, 96), (70, 1056)):
            here = self.packed(shape, format)
            w, dense = here.to("cuda"), here.to_dense()
            assert w.by_codes
            assert_same_bits(w.to_dense().cpu() + 0.0, dense + 0.0)
            bias = torch.randn(shape[0], generator=generator(1))
            for dtype in DTYPES:
                for rows in (1, 3, 8, 16, 17):
                    x = random_input(rows, shape[1], dtype)
                    y = strop.packed_linear(x.cuda(), w, bias.cuda(), activation="gelu")
                    if rows <= 16 or dtype == torch.float32:
                        assert_close(y.cpu(), x, dense, bias, "gelu", note=(shape, dtype, rows))
                    out = torch.empty_like(y)
                    strop.packed_linear(x.cuda(), w, bias.cuda(), activation="gelu", out=out)
                    assert_same_bits(out.cpu(), y.cpu())

    def test_there_and_back(self):
        here = self.packed((40, 64), "int4", plan="packed")
        there = here.to("cuda")
        assert there.by_codes
        back = there.to("cpu")
        assert back.methods == here.methods
        assert torch.equal(back.codes, here.codes)
        stream = io.BytesIO()
        torch.save(there.state_dict(), stream)
        stream.seek(0)
        loaded = strop.PackedWeight.from_state_dict(torch.load(stream, map_location="cuda"))
        layer = strop.nn.PackedLinear(here).cuda()
        x = torch.randn(3, 64, device="cuda")
        expected = strop.packed_linear(x, there)
        for other in (copy.deepcopy(there), loaded, strop.pack_weight(
            here.quantized().to("cuda"), kept((40, 64), 0.5).cuda(), plan="packed"
        )):  # fmt: skip
            assert_same_bits(strop.packed_linear(x, other).cpu(), expected.cpu())
        assert_same_bits(layer(x).cpu(), expected.cpu())
        layer.scale.mul_(2)
        assert_same_bits(layer(x).cpu(), 2 * expected.cpu())
        exported = torch.export.export(layer, (x,)).module()
        assert_same_bits(exported(x).cpu(), layer(x).cpu())

    def test_gradients_and_transforms(self):
        w = self.packed((24, 64), "int8").to("cuda")
        for rows in (2, 20):
            x = torch.randn(rows, 64, device="cuda", requires_grad=True)
            y = strop.packed_linear(x, w, activation="relu")
            (found,) = torch.autograd.grad(y.square().sum(), x)
            assert torch.allclose(found, (2 * y) @ w.to_dense(), rtol=1e-4, atol=1e-4)
            compiled = torch.compile(strop.packed_linear, fullgraph=True, backend="aot_eager")
            assert_same_bits(compiled(x.detach(), w).cpu(), strop.packed_linear(x, w).cpu())

    def test_graphs_and_waits(self):
        w = self.packed((64, 256), "int4").to("cuda")
        for rows in (3, 33):
            x = torch.randn(rows, 256, device="cuda")
            y = replayed(lambda x: strop.packed_linear(x, w), x)
            assert_same_bits(y.cpu(), strop.packed_linear(x, w).cpu())
