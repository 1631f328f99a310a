"""Pruned weights of bfloat16 and float16, and inputs of these: values, plans, gradients, autocast."""

import copy

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits, to_array, to_tensor
from linear.problems import (
    CPU_DEVICES,
    LAYOUTS,
    altered,
    assert_close,
    choices_of,
    generator,
    kept,
    multiplied,
    pruned,
)
from strop import _C
from strop._linear import ops, planning, plans
from strop._linear.masked_weight import MaskedWeight

NARROW = (torch.float32, torch.bfloat16, torch.float16)
SHORT = NARROW[1:]
PAIRS = [(v, v) for v in SHORT] + [(v, torch.float32) for v in SHORT]
PAIRS += [(torch.float32, torch.bfloat16), (torch.float16, torch.bfloat16)]


def name(dtype):
    return str(dtype).removeprefix("torch.")


@pytest.fixture(params=CPU_DEVICES, ids=repr)
def cpu(request):
    with request.param as device:
        yield device


@pytest.mark.parametrize(("values", "inputs"), PAIRS, ids=lambda d: name(d))
class TestAgainstFloat64:
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_shapes_and_rows(self, cpu, layout, values, inputs):
        for shape in [(1, 1), (3, 7), (17, 65), (37, 300), (130, 1029)]:
            for sparsity in (0.0, 0.6, 1.0):
                weight = pruned(shape, sparsity).to(values)
                bias = torch.randn(shape[0], generator=generator(3)).to(inputs)
                for rows in (1, 3, 17, 33):
                    x = torch.randn(rows, shape[1], generator=generator(rows)).to(inputs)
                    y = multiplied(x, weight, layout, bias)
                    assert y.dtype == inputs
                    assert_close(y, x, weight, bias, note=f"{shape} {sparsity} {rows} rows")

    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_blocks_and_activations(self, cpu, layout, values, inputs):
        weight = pruned((530, 600), 0.7, "blocks").to(values)
        for rows, activation in ((1, "gelu"), (5, "silu"), (40, "gelu_tanh"), (600, "relu")):
            x = torch.randn(rows, 600, generator=generator(rows)).to(inputs)
            y = multiplied(x, weight, layout, None, activation)
            assert_close(y, x, weight, None, activation, note=f"{rows} rows")

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("special", [torch.inf, -torch.inf, torch.nan])
    def test_what_is_pruned_contributes_nothing(self, cpu, layout, special, values, inputs):
        weight = pruned((37, 90), 0.6, "blocks")
        weight[:, 11] = 0
        weight = weight.to(values)
        for rows in (1, 5, 40):
            x = torch.randn(rows, 90, generator=generator(rows)).to(inputs)
            beside = x.clone()
            beside[:, 11] = special
            y, expected = (multiplied(v, weight, layout) for v in (beside, x))
            assert y.isfinite().all()
            assert_same_bits(y, expected)
            kept_special = weight.clone()
            kept_special[3, 5] = special
            assert not multiplied(x, kept_special, layout)[:, 3].isfinite().any()
            assert multiplied(x, kept_special, layout)[:, [0, 1, 2, 4]].isfinite().all()

    def test_strides_and_threads(self, values, inputs):
        weight = pruned((700, 300), 0.7).to(values)
        w = strop.pack_weight(weight, plan="packed")
        full = torch.randn(2, 30, 600, generator=generator()).to(inputs)
        bias = torch.randn(1400, generator=generator(2))[::2]  # (of yet another dtype)
        for x in (full[..., :300], full[..., ::2], full[:, ::3, 7:307], full[0, 0, 300:]):
            results = []
            before = torch.get_num_threads()
            for threads in (1, 3):
                torch.set_num_threads(threads)
                results.append(strop.packed_linear(x, w, bias))
            torch.set_num_threads(before)
            assert_same_bits(results[0], results[1])
            assert_close(results[0], x, weight, bias)

    def test_kernels_and_oracle_over_arrays(self, values, inputs):
        weight = to_array(pruned((31, 70), 0.6).to(values))
        x = to_array(torch.randn(9, 70, generator=generator()).to(inputs))
        bias = to_array(torch.randn(31, generator=generator(1)).to(values))
        plain = _C.masked_layout(weight, None, "mask")
        expected = to_tensor(_C.reference.packed_linear(x, plain, bias))
        assert expected.dtype == inputs
        for layout in LAYOUTS:
            made = _C.masked_layout(weight, None, layout)
            y = to_tensor(_C.cpu.packed_linear(x, made, bias))
            step = torch.finfo(inputs).eps
            assert torch.allclose(y.double(), expected.double(), rtol=step, atol=1e-5 + step)


