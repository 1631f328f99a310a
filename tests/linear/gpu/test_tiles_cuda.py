"""Tiles of packed weights, for tensor cores: executed on the CPU here, whose stand-in has their layouts."""

import pytest
import torch

import strop
from core.devices import _cuda_host, assert_same_bits
from linear.codes import FLOATS, INTEGERS, RECIPES, UNSIGNED, random_input
from linear.gpu.test_kept_codes_cuda import Weight
from linear.problems import ACTIVATIONS, assert_close, generator, kept, pruned
from linear.test_cuda import multiplied, packed

if _cuda_host is None:
    pytest.skip("strop._cuda_host is not built here", allow_module_level=True)

pytestmark = pytest.mark.cuda_host
SHORT = [torch.bfloat16, torch.float16]
NOT_FINITE = torch.tensor([torch.nan, torch.inf, -torch.inf])


@pytest.fixture(autouse=True)
def any_launch():
    yield
    _cuda_host.set_launch(0)


class TestValues:
    @pytest.mark.parametrize("dtype", SHORT, ids=str)
    def test_odd_shapes(self, dtype):
        for shape in ((1, 1), (5, 7), (16, 33), (17, 96), (33, 255), (3, 1027), (2, 2100)):
            weight = pruned(shape, 0.5).to(dtype)
            for rows in (3, 8, 9, 16) if shape[1] < 1000 else (13,):
                x = random_input(rows, shape[1], dtype)
                y = multiplied(x, weight)
                assert y.dtype == dtype
                assert_close(y, x, weight, note=(shape, rows))

    @pytest.mark.parametrize("dtype", SHORT, ids=str)
    def test_what_was_pruned_contributes_nothing(self, dtype):
        weight = pruned((19, 300), 0.6).to(dtype)
        weight[:, ::3] = 0
        for rows in (5, 16):
            x = random_input(rows, 300, dtype)
            expected = multiplied(x, weight)
            clean = x.clone()
            x[1::2, ::3] = NOT_FINITE.repeat(34)[:100].to(dtype)
            y = multiplied(x, weight)
            assert_same_bits(y[::2], expected[::2])
            assert_close(y, clean, weight)

    def test_what_is_kept_does(self):
        mask = kept((20, 64), 0.5)
        weight = torch.ones(20, 64).bfloat16()
        x = random_input(12, 64, torch.bfloat16)
        x[3, 7], x[4, 9] = torch.nan, torch.inf
        y = multiplied(x, packed(weight, mask))
        assert torch.equal(y[3].isnan(), mask[:, 7])
        assert torch.equal(y[4] == torch.inf, mask[:, 9])
        assert y[[0, 1, 2, 5, 11]].isfinite().all()

    def test_values_that_are_not_finite(self):
        weight = pruned((18, 64), 0.5).bfloat16()
        weight[2, 5], weight[17, 6] = torch.inf, torch.nan
        x = torch.ones(7, 64).bfloat16()
        y = multiplied(x, weight)
        assert (y[:, 2] == torch.inf).all()
        assert y[:, 17].isnan().all()
        assert y[:, [*range(2), *range(3, 17)]].isfinite().all()

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations_and_biases(self, activation):
        weight = pruned((21, 40), 0.5).bfloat16()
        for dtype in (torch.float32, *SHORT):
            x = random_input(9, 40, torch.bfloat16)
            bias = (torch.randn(21, generator=generator(2)) * 10).to(dtype)
            assert_close(multiplied(x, weight, bias, activation), x, weight, bias, activation)

    def test_any_number_of_threads_and_order(self):
        weight = pruned((37, 1100), 0.7).bfloat16()
        x = random_input(9, 1100, torch.bfloat16)
        x[4, 9] = torch.inf
        held = packed(weight)
        expected = multiplied(x, held, activation="gelu")
        for seed in range(3):
            _cuda_host.set_launch(seed, multiprocessors=1, blocks_each=1 + seed)
            assert_same_bits(multiplied(x, held, activation="gelu"), expected)

    def test_rows_do_not_depend_on_each_other(self):
        weight, x = pruned((7, 520), 0.5).bfloat16(), random_input(16, 520, torch.bfloat16)
        held = packed(weight)
        whole = multiplied(x, held)
        for rows in (3, 8, 11):
            assert_same_bits(multiplied(x[:rows], held), whole[:rows])

    def test_strides_and_alignment(self):
        weight = pruned((6, 264), 0.6).bfloat16()
        full = random_input(30, 700, torch.bfloat16)
        for x in (full[:14, :264], full[::2, 3:267], full[:9, 8:272], full[4:10, 1:265]):
            assert_close(multiplied(x[:16], weight), x[:16], weight)

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
    def test_nothing(self, shape):
        bias = torch.arange(float(shape[0])).bfloat16()
        y = multiplied(torch.ones(9, shape[1]).bfloat16(), torch.zeros(shape).bfloat16(), bias)
        assert_same_bits(y, bias.expand(9, shape[0]))


