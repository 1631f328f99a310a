"""packed_linear of masked weights: against float64 in every layout, on every instruction set."""

import numpy as np
import pytest
import torch

import strop
from core.devices import assert_same_bits, to_array, to_tensor
from linear.problems import (
    ACTIVATIONS,
    CPU_DEVICES,
    ROWS,
    SPARSITIES,
    assert_close,
    generator,
    kept,
    layouts_of,
    multiplied,
    pruned,
)
from strop import _C

LAYOUTS = layouts_of(torch.float32)
SHAPES = [(1, 1), (1, 5), (3, 1), (7, 3), (8, 64), (17, 65), (37, 300), (130, 129)]
PATTERNS = ["random", "magnitude", "holes", "blocks", "2:4"]


@pytest.fixture(params=CPU_DEVICES, ids=repr)
def cpu(request):
    with request.param as device:
        yield device


class TestAgainstFloat64:
    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("sparsity", SPARSITIES)
    def test_every_number_of_rows(self, cpu, sparsity, layout):
        for shape in SHAPES:
            weight = pruned(shape, sparsity)
            bias = torch.randn(shape[0], generator=generator(3))
            for rows in ROWS:
                x = torch.randn(rows, shape[1], generator=generator(rows))
                note = f"{shape} {rows} rows"
                assert_close(multiplied(x, weight, layout), x, weight, note=note)
                y = multiplied(x, weight, layout, bias)
                assert_close(y, x, weight, bias, note=note)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("pattern", PATTERNS)
    def test_every_pattern(self, cpu, pattern, layout):
        # More than one block of rows and of columns; the last of each is short.
        weight = pruned((1030, 1100), 0.7, pattern)
        for rows in (1, 3, 16, 33, 130):
            x = torch.randn(rows, 1100, generator=generator(rows))
            assert_close(multiplied(x, weight, layout), x, weight, note=f"{rows} rows")

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_a_large_one(self, cpu, layout):
        weight = pruned((515, 4099), 0.6)
        x = torch.randn(17, 4099, generator=generator())
        assert_close(multiplied(x, weight, layout), x, weight)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations(self, cpu, activation, layout):
        weight = pruned((133, 70), 0.5)
        bias = torch.randn(133, generator=generator(1)) * 10
        for rows in (1, 6, 40):
            x = torch.randn(rows, 70, generator=generator(rows)) * 3
            y = multiplied(x, weight, layout, bias, activation)
            assert_close(y, x, weight, bias, activation)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS)[1:])
    def test_activations_of_extremes(self, cpu, activation):
        v = [
            0.0,
            -0.0,
            1e-30,
            -1e-30,
            88,
            -88,
            89,
            -89,
            104,
            -104,
            150,
            -150,
            1e4,
            -1e4,
            3e38,
            -3e38,
        ]
        v = torch.tensor([*v, torch.inf, -torch.inf, torch.nan, 0.5, -0.5, -5, -9])
        y = multiplied(torch.ones(1, 1), v[:, None], "mask", None, activation)[0]
        expected = ACTIVATIONS[activation](v.double())
        assert torch.equal(y.isnan(), expected.isnan())
        close = (y - expected).abs() <= 4e-7 * v.double().abs().clamp(max=1e30) + 1e-37
        assert (close | expected.isnan() | (y == expected)).all(), (v, y, expected)

    def test_more_rows_than_are_laid_out_at_once(self, cpu):
        weight = pruned((20, 50), 0.6)
        x = torch.randn(1100, 50, generator=generator())
        for layout in ("quads", "pairs"):
            assert_close(multiplied(x, weight, layout), x, weight)


class TestWhatIsPruned:
    @pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
    def test_contributes_nothing(self, cpu, value):
        weight = pruned((37, 90), 0.6, "blocks")
        weight[:, 11] = 0
        for rows in (1, 5, 20, 70):
            x = torch.randn(rows, 90, generator=generator(rows))
            beside = x.clone()
            beside[:, 11] = value
            for layout in LAYOUTS:
                assert_same_bits(
                    multiplied(beside, weight, layout), multiplied(x, weight, layout), layout
                )

    def test_all_of_it(self, cpu):
        bias = torch.arange(9.0)
        for rows in (1, 4, 40):
            x = torch.full((rows, 12), torch.nan)
            for layout in LAYOUTS:
                y = multiplied(x, torch.zeros(9, 12), layout, bias)
                assert_same_bits(y, bias.expand(rows, 9))

    def test_not_an_inf_that_is_kept(self, cpu):
        weight = pruned((9, 40), 0.5)
        weight[2, :] = 0
        weight[3, 5] = torch.inf  # next to a row without any
        for rows in (1, 4, 40):
            x = torch.rand(rows, 40, generator=generator(rows)) + 0.5
            for layout in LAYOUTS:
                y = multiplied(x, weight, layout)
                assert (y[:, 3] == torch.inf).all(), layout
                others = [0, 1, 2, 4, 5, 6, 7, 8]
                assert_close(y[:, others], x, weight[others])

    def test_zeros_that_a_mask_keeps(self, cpu):
        weight = torch.zeros(4, 8)
        w = strop.pack_weight(weight, torch.ones(4, 8, dtype=torch.bool), plan="packed")
        assert w.nnz == 32
        assert strop.packed_linear(torch.full((2, 8), torch.nan), w).isnan().all()


