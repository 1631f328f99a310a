"""Weights in codes by the CUDA kernels: executed on the CPU here, and on a GPU where there is one."""

import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode

import strop
from core.devices import _cuda_host, assert_same_bits, oracle, to_array, to_tensor
from linear.codes import FLOATS, INTEGERS, RECIPES, UNSIGNED, random_input
from linear.gpu.problems import replayed
from linear.problems import ACTIVATIONS, assert_close, generator

QUANTIZED = ["int8", "uint8"]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BLOCKS = [(1, -1), (1, 32), (1, 24), (1, 5), (3, 40), (-1, 16), (-1, -1)]


def quantized(shape, format, block_size=(1, 32), *, symmetric=True, seed=0):
    weight = torch.randn(shape, generator=generator(seed))
    options = {} if format in RECIPES else {"block_size": block_size, "symmetric": symmetric}
    return strop.quantize(weight, format=format, **options)


def on_cpu(x, q, activations, bias=None, activation=""):
    """By the kernels of this machine's instruction set, which have the oracle's bits."""
    w = strop.pack_weight(q, activations=activations)
    return strop.packed_linear(x, w, bias, activation=activation or None)


def by_oracle(x, q, activations, bias=None):
    layout = strop.pack_weight(q, activations=activations).layout
    return oracle("packed_linear")(x, layout, bias, activation="")


def on_host(x, q, activations="", bias=None, activation="", codes=None):
    """By the CUDA kernels, executed on the CPU."""
    tensors = (x, q.codes if codes is None else codes, q.scale, q.zero_point, q.tensor_scale)
    made = _cuda_host.packed_linear_codes(
        *map(to_array, tensors),
        format=q.format,
        block_size=q.block_size,
        shape=q.shape,
        activations=activations,
        bias=to_array(bias),
        activation=activation,
    )
    return to_tensor(made)


class OnHost:
    pytestmark = [
        pytest.mark.cuda_host,
        pytest.mark.skipif(_cuda_host is None, reason="strop._cuda_host is not built here"),
    ]

    @pytest.fixture(autouse=True)
    def any_launch(self):
        yield
        _cuda_host.set_launch(0)


class TestIntegers(OnHost):
    @pytest.mark.parametrize("activations", QUANTIZED)
    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED)
    def test_every_format(self, format, activations):
        for number, block_size in enumerate(BLOCKS):
            q = quantized((9, 83), format, block_size, symmetric=number % 2 == 0, seed=number)
            x = random_input(1 + number, 83)
            y = on_host(x, q, activations)
            assert_same_bits(y, by_oracle(x, q, activations), block_size)
            assert_same_bits(y, on_cpu(x, q, activations), block_size)

    @pytest.mark.parametrize("activations", QUANTIZED)
    @pytest.mark.parametrize("block_size", [(1, -1), (1, 32)])
    def test_every_number_of_rows(self, activations, block_size):
        q = quantized((6, 70), "uint4", block_size, symmetric=False)
        bias = torch.randn(6, generator=generator(1))
        for rows in (*range(1, 10), 16, 17, 25):
            x = random_input(rows, 70)
            y = on_host(x, q, activations, bias)
            assert_same_bits(y, by_oracle(x, q, activations, bias), rows)

    @pytest.mark.parametrize("activations", QUANTIZED)
    @pytest.mark.parametrize("format", ["int8", "uint8", "int4", "uint6"])
    def test_as_a_product_of_byte_matrices(self, format, activations):
        for block_size in ((1, -1), (-1, -1), (3, -1)):
            q = quantized((16, 96), format, block_size, symmetric=False)
            bias = torch.randn(16, generator=generator(1))
            for rows in (17, 20):
                x = random_input(rows, 96)
                x[3, 5] = torch.nan
                y = on_host(x, q, activations, bias, "silu")
                assert_same_bits(y, on_cpu(x, q, activations, bias, "silu"), block_size)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_every_dtype(self, dtype):
        for format, activations in (("int8", "int8"), ("uint5", "uint8")):
            q = quantized((7, 64), format, (1, 32))
            x = random_input(5, 64, dtype)
            for bias_dtype in DTYPES:
                bias = torch.randn(7, generator=generator(2)).to(bias_dtype)
                y = on_host(x, q, activations, bias)
                assert_same_bits(y, on_cpu(x, q, activations, bias), format)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations(self, activation):
        q = quantized((40, 64), "int8", (1, -1))
        x = random_input(8, 64) * 3
        x[2, 3] = torch.inf
        bias = torch.randn(40, generator=generator(2))
        y = on_host(x, q, "int8", bias, activation)
        assert_same_bits(y, on_cpu(x, q, "int8", bias, activation))

    @pytest.mark.parametrize("activations", QUANTIZED)
    def test_rows_that_are_not_finite(self, activations):
        for block_size in ((1, -1), (1, 32)):
            q = quantized((5, 64), "int8", block_size)
            x = random_input(4, 64)
            clean = on_host(x, q, activations)
            x[0, 5], x[2, 63], x[3, 9] = torch.inf, torch.nan, -torch.inf
            y = on_host(x, q, activations)
            assert_same_bits(y, by_oracle(x, q, activations))
            assert y[[0, 2, 3]].isnan().all()
            assert_same_bits(y[1], clean[1])

    @pytest.mark.parametrize("activations", QUANTIZED)
    def test_extremes_of_float32(self, activations):
        q = quantized((5, 40), "int8", (1, -1))
        x = torch.zeros(5, 40)
        x[0, 0], x[0, 1] = 3e38, -3e38
        x[1, 0] = 1e-45
        x[2] = -1e-38
        x[3] = 7.0
        assert_same_bits(on_host(x, q, activations), by_oracle(x, q, activations))

    def test_long_groups(self):
        for columns, group in ((8300, 4200), (9000, -1), (40000, -1)):
            q = quantized((2, columns), "uint8", (1, group), symmetric=False)
            q.codes.fill_(255)  # sums of one sign
            q.zero_point.fill_(0)
            x = torch.ones(1, columns)
            assert_same_bits(on_host(x, q, "uint8"), on_cpu(x, q, "uint8"), columns)

    def test_any_number_of_threads_and_order(self):
        x = random_input(6, 333)
        for block_size in ((1, -1), (1, 32)):
            q = quantized((19, 333), "int4", block_size)
            expected = on_host(x, q, "uint8")
            for seed in range(4):
                _cuda_host.set_launch(seed, multiprocessors=1, blocks_each=1 + seed)
                assert_same_bits(on_host(x, q, "uint8"), expected)