class TestCodes:
    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_every_format(self, format):
        blocks = [(1, -1), (1, 32), (3, 64), (1, 24), (-1, -1)]
        for number, block_size in enumerate(blocks[: 1 if format in RECIPES else None]):
            shape = (18, 96) if format in RECIPES else (18, 101)
            symmetric = format in FLOATS or number % 2 == 0
            w = Weight(shape, format, block_size, (0.3, 0.6, 0.9)[number % 3], symmetric=symmetric)
            for dtype, rows in ((torch.bfloat16, 9), (torch.float16, 5 + number)):
                x = random_input(rows, shape[1], dtype)
                assert_close(w.times(x), x, w.dense, note=(block_size, dtype))

    @pytest.mark.parametrize("format", ["int4", "uint8", "float8_e5m2", "mxfp4", "nvfp4"])
    def test_what_was_pruned_contributes_nothing(self, format):
        mask = kept((19, 288), 0.6)
        mask[:, ::3] = False
        mask[5] = False
        w = Weight((19, 288), format, (1, 32), mask=mask, symmetric="u" not in format)
        x = random_input(9, 288, torch.bfloat16)
        clean, expected = x.clone(), w.times(x)
        x[1::2, ::3] = NOT_FINITE.repeat(32).bfloat16()
        y = w.times(x)
        assert_same_bits(y[::2], expected[::2])
        assert_close(y, clean, w.dense)
        assert not y[:, 5].count_nonzero()

    @pytest.mark.parametrize("block_size", [(1, 32), (1, -1)])
    def test_nor_does_its_scale(self, block_size):
        q = strop.quantize(
            torch.randn(4, 96, generator=generator()), format="int8", block_size=block_size
        )
        mask = kept((4, 96), 0.5)
        mask[1, : 32 if block_size[1] > 0 else 96] = False
        q.scale[1, 0] = torch.nan
        w = Weight((4, 96), "int8").of(q, mask)
        x = random_input(6, 96, torch.bfloat16)
        assert_close(w.times(x), x, torch.where(mask, q.dequantize(), 0))

    @pytest.mark.parametrize("dtype", SHORT, ids=str)
    @pytest.mark.parametrize("zero", [0.5, 7.25, 1001.0])
    def test_zero_points_without_an_exact_number(self, dtype, zero):
        codes = strop.pack_bits(torch.arange(18 * 64, dtype=torch.uint8).view(18, 64) % 16, 4)
        zeros = torch.full((18, 2), zero)
        zeros[::2] = 3
        zeros = zeros.int() if zero > 1000 else zeros
        q = strop.QuantizedTensor(
            codes, torch.ones(18, 2), zeros, None, "uint4", (1, 32), (18, 64), torch.float32
        )
        w = Weight((18, 64), "uint4").of(q, kept((18, 64), 0.5))
        x = random_input(6, 64, dtype)
        assert_close(w.times(x), x, w.dense)

    def test_any_number_of_threads_and_order(self):
        w, x = Weight((37, 1300), "uint4", symmetric=False), random_input(11, 1300, torch.bfloat16)
        expected = w.times(x, activation="gelu")
        assert_close(expected, x, w.dense, activation="gelu")
        for seed in range(3):
            _cuda_host.set_launch(seed, multiprocessors=1, blocks_each=1 + seed)
            assert_same_bits(w.times(x, activation="gelu"), expected)