class TestWeights:
    @pytest.mark.parametrize("dtype", SHORT, ids=name)
    def test_every_bit_pattern_is_kept(self, dtype):
        every = (
            torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype).reshape(256, 256)
        )
        w = strop.pack_weight(every, plan="packed")
        zero = every == 0  # -0 among them, which is not kept
        assert w.nnz == int((~zero).sum()) == (1 << 16) - 2
        held = w.to_dense().view(torch.int16)
        assert torch.equal(held, torch.where(zero, 0, every.view(torch.int16)))

    @pytest.mark.parametrize("dtype", SHORT, ids=name)
    def test_every_value_is_multiplied_as_it_is(self, cpu, dtype):
        every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(dtype)
        column = every[every.isfinite()][:, None]
        for layout in LAYOUTS:
            y = multiplied(torch.ones(1, 1), column, layout)[0]
            assert torch.equal(y, column[:, 0].float()), layout

    def test_dtype_of_the_values_alone(self):
        weight = pruned((64, 96), 0.8)
        w = strop.pack_weight(weight, dtype=torch.bfloat16, plan="packed")
        assert (w.dtype, w.input_dtype) == (torch.bfloat16, torch.float32)
        assert w.values.nbytes * 2 == strop.pack_weight(weight).values.nbytes
        assert "bfloat16 beside float32 input" in w.plan()
        x = torch.randn(9, 96, generator=generator())
        assert_close(strop.packed_linear(x, w), x, weight.bfloat16())
        assert w.quads.nbytes < strop.pack_weight(weight, plan="packed").quads.nbytes * 0.8

    @pytest.mark.parametrize("values", SHORT, ids=name)
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_state_dict(self, plan, values):
        w = strop.pack_weight(pruned((64, 96), 0.8), dtype=values, plan=plan, backward=True)
        again = MaskedWeight.from_state_dict(w.state_dict())
        for other in (again, copy.deepcopy(w)):
            assert (other.dtype, other.input_dtype) == (values, torch.float32)
            for rows in (1, 5, 200):
                x = torch.randn(rows, 96, generator=generator(rows))
                assert_same_bits(strop.packed_linear(x, other), strop.packed_linear(x, w))

    def test_moved_to_another_dtype(self):
        weight = pruned((64, 96), 0.8)
        w = strop.pack_weight(weight, plan="packed", backward=True)
        short = w.to(torch.bfloat16)
        assert (short.dtype, short.input_dtype) == (torch.bfloat16, torch.bfloat16)
        assert_same_bits(short.to_dense(), weight.bfloat16())
        assert short.back_quads is not None
        mixed = strop.pack_weight(weight, dtype=torch.bfloat16, plan="dense")
        assert mixed.dense.dtype == torch.float32
        assert mixed.to(torch.bfloat16).dense.dtype == torch.bfloat16
        wide = short.to(torch.float64)
        assert wide.methods == choices_of("mask")
        assert wide.to(torch.bfloat16).methods == short.methods

    def test_refused(self):
        w = strop.pack_weight(pruned((6, 9), 0.5), dtype=torch.bfloat16, plan="dense")
        fields = {n: getattr(w, n) for n in (*w.tensor_fields, *w.metadata_fields)}
        with pytest.raises(TypeError, match=r"dense is torch.float32, not torch.bfloat16"):
            MaskedWeight(**fields | {"input_dtype": torch.bfloat16})
        with pytest.raises(TypeError, match="input_dtype is torch.int32, beside values of"):
            MaskedWeight(**fields | {"input_dtype": torch.int32})
        with pytest.raises(TypeError, match="input_dtype is torch.float64, beside values of"):
            MaskedWeight(**fields | {"input_dtype": torch.float64})
        with pytest.raises(TypeError, match="dtype is torch.int8; float32, bfloat16"):
            w.to(torch.int8)

    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_float64_goes_with_float64_alone(self, plan):
        short = strop.pack_weight(pruned((6, 9), 0.5).bfloat16(), plan=plan)
        wide = strop.pack_weight(pruned((6, 9), 0.5).double(), plan=plan)
        x, bias = torch.randn(2, 9), torch.randn(6)
        text = "strop.packed_linear: input has dtype float64; beside values of bfloat16 float32, bf"
        with pytest.raises(TypeError, match=text):
            strop.packed_linear(x.double(), short)
        with pytest.raises(TypeError, match="input has dtype float32; beside values of float64 f"):
            strop.packed_linear(x, wide)
        with pytest.raises(TypeError, match="bias has dtype float64; beside values of bfloat16"):
            strop.packed_linear(x, short, bias.double())
        with pytest.raises(TypeError, match="bias has dtype float32; beside values of float64"):
            strop.packed_linear(x.double(), wide, bias)

    @pytest.mark.parametrize("name_of", LAYOUTS)
    def test_no_altered_layout_makes_a_kernel_read_elsewhere(self, name_of):
        w = strop.pack_weight(pruned((21, 40), 0.6, "blocks").to(torch.float16))
        layout = ops.layout(w.bits, w.values, 40, name_of).numpy()
        refused = 0
        x = torch.randn(19, 40).numpy()
        for forged in altered(layout):
            try:
                _C.check_layout(forged, 21, 40)
                result = _C.cpu.packed_linear(x, forged)
            except (ValueError, TypeError):  # (a layout of float64 is sound, x is not)
                refused += 1
                continue
            assert result.shape == (19, 21)
        assert refused > 200