class TestExact(OnHost):
    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_every_format(self, format):
        for number, block_size in enumerate(BLOCKS[: 1 if format in RECIPES else None]):
            symmetric = format in FLOATS or number % 2 == 0
            q = quantized((9, 96), format, block_size, symmetric=symmetric, seed=number)
            x = random_input(1 + number, 96)
            assert_close(on_host(x, q), x, q.dequantize(), note=block_size)

    @pytest.mark.parametrize(
        "format", FLOATS + ("int5", "int8", "uint7", "mxfp8_e5m2", "mxfp6_e2m3")
    )
    def test_every_code(self, format):
        """Each row of the weight has one code."""
        form = strop.NumberFormat.get(format)
        count, block = 1 << form.bits, form.block or 1
        codes = torch.arange(count, dtype=torch.uint8).view(count, 1).expand(count, block)
        q = strop.QuantizedTensor(
            strop.pack_bits(codes.contiguous(), form.bits),
            torch.full((count, 1), 127, dtype=torch.uint8) if form.block else torch.ones(1, 1),
            None,
            None,
            format,
            None if form.block else (-1, -1),
            (count, block),
            torch.float32,
        )
        y = on_host(torch.full((1, block), 1 / block), q)
        assert_same_bits(y[0] + 0.0, q.dequantize()[:, 0] + 0.0)

    @pytest.mark.parametrize("format", ["int8", "uint4", "int3", "nf4", "float8_e4m3fn", "nvfp4"])
    def test_odd_shapes(self, format):
        for shape in ((1, 1), (5, 7), (3, 33), (8, 255), (13, 1027), (2, 9001)):
            if format == "nvfp4":
                shape = (shape[0], -(-shape[1] // 16) * 16)
            q = quantized(shape, format, (1, -1))
            for rows in (1, 3):
                x = random_input(rows, shape[1])
                assert_close(on_host(x, q), x, q.dequantize(), note=shape)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_every_dtype_and_number_of_rows(self, dtype):
        q = quantized((10, 264), "int4")
        bias = torch.randn(10, generator=generator(1)).to(dtype)
        for rows in range(1, 9):
            x = random_input(rows, 264, dtype)
            y = on_host(x, q, bias=bias)
            assert y.dtype == dtype
            assert_close(y, x, q.dequantize(), bias, note=rows)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations(self, activation):
        q = quantized((13, 40), "nf4", (1, 20))
        bias = torch.randn(13, generator=generator(2)) * 10
        for dtype in DTYPES:
            x = random_input(3, 40, dtype)
            y = on_host(x, q, bias=bias, activation=activation)
            assert_close(y, x, q.dequantize(), bias, activation)

    def test_floating_zero_points(self):
        codes = strop.pack_bits(torch.arange(64, dtype=torch.uint8).view(2, 32) % 16, 4)
        zero = torch.tensor([[0.5], [7.25]])
        q = strop.QuantizedTensor(
            codes, torch.ones(2, 1), zero, None, "uint4", (1, 32), (2, 32), torch.float32
        )
        x = random_input(2, 32)
        assert_close(on_host(x, q), x, q.dequantize())

    def test_strides_and_alignment(self):
        q = quantized((6, 264), "int8", (1, 88))
        full = torch.randn(9, 700, generator=generator())
        for x in (full[:4, :264], full[::2, 3:267], full[:3, 8:272], full[2, 1:265], full[0, :264]):
            assert_close(on_host(x, q), x, q.dequantize())
            assert_same_bits(on_host(x, q, "int8"), on_cpu(x, q, "int8"))
        moved = torch.zeros(q.codes.numel() + 3, dtype=torch.uint8)[3:].view(q.codes.shape)
        moved.copy_(q.codes)
        x = random_input(2, 264)
        assert_same_bits(on_host(x, q, codes=moved), on_host(x, q))

    def test_any_number_of_threads_and_order(self):
        q, x = quantized((21, 1300), "uint4"), random_input(6, 1300)
        expected = on_host(x, q, activation="gelu")
        for seed in range(4):
            _cuda_host.set_launch(seed, multiprocessors=1, blocks_each=1 + seed)
            assert_same_bits(on_host(x, q, activation="gelu"), expected)

    def test_rows_do_not_depend_on_each_other(self):
        q, x = quantized((7, 520), "float8_e5m2"), random_input(8, 520)
        whole = on_host(x, q)
        x[5, 100] = torch.nan
        for rows in (1, 2, 3, 5):
            assert_same_bits(on_host(x[:rows], q), whole[:rows])
        assert on_host(x, q)[5].isnan().all()

    @pytest.mark.parametrize("activations", ["", "int8"])
    @pytest.mark.parametrize("shape", [(0, 8), (5, 0), (0, 0)])
    def test_nothing(self, shape, activations):
        q = quantized(shape, "int8", (1, 8))
        bias = torch.arange(float(shape[0]))
        for rows in (0, 2):
            y = on_host(torch.ones(rows, shape[1]), q, activations, bias)
            assert_same_bits(y, bias.expand(rows, shape[0]))


class TestErrors(OnHost):
    def test_name_what_is_wrong(self):
        q, x = quantized((4, 64), "int8"), torch.ones(2, 64)
        arrays = [to_array(t) for t in (x, q.codes, q.scale)]
        good = {"format": "int8", "block_size": (1, 32), "shape": (4, 64)}

        def call(position=None, array=None, **options):
            given = list(arrays)
            if position is not None:
                given[position] = array
            _cuda_host.packed_linear_codes(*given, **(good | options))

        cases = [
            (TypeError, "input has dtype float64", lambda: call(0, np.ones((2, 64)))),
            (ValueError, r"input has shape \[2, 9\]; the weight takes 64", lambda: call(0, arrays[0][:, :9])),
            (ValueError, r"bias has shape \[3\]", lambda: call(bias=np.ones(3, np.float32))),
            (TypeError, "float64; float32 is needed", lambda: call(2, arrays[2].astype(float))),
            (ValueError, "scale has shape", lambda: call(2, arrays[2][:, :1].repeat(3, 1))),
            (ValueError, "codes has shape", lambda: call(shape=(5, 64))),
            (ValueError, "not that of a matrix", lambda: call(shape=(256,))),
            (ValueError, "at most 8 bits", lambda: call(format="int16")),
            (ValueError, "is no integer", lambda: call(format="float8_e5m2", activations="int8")),
            (ValueError, "activations is 'int4'", lambda: call(activations="int4")),
        ]  # fmt: skip
        for kind, text, wrong in cases:
            with pytest.raises(kind, match=text):
                wrong()


class TestWithoutAGpu:
    """Shapes and devices alone, by tensors without numbers."""

    @pytest.mark.parametrize("activations", [None, "int8"])
    def test_calls(self, activations):
        with FakeTensorMode():
            codes = torch.empty(32, 64, dtype=torch.uint8, device="cuda")
            scale = torch.empty(32, 1, device="cuda")
            q = strop.QuantizedTensor(
                codes, scale, None, None, "int8", (1, -1), (32, 64), torch.float32
            )
            w = strop.pack_weight(q, activations=activations)
            assert w.layout is None
            bias = torch.empty(32, device="cuda")
            for rows in (1, 9):
                x = torch.empty(rows, 64, device="cuda", dtype=torch.bfloat16)
                y = strop.packed_linear(x, w, bias, activation="gelu")
                assert (y.shape, y.dtype, y.is_cuda) == ((rows, 32), torch.bfloat16, True)
                out = torch.empty(rows, 32, device="cuda", dtype=torch.bfloat16)
                assert strop.packed_linear(x, w, out=out) is out
            with pytest.raises(ValueError, match=r"input has shape \[3, 63\]; the weight takes 64"):
                strop.packed_linear(torch.empty(3, 63, device="cuda"), w)


class TestOnAGpu:
    pytestmark = [
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
    ]

    @staticmethod
    def packed(q, activations=None):
        return strop.pack_weight(q, activations=activations).to("cuda")

    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_exact(self, format):
        for shape in ((9, 96), (70, 1056)):
            q = quantized(shape, format, symmetric=format not in UNSIGNED)
            w, bias = self.packed(q), torch.randn(shape[0], generator=generator(1))
            for dtype in DTYPES:
                for rows in (1, 3, 8, 9):
                    x = random_input(rows, shape[1], dtype)
                    y = strop.packed_linear(x.cuda(), w, bias.cuda(), activation="gelu")
                    dense = q.dequantize() if rows < 9 else q.dequantize(dtype)
                    if rows < 9 or dtype == torch.float32:
                        assert_close(y.cpu(), x, dense, bias, "gelu", note=(shape, rows))
                    assert y.dtype == dtype
                    out = torch.empty_like(y)
                    strop.packed_linear(x.cuda(), w, bias.cuda(), activation="gelu", out=out)
                    assert_same_bits(out.cpu(), y.cpu())

    @pytest.mark.parametrize("activations", QUANTIZED)
    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED)
    def test_integers(self, format, activations):
        for shape, block_size in (((9, 83), (1, 24)), ((64, 1056), (1, 32)), ((64, 1056), (1, -1))):
            q = quantized(shape, format, block_size, symmetric=False)
            w, bias = self.packed(q, activations), torch.randn(shape[0], generator=generator(1))
            for rows in (1, 3, 8, 9, 40):
                x = random_input(rows, shape[1])
                x[0, 1] = torch.inf if rows > 3 else 1.0
                y = strop.packed_linear(x.cuda(), w, bias.cuda(), activation="silu")
                expected = on_cpu(x, q, activations, bias, "silu")
                assert_same_bits(y.cpu(), expected, (shape, block_size, rows))

    def test_graphs_and_waits(self):
        for activations, block_size in ((None, (1, 32)), ("uint8", (1, 32)), ("int8", (1, -1))):
            q = quantized((64, 256), "int8", block_size)
            w = self.packed(q, activations)
            for rows in (3, 33):
                x = torch.randn(rows, 256, device="cuda")
                y = replayed(lambda x, w=w: strop.packed_linear(x, w), x)
                assert_same_bits(y.cpu(), strop.packed_linear(x, w).cpu())

    def test_gradients_and_transforms(self):
        for activations in (None, "int8"):
            w = self.packed(quantized((24, 64), "int8", (1, -1)), activations)
            for rows in (2, 20):
                x = torch.randn(rows, 64, device="cuda", requires_grad=True)
                y = strop.packed_linear(x, w, activation="relu")
                (found,) = torch.autograd.grad(y.square().sum(), x)
                assert torch.allclose(found, (2 * y) @ w.to_dense(), rtol=1e-4, atol=1e-4)
                compiled = torch.compile(strop.packed_linear, fullgraph=True, backend="aot_eager")
                assert_same_bits(compiled(x.detach(), w).cpu(), strop.packed_linear(x, w).cpu())