class TestInput:
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_leading_shapes_and_strides(self, cpu, plan):
        weight = pruned((24, 40), 0.8)
        bias = torch.randn(24, generator=generator(5))
        w = strop.pack_weight(weight, plan=plan)
        full = torch.randn(3, 4, 5, 80, generator=generator())
        inputs = [
            full[0, 0, 0, :40],
            full[0, 0, :, :40],
            full[..., :40],
            full[..., ::2],
            full[:, 1:3, :, 20:60],
            full[..., :40].transpose(0, 2),
            full[0, :, :, :40].permute(1, 0, 2),
            full[0, 0, 0, :40].expand(6, 40),
            full[:0, ..., :40],
            full[0, 0, :, :40].t().contiguous().t(),
        ]
        for x in inputs:
            y = strop.packed_linear(x, w, bias)
            assert y.shape == (*x.shape[:-1], 24)
            assert_close(y, x, weight, bias)
        doubled = torch.randn(48, generator=generator(6))[::2]
        assert_close(
            strop.packed_linear(full[..., :40], w, doubled), full[..., :40], weight, doubled
        )

    @pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
    def test_nothing(self, cpu, shape):
        w = strop.pack_weight(torch.zeros(shape), plan="packed")
        bias = torch.arange(float(shape[0]))
        for rows in (0, 1, 3, 40):
            y = strop.packed_linear(torch.randn(rows, shape[1]), w, bias, activation="relu")
            assert_same_bits(y, bias.expand(rows, shape[0]))

    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_out(self, cpu, plan):
        weight = pruned((24, 40), 0.8)
        w = strop.pack_weight(weight, plan=plan)
        x = torch.randn(2, 6, 40, generator=generator())
        expected = strop.packed_linear(x, w, activation="gelu")
        for out in (torch.empty(2, 6, 24), torch.empty(2, 24, 6).transpose(1, 2)):
            version = out._version
            assert strop.packed_linear(x, w, activation="gelu", out=out) is out
            assert_same_bits(out, expected)
            assert out._version > version

    def test_float64_by_the_reference_loop(self):
        weight = pruned((24, 40), 0.8).double()
        w = strop.pack_weight(weight, backward=True)
        x = torch.randn(3, 40, generator=generator()).double()
        assert torch.allclose(strop.packed_linear(x, w), x @ weight.t(), rtol=1e-14, atol=1e-14)


class TestDeterminism:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_threads(self, cpu, layout):
        weight = pruned((1300, 700), 0.7)
        before = torch.get_num_threads()
        try:
            for rows in (1, 7, 33, 300, 700):
                x = torch.randn(rows, 700, generator=generator(rows))
                results = []
                for threads in (1, 2, 3):
                    torch.set_num_threads(threads)
                    results.append(multiplied(x, weight, layout, activation="silu"))
                assert_same_bits(results[1], results[0], f"{rows} rows")
                assert_same_bits(results[2], results[0], f"{rows} rows")
        finally:
            torch.set_num_threads(before)


class TestNumpy:
    def test_kernels_and_oracle(self, cpu):
        weight = pruned((31, 70), 0.6).numpy()
        x = np.random.default_rng(0).standard_normal((2, 9, 70), np.float32)
        bias = np.random.default_rng(1).standard_normal(31, np.float32)
        plain = _C.masked_layout(weight, None, "mask")
        expected = to_tensor(_C.reference.packed_linear(x, plain, bias, "gelu"))
        for layout in LAYOUTS:
            made = _C.masked_layout(weight, None, layout)
            y = to_tensor(_C.cpu.packed_linear(x, made, bias, "gelu"))
            assert torch.allclose(y, expected, rtol=1e-5, atol=1e-5)

    def test_a_mask_in_place_of_zeros(self):
        weight = torch.randn(6, 11, generator=generator())
        mask = kept((6, 11), 0.5)
        made = _C.masked_layout(to_array(weight), to_array(mask), "quads")
        x = torch.randn(4, 11, generator=generator(1))
        y = to_tensor(_C.cpu.packed_linear(to_array(x), made))
        assert_close(y, x, torch.where(mask, weight, 0))

    def test_the_oracle_refuses_strips(self):
        made = _C.masked_layout(np.eye(4, dtype=np.float32), None, "pairs")
        with pytest.raises(ValueError, match="the reference loop takes a layout of bits"):
            _C.reference.packed_linear(np.eye(4, dtype=np.float32), made)
