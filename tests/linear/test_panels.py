"""What a mask keeps in panels: values of bfloat16, and codes."""

import pytest
import torch

import strop
from core.devices import assert_same_bits, oracle
from linear.codes import CodedWeight, as_multiplied, random_input
from linear.problems import (
    ACTIVATIONS,
    CPU_DEVICES,
    ROWS,
    SPARSITIES,
    assert_close,
    generator,
    in_blocks,
    kept,
    multiplied,
    pruned,
)
from strop import _C
from strop._linear import code_tensors, ops, plans
from strop._linear.masked_layouts import one_method

DTYPES = (torch.bfloat16, torch.float32, torch.float16)  # of the input
SHAPES = [(1, 1), (1, 5), (3, 1), (7, 31), (16, 32), (17, 65), (37, 300), (130, 1100)]
BLOCKS = [(16, 32), (32, 16), (16, 64), (1, 32)]
FORMATS = [
    ("int8", None, True),
    ("uint8", None, False),
    ("int4", 32, True),
    ("uint4", 32, False),
    ("int3", 48, True),
    ("nf4", 64, True),
    ("float8_e4m3fn", None, True),
    ("float6_e3m2fn", None, True),
]


@pytest.fixture(params=CPU_DEVICES, ids=repr)
def cpu(request):
    with request.param as device:
        yield device


