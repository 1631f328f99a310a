"""Products with weights in codes: integers to the bit, exact ones against float64."""

import pytest
import torch

import strop
from core.devices import assert_same_bits
from linear.codes import (
    FLOATS,
    INTEGERS,
    RECIPES,
    UNSIGNED,
    CodedWeight,
    as_multiplied,
    random_input,
)
from linear.problems import CPU_DEVICES, ROWS, assert_close, generator
from strop._linear import ops

SHAPES = [(1, 1), (3, 16), (16, 33), (17, 100), (40, 300), (33, 1100)]
GROUPS = [None, 16, 32, 48, 24]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
ACTIVATIONS = ["int8", "uint8"]


@pytest.fixture(params=CPU_DEVICES, ids=repr)
def cpu(request):
    with request.param as device:
        yield device


class TestIntegers:
    @pytest.mark.parametrize("activations", ACTIVATIONS)
    @pytest.mark.parametrize("format", ["int8", "int4", "uint8", "uint4"])
    def test_every_number_of_rows(self, cpu, format, activations):
        for shape in SHAPES:
            for group in GROUPS[:3]:
                weight = CodedWeight(shape, format, group, activations, symmetric=False)
                bias = torch.randn(shape[0], generator=generator(3))
                for rows in ROWS:
                    x = random_input(rows, shape[1])
                    note = (shape, group, rows)
                    assert_same_bits(weight.multiplied(x, bias), weight.by_torch(x, bias), note)

    @pytest.mark.parametrize("activations", ACTIVATIONS)
    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED)
    def test_every_format(self, cpu, format, activations):
        for group in GROUPS:
            for symmetric in (True, False):
                weight = CodedWeight((21, 150), format, group, activations, symmetric=symmetric)
                for rows in (1, 3, 11):
                    x = random_input(rows, 150)
                    note = (group, symmetric, rows)
                    assert_same_bits(weight.multiplied(x), weight.by_torch(x), note)

    @pytest.mark.parametrize("activations", ACTIVATIONS)
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, cpu, dtype, activations):
        for format in ("int8", "uint4"):
            weight = CodedWeight((37, 200), format, 40, activations)
            for rows in (1, 2, 9, 40):
                x = random_input(rows, 200, dtype)
                assert_same_bits(weight.multiplied(x), weight.by_torch(x), (format, rows))

    @pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
    def test_activations_have_the_same_bits_everywhere(self, activation):
        weight = CodedWeight((37, 200), "int8", None, "int8")
        x = random_input(5, 200)
        found = []
        for device in CPU_DEVICES:
            with device:
                found.append(weight.multiplied(x, activation=activation))
        for y in found:
            assert_same_bits(y, found[0])
        torch.testing.assert_close(found[0], weight.by_oracle(x, activation=activation))

    def test_the_oracle_agrees(self):
        for activations in ACTIVATIONS:
            for group in (None, 24):
                weight = CodedWeight((19, 130), "uint4", group, activations, symmetric=False)
                bias = torch.randn(19, generator=generator(3))
                x = random_input(4, 130)
                assert_same_bits(weight.by_oracle(x, bias), weight.by_torch(x, bias))

    @pytest.mark.parametrize("columns", [32768, 32769, 70000])
    def test_sums_of_long_rows(self, cpu, columns):
        weight = CodedWeight((3, columns), "int8", None, "uint8")
        weight.codes.fill_(0x80)  # the largest magnitudes, of one sign
        for rows in (1, 4):
            x = torch.ones(rows, columns)
            assert_same_bits(weight.multiplied(x), weight.by_torch(x), rows)

    def test_long_groups(self, cpu):
        weight = CodedWeight((3, 120000), "uint8", 40000, "int8", symmetric=False)
        x = random_input(2, 120000)
        assert_same_bits(weight.multiplied(x), weight.by_torch(x))
        odd = CodedWeight((1, 120000), "int8", 40001, "int8")
        with pytest.raises(RuntimeError, match=r"block_size has 40001 columns, .* 2 equal parts"):
            odd.layout()

    @pytest.mark.parametrize("activations", ACTIVATIONS)
    def test_rows_that_are_not_finite(self, cpu, activations):
        weight = CodedWeight((20, 64), "int8", None, activations)
        for rows in (3, 40):
            x = random_input(rows, 64)
            clean = weight.multiplied(x)
            x[0, 5], x[2, 63] = torch.inf, torch.nan
            y = weight.multiplied(x)
            assert y[[0, 2]].isnan().all()
            assert_same_bits(y[1], clean[1])
            assert_same_bits(y[3:], clean[3:])

    @pytest.mark.parametrize("activations", ACTIVATIONS)
    def test_zeros(self, cpu, activations):
        weight = CodedWeight((20, 64), "int4", 32, activations)
        weight.scale[3] = 0
        x = random_input(6, 64)
        x[1] = 0
        y = weight.multiplied(x)
        assert (y[:, 3] == 0).all()
        assert (y[1] == 0).all()
        assert_same_bits(y, weight.by_torch(x))

    @pytest.mark.parametrize("activations", ACTIVATIONS)
    def test_sums_of_groups_that_are_minus_zero(self, cpu, activations):
        weight = CodedWeight((35, 192), "int4", 64, activations)
        weight.scale.neg_()
        x = random_input(19, 192)
        x[1] = 0
        y = weight.multiplied(x)
        assert y[1].signbit().all()  # (where the oracle adds a bias of 0)
        assert torch.equal(y, weight.by_oracle(x))

    def test_extremes_of_float32(self, cpu):
        weight = CodedWeight((5, 32), "int8", None, "uint8")
        x = torch.zeros(3, 32)
        x[0, 0], x[0, 1] = 3e38, -3e38
        x[1, 0] = 1e-45
        x[2] = -1e-38
        assert_same_bits(weight.multiplied(x), weight.by_torch(x))

    def test_strides(self, cpu):
        weight = CodedWeight((18, 48), "int8", None, "int8")
        x = random_input(7, 96)
        for view in (x[:, :48], x[:, ::2], x[::2, :48], x[:, :48].reshape(7, 1, 48)):
            assert_same_bits(weight.multiplied(view), weight.by_torch(view.contiguous()))

    def test_threads(self, cpu):
        weight = CodedWeight((300, 700), "uint4", 64, "uint8", symmetric=False)
        x = random_input(70, 700)
        expected = weight.multiplied(x)
        before = torch.get_num_threads()
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                assert_same_bits(weight.multiplied(x), expected)
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize("shape", [(0, 8), (5, 0), (0, 0)])
    def test_nothing(self, cpu, shape):
        codes = torch.zeros(shape, dtype=torch.uint8)
        scale = torch.ones(shape[0], 1)
        layout = ops.codes_layout(codes, scale, None, 8, "int8", "int8")
        for rows in (0, 2):
            y = ops.by_layout(torch.zeros(rows, shape[1]), layout, shape[0], None, "")
            assert y.shape == (rows, shape[0])
            assert (y == 0).all()