class TestPlans:
    def test_dense_in_bfloat16_is_slow_without_its_arithmetic(self, monkeypatch):
        shape, nonzeros = (768, 768), 400_000
        costs = [
            plans.Costs(shape, nonzeros, torch.float32, torch.float32),
            plans.Costs(shape, nonzeros, torch.bfloat16, torch.bfloat16),
        ]
        entry = {k: v for k, v in plans._table()["avx2"].items() if "-" not in k}
        monkeypatch.setattr(plans, "_table", lambda: {"avx2": entry})
        monkeypatch.setattr(plans, "table_key", lambda: "avx2")
        monkeypatch.setattr(plans, "arithmetic", lambda dtype: "none")
        monkeypatch.setattr(plans, "EXPANDING", ())
        for number in range(1, len(plans.CLASSES)):
            ratios = [max(planning.ratios(c, number).values()) for c in costs]
            assert ratios[1] == pytest.approx(4 * ratios[0])
        # Nothing but the dense layer's slowness makes two thirds of the weights worth it.
        chosen = [planning.planned_by_costs(c, range(7), packed_only=False) for c in costs]
        assert [c.count(4) for c in chosen][0] > [c.count(4) for c in chosen][1]

    def test_measured_for_the_inputs_dtype(self):
        w = strop.pack_weight(
            pruned((256, 512), 0.95), dtype=torch.bfloat16, plan="measure", rows=[64]
        )
        assert w.input_dtype == torch.float32
        x = torch.randn(64, 512, generator=generator())
        assert_close(strop.packed_linear(x, w), x, w.to_dense())


