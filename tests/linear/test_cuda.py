"""Pruned weights by the CUDA kernels, which run on the CPU here: against float64, and the CPU's form."""

import numpy as np
import pytest
import torch

from core.devices import _cuda_host, assert_same_bits, to_array, to_tensor
from linear.problems import ACTIVATIONS, assert_close, generator, kept, pruned
from strop._linear import ops

if _cuda_host is None:
    pytest.skip("strop._cuda_host is not built here", allow_module_level=True)

pytestmark = pytest.mark.cuda_host
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
# (of the values, of the input)
PAIRS = [*((d, d) for d in FLOATS), (torch.bfloat16, torch.float32), (torch.float16, torch.float32)]
COLUMNS = [1, 7, 8, 255, 256, 1025, 4099]
SPARSITIES = [0.0, 0.5, 0.9, 1.0]


@pytest.fixture(autouse=True)
def any_launch():
    yield
    _cuda_host.set_launch(0)


def packed(weight, mask=None):
    return _cuda_host.pack_masked(to_array(weight), to_array(mask))


def multiplied(x, weight, bias=None, activation=""):
    """By the kernels; weight is dense, or packed."""
    weight = packed(weight) if isinstance(weight, torch.Tensor) else weight
    return to_tensor(_cuda_host.packed_linear(to_array(x), weight, to_array(bias), activation))


def unpacked(weight, columns, widen=False):
    return to_tensor(_cuda_host.unpack_masked(weight, columns, widen))


class TestForm:
    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    @pytest.mark.parametrize("sparsity", SPARSITIES)
    def test_as_on_the_cpu(self, dtype, sparsity):
        for columns in COLUMNS:
            weight = pruned((5, columns), sparsity).to(dtype)
            bits, values = ops.pack_masked(weight, None)
            found = packed(weight)
            assert torch.equal(torch.from_numpy(found[0]), bits), columns
            assert_same_bits(to_tensor(found[1]), values)
            starts = np.concatenate([[0], (weight != 0).sum(1).cumsum(0).numpy()])
            np.testing.assert_array_equal(found[2], starts)
            assert_same_bits(unpacked(found, columns), weight)
            assert_same_bits(unpacked(found, columns, widen=True), weight.float())

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_a_mask_keeps_zeros(self, dtype):
        for shape in [(3, 77), (4, 256)]:
            weight, mask = pruned(shape, 0.5).to(dtype), kept(shape, 0.6, seed=5)
            bits, values = ops.pack_masked(weight, mask)
            found = packed(weight, mask)
            assert torch.equal(torch.from_numpy(found[0]), bits)
            assert_same_bits(to_tensor(found[1]), values)
            assert_same_bits(unpacked(found, shape[1]), torch.where(mask, weight, 0))

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_nan_is_kept_and_zeros_are_not(self, dtype):
        weight = torch.tensor([[0.0, -0.0, torch.nan, -torch.inf, 1e-7, 0, 0, 0, -2]]).to(dtype)
        bits, values, _ = packed(weight)
        assert bits.tolist() == [[0b11100, 1]]
        assert_same_bits(to_tensor(values), weight[weight != 0])

    def test_many_rows(self):
        weight = pruned((2100, 9), 0.5, "holes")  # more than a block adds up at a time
        starts = packed(weight)[2]
        np.testing.assert_array_equal(starts[1:], (weight != 0).sum(1).cumsum(0).numpy())

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
    def test_nothing(self, shape):
        found = packed(torch.zeros(shape))
        assert found[2].tolist() == [0] * (shape[0] + 1)
        assert unpacked(found, shape[1]).shape == shape
        bias = torch.arange(float(shape[0]))
        assert_same_bits(multiplied(torch.ones(2, shape[1]), found, bias), bias.expand(2, shape[0]))
        assert multiplied(torch.ones(0, shape[1]), found).shape == (0, shape[0])