class TestExact:
    @pytest.mark.parametrize("format", ["int8", "uint8", "int4", "uint4", "nf4", "float8_e4m3fn"])
    def test_every_number_of_rows(self, cpu, format):
        for shape in SHAPES:
            for group in GROUPS[:3]:
                weight = CodedWeight(shape, format, group, symmetric=format not in UNSIGNED)
                dense = weight.quantized.dequantize()
                bias = torch.randn(shape[0], generator=generator(3))
                for rows in ROWS:
                    x = random_input(rows, shape[1])
                    y = weight.multiplied(x, bias)
                    assert_close(y, x, dense, bias, note=f"{shape} {group} {rows} rows")

    @pytest.mark.parametrize("format", INTEGERS + UNSIGNED + FLOATS + RECIPES)
    def test_every_format(self, cpu, format):
        groups = [None] if format in RECIPES else GROUPS
        for group in groups:
            weight = CodedWeight((21, 160), format, group)
            dense = weight.quantized.dequantize()
            for rows in (1, 2, 7, 13):
                x = random_input(rows, 160)
                assert_close(weight.multiplied(x), x, dense, note=f"{group} {rows} rows")

    @pytest.mark.parametrize("format", FLOATS + ("int5", "uint7", "mxfp4", "nvfp4"))
    def test_every_code(self, cpu, format):
        """One row of the weight has all codes, which the identity shows one by one."""
        form = strop.NumberFormat.get(format)
        count = 1 << form.bits
        codes = torch.arange(count, dtype=torch.uint8).reshape(1, count)
        values = torch.tensor(strop._C.format_values(format), dtype=torch.float32)
        scale = torch.ones(1, 1)
        finite = values.isfinite()
        codes[0, ~finite] = 0
        values[~finite] = values[0]
        layout = ops.codes_layout(codes, scale, None, count, format, "")
        for rows in (1, count):
            x = torch.eye(count)[:rows] if rows > 1 else torch.eye(count)
            for part in x.split(rows):
                y = ops.by_layout(part, layout, 1, None, "")
                assert_same_bits(y[:, 0] + 0.0, (part @ values) + 0.0)

    @pytest.mark.parametrize("format", ["float8_e4m3fn", "float8_e5m2"])
    def test_codes_that_are_nan(self, cpu, format):
        codes = torch.zeros(3, 32, dtype=torch.uint8)
        codes[1, 7] = 0x7F
        layout = ops.codes_layout(codes, torch.ones(3, 1), None, 32, format, "")
        for rows in (1, 4):
            y = ops.by_layout(torch.ones(rows, 32), layout, 3, None, "")
            assert y[:, 1].isnan().all()
            assert (y[:, [0, 2]] == 0).all()

    @pytest.mark.parametrize("format", ["int4", "uint4", "int8", "uint8", "nf4", "float6_e3m2fn"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_every_dtype(self, cpu, dtype, format):
        for group in (None, 40):
            weight = CodedWeight((37, 200), format, group, symmetric=format not in UNSIGNED)
            dense = weight.quantized.dequantize()
            for rows in (1, 2, 9, 40, 135):
                x = random_input(rows, 200, dtype)
                exact = as_multiplied(dense, x)
                assert_close(weight.multiplied(x), x, exact, note=f"{group} {rows} rows")

    @pytest.mark.parametrize("format", ["int4", "uint4", "int8", "uint8", "nf4", "float8_e4m3fn"])
    @pytest.mark.parametrize("fraction", [0.0, 0.25])
    def test_which_weights_are_rounded_to_16_bits(self, cpu, format, fraction):
        """Two products that all but cancel, so that rounding a weight is all that would be left."""
        weight = CodedWeight((16, 600), format, 40, symmetric=format not in UNSIGNED)
        dense = weight.quantized.dequantize()
        if weight.zero is not None:
            weight.zero += fraction
            dense -= fraction * weight.scale.repeat_interleave(40, 1)
        for first in (0, 38, 598):
            x = torch.zeros(16, 600, dtype=torch.bfloat16)
            x[:, first] = dense[:, first + 1].bfloat16()
            x[:, first + 1] = -dense[:, first].bfloat16()
            for rows in (1, 16):
                given = x[:rows]
                exact = as_multiplied(dense, given)
                assert_close(weight.multiplied(given), given, exact, note=f"{first} {rows}")

    @pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
    def test_activations(self, cpu, activation):
        weight = CodedWeight((37, 200), "nf4", 64)
        dense = weight.quantized.dequantize()
        bias = torch.randn(37, generator=generator(3))
        for rows in (1, 9):
            x = random_input(rows, 200)
            y = weight.multiplied(x, bias, activation)
            assert_close(y, x, dense, bias, activation)

    def test_a_large_one(self, cpu):
        weight = CodedWeight((515, 4099), "uint4", 64, symmetric=False)
        x = random_input(17, 4099)
        assert_close(weight.multiplied(x), x, weight.quantized.dequantize())

    @pytest.mark.parametrize("format", ["int8", "uint4", "nf4", "mxfp4", "float8_e4m3fn"])
    def test_tiles_of_every_height(self, cpu, format):
        """Groups that are shorter than a stretch of columns, and one that is longer than two."""
        for group in (None, 320) if format != "mxfp4" else (None,):
            weight = CodedWeight((37, 672), format, group, symmetric=format not in UNSIGNED)
            dense = weight.quantized.dequantize()
            for rows in (*range(1, 28), 128, 130):
                x = random_input(rows, 672)
                assert_close(weight.multiplied(x), x, dense, note=f"{group} {rows} rows")

    @pytest.mark.parametrize("format", ["int8", "uint4", "nf4"])
    def test_threads(self, cpu, format):
        """A panel gives the same bits by itself and beside another."""
        weight = CodedWeight((296, 700), format, 64, symmetric=format not in UNSIGNED)
        before = torch.get_num_threads()
        try:
            for rows in (4, 25, 131):
                x = random_input(rows, 700)
                torch.set_num_threads(1)
                expected = weight.multiplied(x)
                for threads in (2, 3, 7):
                    torch.set_num_threads(threads)
                    assert_same_bits(weight.multiplied(x), expected, (rows, threads))
        finally:
            torch.set_num_threads(before)

    def test_the_oracle_agrees(self):
        for format in ("int8", "uint4", "nf4", "float6_e3m2fn", "mxfp4"):
            weight = CodedWeight((19, 128), format, None if format == "mxfp4" else 48)
            x = random_input(4, 128)
            assert_close(weight.by_oracle(x), x, weight.quantized.dequantize(), note=format)

    def test_rows_that_are_not_finite(self, cpu):
        weight = CodedWeight((20, 64), "int4", 32)
        for rows, odd in ((2, 1), (9, 0), (27, 2), (27, 20)):
            x = random_input(rows, 64)
            clean = weight.multiplied(x)
            x[odd, 5] = torch.nan
            y = weight.multiplied(x)
            assert y[odd].isnan().all()
            others = [row for row in range(rows) if row != odd]
            assert_same_bits(y[others], clean[others])


class TestErrors:
    GOOD = {
        "codes": torch.zeros(4, 32, dtype=torch.uint8),
        "scale": torch.ones(4, 2),
        "zero_point": None,
        "group": 16,
        "format": "int8",
        "activations": "int8",
    }

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"codes": torch.zeros(4, 32)}, "codes has dtype float32"),
            ({"codes": torch.zeros(32, dtype=torch.uint8)}, "codes needs two dimensions"),
            ({"scale": torch.ones(4, 3)}, "scale has shape"),
            ({"scale": torch.ones(4, 2, dtype=torch.float64)}, "scale has dtype float64"),
            ({"zero_point": torch.zeros(4, 1)}, "zero_point has shape"),
            ({"zero_point": torch.full((4, 2), 0.5)}, "no code of int8"),
            ({"zero_point": torch.full((4, 2), 128.0)}, "no code of int8"),
            ({"group": 0}, "block_size has 0 columns"),
            ({"format": "int9"}, "int9"),
            ({"format": "int16"}, "at most 8 bits"),
            ({"format": "nf4"}, "is no integer"),
            ({"activations": "int4"}, "activations is 'int4'"),
        ],
    )
    def test_are_named(self, change, message):
        with pytest.raises((ValueError, TypeError, RuntimeError), match=message):
            ops.codes_layout(*(self.GOOD | change).values())

    def test_a_damaged_layout(self):
        layout = CodedWeight((20, 64), "uint4", 32, "uint8", symmetric=False).layout()
        strop._C.check_layout(layout.numpy(), 20, 64)
        for place in range(0, 400, 4):
            for value in (-1, 0, 1, 7, 1 << 20):
                forged = layout.clone()
                forged.view(torch.int32)[place // 4] = value
                try:
                    strop._C.check_layout(forged.numpy(), 20, 64)
                except ValueError:
                    continue
                y = ops.by_layout(torch.ones(3, 64), forged, 20, None, "")
                assert y.shape == (3, 20)