@pytest.mark.parametrize("plan", ["packed", "dense"])
@pytest.mark.parametrize(("values", "inputs"), PAIRS, ids=lambda d: name(d))
class TestTorch:
    def packed(self, plan, values, inputs, **options):
        weight = pruned((24, 40), 0.8).to(inputs)
        return strop.pack_weight(weight, dtype=values, plan=plan, **options)

    def test_gradients(self, plan, values, inputs):
        for backward in (False, True):
            w = self.packed(plan, values, inputs, backward=backward)
            x = torch.randn(33, 40, generator=generator(1)).to(inputs).requires_grad_()
            bias = torch.randn(24, generator=generator(2)).requires_grad_()
            dy = torch.randn(33, 24, generator=generator(3)).to(inputs)
            y = strop.packed_linear(x, w, bias, activation="silu")
            dx, db = torch.autograd.grad(y, (x, bias), dy)
            assert (y.dtype, dx.dtype, db.dtype) == (inputs, inputs, torch.float32)
            wide = x.detach().double().requires_grad_(), bias.detach().double().requires_grad_()
            exact = nn.functional.silu(
                nn.functional.linear(wide[0], w.to_dense().double(), wide[1])
            )
            ex, eb = torch.autograd.grad(exact, wide, dy.double())
            rounding = max(torch.finfo(d).eps for d in (values, inputs))
            assert torch.allclose(dx.double(), ex, rtol=8 * rounding, atol=8 * rounding)
            assert torch.allclose(db.double(), eb, rtol=8 * rounding, atol=40 * rounding)

    def test_out(self, plan, values, inputs):
        w = self.packed(plan, values, inputs)
        x = torch.randn(5, 40, generator=generator()).to(inputs)
        out = torch.empty(5, 24, dtype=inputs)
        assert_same_bits(strop.packed_linear(x, w, out=out), strop.packed_linear(x, w))
        other = torch.float16 if inputs == torch.float32 else torch.float32
        with pytest.raises(TypeError, match="out has dtype"):
            strop.packed_linear(x, w, out=out.to(other))

    def test_inputs_of_another_dtype_than_planned(self, plan, values, inputs):
        w = self.packed(plan, values, inputs)
        for dtype in NARROW:
            x = torch.randn(5, 40, generator=generator()).to(dtype)
            y = strop.packed_linear(x, w, activation="relu")
            assert y.dtype == dtype
            rounding = max(torch.finfo(d).eps for d in (inputs, dtype))
            expected = torch.relu(x.double() @ w.to_dense().double().t())
            assert torch.allclose(y.double(), expected, rtol=4 * rounding, atol=16 * rounding)

    def test_compiled(self, plan, values, inputs):
        w = self.packed(plan, values, inputs)
        torch.compiler.reset()  # (each dtype is another graph of the same code)
        call = lambda x: strop.packed_linear(x, w) + 1  # noqa: E731
        compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
        x = torch.randn(5, 40, generator=generator()).to(inputs)
        y = compiled(x)
        assert y.dtype == inputs
        assert torch.allclose(y.float(), strop.packed_linear(x, w).float() + 1, atol=0.1)

    def test_opcheck(self, plan, values, inputs):
        w = self.packed(plan, values, inputs)
        tensors = (w.bits, w.values, w.quads, w.pairs, w.panels, w.dense, None, None, w.starts)
        x = torch.randn(5, 40, generator=generator()).to(inputs).requires_grad_()
        call = (x, *tensors, list(w.methods), torch.randn(24), "")
        torch.library.opcheck(torch.ops.strop.packed_linear.masked, call)


class TestAutocast:
    @pytest.mark.parametrize("plan", ["packed", "dense"])
    @pytest.mark.parametrize("dtype", SHORT, ids=name)
    def test_casts_as_linear(self, plan, dtype):
        weight = pruned((24, 40), 0.8)
        w = strop.pack_weight(weight, plan=plan)
        bias = torch.randn(24, generator=generator(1)).requires_grad_()
        x = torch.randn(7, 40, generator=generator(2)).requires_grad_()
        with torch.autocast("cpu", dtype=dtype):
            y = strop.packed_linear(x, w, bias)
            expected = nn.functional.linear(x, weight, bias)
            with torch.no_grad():
                again = strop.packed_linear(x, w, bias)
        assert y.dtype == again.dtype == expected.dtype == dtype
        tolerance = 16 * torch.finfo(dtype).eps
        assert torch.allclose(y, expected, rtol=tolerance, atol=tolerance)
        assert torch.allclose(again, expected, rtol=tolerance, atol=tolerance)
        dx, db = torch.autograd.grad(y.float().sum(), (x, bias))
        assert dx.dtype == db.dtype == torch.float32
        assert torch.allclose(dx, weight.sum(0).expand(7, 40), rtol=tolerance, atol=tolerance)

    def test_compiled(self):
        w = strop.pack_weight(pruned((24, 40), 0.8), plan="packed")

        def call(x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return strop.packed_linear(x, w)

        x = torch.randn(7, 40, generator=generator())
        y = torch.compile(call, fullgraph=True)(x)
        assert y.dtype == torch.bfloat16
        assert_same_bits(y, call(x))

    def test_a_mask_beside_autocast(self):
        weight = torch.randn(24, 40, generator=generator())
        mask = kept((24, 40), 0.8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            w = strop.pack_weight(weight, mask, plan="packed")
        assert w.dtype == torch.float32