class TestLinear:
    @pytest.mark.parametrize("pair", PAIRS, ids=str)
    @pytest.mark.parametrize("sparsity", SPARSITIES)
    def test_against_float64(self, pair, sparsity):
        for columns in COLUMNS:
            weight = pruned((3, columns), sparsity).to(pair[0])
            held = packed(weight)
            for rows in (1, 2, 3, 8, 16) if columns < 1000 else (1, 5):
                x = torch.randn(rows, columns, generator=generator(rows)).to(pair[1])
                y = multiplied(x, held)
                assert y.dtype == pair[1]
                assert_close(y, x, weight, note=f"{columns} columns, {rows} rows")

    def test_every_number_of_rows(self):
        weight = pruned((9, 300), 0.5)
        for rows in range(1, 17):
            x = torch.randn(rows, 300, generator=generator(rows))
            assert_close(multiplied(x, weight), x, weight)
            short = weight.bfloat16()
            assert_close(multiplied(x.bfloat16(), short), x.bfloat16(), short, note=rows)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations_and_biases(self, activation):
        weight = pruned((13, 40), 0.5)
        for dtype in FLOATS:
            x = torch.randn(3, 40, generator=generator(1)) * 3
            bias = (torch.randn(13, generator=generator(2)) * 10).to(dtype)
            y = multiplied(x, weight, bias, activation)
            assert_close(y, x, weight, bias, activation)

    def test_any_number_of_threads_and_order(self):
        weight, bias = pruned((21, 1300), 0.7), torch.randn(21, generator=generator(3))
        held = packed(weight)
        for rows in (1, 6):
            x = torch.randn(rows, 1300, generator=generator(rows))
            expected = multiplied(x, held, bias, "gelu")
            dense = unpacked(held, 1300)
            for seed in range(4):
                _cuda_host.set_launch(seed, multiprocessors=1, blocks_each=1 + seed)
                assert_same_bits(multiplied(x, held, bias, "gelu"), expected)
                assert_same_bits(unpacked(held, 1300), dense)
                assert all(np.array_equal(a, b) for a, b in zip(packed(weight), held, strict=True))

    def test_rows_do_not_depend_on_each_other(self):
        weight = pruned((7, 520), 0.5)
        x = torch.randn(8, 520, generator=generator())
        held = packed(weight)
        whole = multiplied(x, held)
        for rows in (1, 2, 3, 5):
            assert_same_bits(multiplied(x[:rows], held), whole[:rows])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_strides_and_alignment(self, dtype):
        weight = pruned((6, 264), 0.6).to(dtype)
        full = torch.randn(9, 700, generator=generator()).to(dtype)
        for x in (full[:4, :264], full[::2, 3:267], full[:3, 8:272], full[2, 1:265], full[0, :264]):
            assert_close(multiplied(x, weight), x, weight)
        x = torch.randn(2, 3, 264, generator=generator(1)).to(dtype)
        y = multiplied(x, weight)
        assert y.shape == (2, 3, 6)
        assert_close(y, x, weight)


class TestWhatWasPruned:
    @pytest.mark.parametrize("pair", PAIRS, ids=str)
    def test_contributes_nothing(self, pair):
        weight = pruned((5, 300), 0.6).to(pair[0])
        weight[:, ::3] = 0
        for rows in (1, 4):
            x = torch.randn(rows, 300, generator=generator(rows)).to(pair[1])
            expected = multiplied(x, weight)
            x[:, ::3] = (
                torch.tensor([torch.nan, torch.inf, -torch.inf]).repeat(34)[:100].to(x.dtype)
            )
            assert_same_bits(multiplied(x, weight), expected)

    def test_but_not_what_a_mask_keeps(self):
        weight, mask = torch.zeros(2, 24), torch.zeros(2, 24, dtype=torch.bool)
        mask[1, 9] = True
        x = torch.full((1, 24), torch.nan)
        y = multiplied(x, packed(weight, mask), torch.ones(2))
        assert y[0, 0] == 1
        assert y[0, 1].isnan()


class TestErrors:
    def test_name_what_is_wrong(self):
        weight = pruned((4, 20), 0.5)
        held = packed(weight)
        bits, values, starts = held
        x = torch.randn(2, 20)
        run = lambda *arguments: _cuda_host.packed_linear(*arguments)  # noqa: E731
        a = to_array
        cases = [
            (TypeError, "weight has dtype float64; on a GPU float32", lambda: packed(weight.double())),
            (TypeError, "input has dtype float64; on a GPU", lambda: run(a(x.double()), held)),
            (TypeError, "bias has dtype float64", lambda: run(a(x), held, a(torch.ones(4).double()))),
            (TypeError, "values has dtype float64", lambda: run(a(x), (bits, values.astype(float), starts))),
            (TypeError, "starts has dtype int32", lambda: run(a(x), (bits, values, starts.astype("i4")))),
            (ValueError, r"starts has shape \[4\]; \[5\]", lambda: run(a(x), (bits, values, starts[1:]))),
            (ValueError, r"input has shape \[2, 9\]; bits have shape \[4, 3\]", lambda: run(a(x[:, :9]), held)),
            (ValueError, r"input has shape \[\]", lambda: run(a(torch.tensor(1.0)), held)),
            (ValueError, r"bias has shape \[3\]; \[4\]", lambda: run(a(x), held, a(torch.ones(3)))),
            (ValueError, "bits has shape", lambda: _cuda_host.unpack_masked(held, 25)),
        ]  # fmt: skip
        for kind, text, call in cases:
            with pytest.raises(kind, match=text):
                call()