class TestValues:
    @pytest.mark.parametrize("inputs", DTYPES, ids=str)
    @pytest.mark.parametrize("sparsity", SPARSITIES)
    def test_every_number_of_rows(self, cpu, sparsity, inputs):
        for shape in SHAPES:
            weight = pruned(shape, sparsity).bfloat16()
            bias = torch.randn(shape[0], generator=generator(3))
            for rows in ROWS:
                x = torch.randn(rows, shape[1], generator=generator(rows)).to(inputs)
                y = multiplied(x, weight, "panels", bias)
                assert_close(y, x, weight, bias, note=f"{shape} {rows} rows")

    @pytest.mark.parametrize("block", BLOCKS)
    def test_blocks_that_are_empty(self, cpu, block):
        for sparsity in (0.5, 0.9):
            weight = in_blocks((100, 1500), block, sparsity).bfloat16()
            for rows in (1, 20, 33, 130, 300):
                x = torch.randn(rows, 1500, generator=generator(rows)).bfloat16()
                assert_close(multiplied(x, weight, "panels"), x, weight, note=(sparsity, rows))

    @pytest.mark.parametrize("columns", [5000, 20000])
    def test_long_rows(self, cpu, columns):
        for weight in (
            pruned((40, columns), 0.6).bfloat16(),
            in_blocks((40, columns), (16, 32), 0.9).bfloat16(),
        ):
            for rows in (3, 40):
                x = torch.randn(rows, columns, generator=generator(rows)).bfloat16()
                assert_close(multiplied(x, weight, "panels"), x, weight, note=rows)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations(self, cpu, activation):
        weight = pruned((133, 70), 0.5).bfloat16()
        bias = torch.randn(133, generator=generator(1)) * 10
        for rows in (1, 6, 40):
            x = (torch.randn(rows, 70, generator=generator(rows)) * 3).bfloat16()
            y = multiplied(x, weight, "panels", bias, activation)
            assert_close(y, x, weight, bias, activation)

    def test_every_value_is_multiplied_as_it_is(self, cpu):
        every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
        column = every[every.isfinite()][:, None]
        y = multiplied(torch.ones(1, 1), column, "panels")[0]
        assert torch.equal(y, column[:, 0].float())
        y = multiplied(torch.ones(9, 1).bfloat16(), column, "panels")
        normal = column[:, 0].abs() >= torch.finfo(torch.bfloat16).smallest_normal
        assert torch.equal(y[:, normal], column[normal, 0].expand(9, -1))

    def test_what_is_not_finite_meets_what_is_kept(self, cpu):
        weight = torch.zeros(20, 70).bfloat16()
        weight[3, 5], weight[4, 5], weight[5, 6] = 2.0, -1.0, 3.0
        for rows in (1, 9, 40):
            for inputs in DTYPES:
                x = torch.ones(rows, 70).to(inputs)
                x[rows // 2, 5] = torch.inf
                y = multiplied(x, weight, "panels")
                of_row = y[rows // 2].tolist()
                assert of_row[3:6] == [torch.inf, -torch.inf, 3.0]
                assert of_row[:3] + of_row[6:] == [0.0] * 17
                assert torch.equal(y[:, 5], torch.full((rows,), 3.0).to(inputs))
                x[rows // 2, 6] = torch.nan
                assert multiplied(x, weight, "panels")[rows // 2, 5].isnan()

    def test_strides_and_threads(self, cpu):
        weight = pruned((700, 300), 0.7).bfloat16()
        full = torch.randn(2, 40, 600, generator=generator()).bfloat16()
        for x in (full[..., :300], full[..., ::2], full[:, ::3, 7:307], full[0, 0, 300:]):
            results = []
            before = torch.get_num_threads()
            for threads in (1, 3):
                torch.set_num_threads(threads)
                results.append(multiplied(x, weight, "panels"))
            torch.set_num_threads(before)
            assert_same_bits(results[0], results[1])
            assert_close(results[0], x, weight)

    def test_the_oracle_agrees(self):
        weight = pruned((37, 90), 0.6).bfloat16()
        x = torch.randn(9, 90, generator=generator()).bfloat16()
        bits, values = ops.pack_masked(weight, None)
        layout = ops.layout(bits, values, 90, "panels")
        assert_close(oracle("packed_linear")(x, layout, None), x, weight)

    def test_other_values_have_no_such_layout(self):
        bits, values = ops.pack_masked(pruned((8, 8), 0.5).half(), None)
        with pytest.raises(RuntimeError, match="no layout panels; float32 and bfloat16 have one"):
            ops.layout(bits, values, 8, "panels")


class TestPlans:
    def planned(self, shape=(96, 200), **options):
        weight = pruned(shape, 0.7).bfloat16()
        w = strop.pack_weight(weight, plan="packed", **options)
        methods = {"methods": one_method("panels"), "plan_source": "packed"}
        return weight, type(w).prepared(w.bits, w.values, shape, backward=False, **methods)

    def test_eager_compiled_and_into_a_tensor(self, compiled_product):
        weight, w = self.planned()
        assert (w.starts, w.quads, w.pairs, w.dense) == (None,) * 4
        for rows in (1, 40):
            x = torch.randn(rows, 200, generator=generator(rows)).bfloat16()
            y = strop.packed_linear(x, w)
            assert_close(y, x, weight)
            assert_same_bits(compiled_product(x, w), y)
            assert_same_bits(strop.packed_linear(x, w, out=torch.empty_like(y)), y)

    def test_saved_and_moved(self):
        weight, w = self.planned()
        again = strop.PackedWeight.from_state_dict(w.state_dict())
        assert again.method_names() == ["panels"] * 7
        x = torch.randn(9, 200, generator=generator()).bfloat16()
        assert_same_bits(strop.packed_linear(x, again), strop.packed_linear(x, w))
        wide = w.to(torch.float32)
        assert wide.panels is None
        assert_close(strop.packed_linear(x.float(), wide), x.float(), weight)

    def test_follow_what_is_written(self):
        _, w = self.planned()
        x = torch.randn(9, 200, generator=generator()).bfloat16()
        before = strop.packed_linear(x, w)
        w.values.mul_(2)
        assert_same_bits(strop.packed_linear(x, w), before * 2)

    def test_one_form_is_about_as_large_as_what_is_saved(self):
        _, w = self.planned((512, 1024))
        dense = 512 * 1024 * 2
        assert w.panels.nbytes < (0.3 + 1 / 16) * dense * 1.05
        assert w.nbytes < 0.75 * dense

    def test_are_candidates_where_tiles_or_expansion_are(self, monkeypatch):
        pair = (torch.bfloat16, torch.bfloat16)
        for isa in ("avx512_vnni", "amx"):
            monkeypatch.setattr(_C, "isa", lambda isa=isa: isa)
            assert all("panels" in plans.candidates(n, dtypes=pair) for n in range(7))
            assert "panels" not in plans.candidates(0, dtypes=(torch.bfloat16, torch.float32))
            assert "panels" not in plans.candidates(0)
        monkeypatch.setattr(_C, "isa", lambda: "avx2")
        assert "panels" not in plans.candidates(0, dtypes=pair)


class MaskedCodes(CodedWeight):
    """A quantized weight whose layout has a mask."""

    def __init__(self, shape, format, group, activations, sparsity, *, symmetric):
        super().__init__(shape, format, group, activations, symmetric=symmetric)
        mask = kept(shape, sparsity)
        self.bits, _ = ops.pack_masked(torch.ones(shape), mask)
        self.quantized = code_tensors.with_zeros(self.quantized, self.bits)
        self.codes = strop.unpack_bits(self.quantized.codes, self.format.bits, shape[1])

    def apart(self):
        """The layout of what the mask keeps."""
        numbers = (self.codes, self.scale, self.zero, self.group, self.format.name)
        return ops.codes_layout(*numbers, self.activations, self.bits)


@pytest.mark.parametrize("activations", ["int8", "uint8"])
@pytest.mark.parametrize(
    ("format", "group", "symmetric"), [case for case in FORMATS if "int" in case[0]]
)
def test_integers_have_the_same_bits(cpu, format, group, symmetric, activations):
    for shape in ((1, 1), (17, 100), (40, 1100)):
        for sparsity in (0.0, 0.5, 0.9, 1.0):
            w = MaskedCodes(shape, format, group, activations, sparsity, symmetric=symmetric)
            layout = w.apart()
            for rows in (1, 2, 7, 8, 9, 33, 140):
                x = random_input(rows, shape[1])
                y = ops.by_layout(x, layout, shape[0], None, "")
                assert_same_bits(y, w.multiplied(x), (shape, sparsity, rows))


@pytest.mark.parametrize(("format", "group", "symmetric"), FORMATS)
class TestCodes:
    def test_floats_are_in_bounds(self, cpu, format, group, symmetric):
        for shape in ((1, 1), (17, 100), (40, 700)):
            w = MaskedCodes(shape, format, group, "", 0.6, symmetric=symmetric)
            layout, dense = w.apart(), w.quantized.dequantize()
            for dtype in DTYPES[:2]:
                for rows in (1, 3, 9, 33):
                    x = random_input(rows, shape[1], dtype)
                    y = ops.by_layout(x, layout, shape[0], None, "")
                    assert_close(y, x, as_multiplied(dense, x), note=(shape, dtype, rows))

    def test_what_is_masked_contributes_nothing(self, cpu, format, group, symmetric):
        w = MaskedCodes((20, 96), format, group, "", 0.6, symmetric=symmetric)
        mask = strop.unpack_mask(w.bits, 96)
        for rows in (1, 9, 30):
            x = random_input(rows, 96)
            clean = ops.by_layout(x, w.apart(), 20, None, "")
            x[0, 7] = torch.inf
            y = ops.by_layout(x, w.apart(), 20, None, "")
            assert_same_bits(y[1:], clean[1:])
            assert_same_bits(y[0, ~mask[:, 7]], clean[0, ~mask[:, 7]])
            nothing = w.quantized.dequantize()[:, 7] == 0
            assert not y[0, mask[:, 7] & ~nothing].isfinite().any()

    def test_takes_the_memory_of_what_is_kept(self, format, group, symmetric):
        w = MaskedCodes((512, 512), format, group, "", 0.75, symmetric=symmetric)
        bytes_of = 4 if w.format.bits <= 4 else 8
        scales = w.scale.numel() * (9 if w.zero is not None else 4)
        codes = 512 * 512 * (0.25 * bytes_of + 1) / 8
        assert w.apart().numel() < 1.1 * codes + scales + 8192


class TestChecks:
    def made(self):
        w = MaskedCodes((20, 96), "int8", None, "int8", 0.6, symmetric=True)
        return w.apart()

    def test_a_layout_is_checked(self):
        _C.check_layout(self.made().numpy(), 20, 96)

    def test_every_word_that_is_altered_is_found_or_harmless(self):
        layout, x, found = self.made(), random_input(3, 96), 0
        words = layout.numel() // 8
        for place in range(words):
            altered = layout.clone()
            altered[: words * 8].view(torch.int64)[place] ^= 0x0101010101010101
            try:
                _C.check_layout(altered.numpy(), 20, 96)
            except ValueError:
                found += 1
                continue
            ops.by_layout(x, altered, 20, None, "")
        assert found > 20  # the header, what counts, and where panels begin

    @pytest.mark.parametrize(
        ("bits", "message"),
        [
            (torch.zeros(20, 11, dtype=torch.uint8), r"bits has shape \[20, 11\]"),
            (torch.zeros(20, 12, dtype=torch.int8), "bits has dtype int8"),
        ],
    )
    def test_bits_that_do_not_fit(self, bits, message):
        codes, scale = torch.zeros(20, 96, dtype=torch.uint8), torch.ones(20, 1)
        with pytest.raises(RuntimeError, match=message):
            ops.codes_layout(codes, scale, None, 96, "int8", "int8", bits)


class TestPackedWeights:
    def test_bytes_are_kept_apart_where_that_gains(self, monkeypatch):
        weight = torch.randn(64, 96, generator=generator())
        mask, x = kept((64, 96), 0.7), random_input(5, 96)
        made = {}
        for isa in ("avx2", "avx512_vnni"):
            monkeypatch.setattr(_C, "isa", lambda isa=isa: isa)
            made[isa] = strop.pack_weight(weight, mask, format="int8", activations="int8")
            four = strop.pack_weight(weight, mask, format="int4", activations="int8")
            assert "zeros between codes" in four.plan()
        plain, apart = made.values()
        assert (plain.apart, apart.apart) == (False, True)
        assert "zeros between codes" in plain.plan()
        assert "bits and codes" in apart.plan()
        assert apart.layout.numel() < plain.layout.numel()
        assert_same_bits(strop.packed_linear(x, apart), strop.packed_linear(x, plain))
        apart.codes.fill_(0)
        assert not strop.packed_linear(x, apart).any()
