"""Plans of exact codes: the kernels, those of another set, or the dense weight made anew in each call."""

import json

import pytest
import torch

import strop
from linear.problems import generator
from strop._linear import machine_costs, planning, plans
from strop._linear.coded_weight import BY_KERNELS
from strop._linear.timed_weight import TimedWeight

FORMATS = ("int8", "uint4", "nf4", "float8_e4m3fn", "mxfp4", "nvfp4")
UNPACK = (plans.NUMBER_OF["unpack"],) * len(plans.CLASSES)
SHAPE = (24, 96)


def packed(format="int8", dtype=torch.float32, methods=None, **options):
    weight = torch.randn(SHAPE, generator=generator()).to(dtype)
    w = strop.pack_weight(weight, format=format, **options)
    return w if methods is None else w.beside({"methods": methods})


def rows_of(count, dtype=torch.float32):
    return torch.randn(count, SHAPE[1], generator=generator(count)).to(dtype)


def written(path, **factors):
    """Factors of codes, the same for every place and class."""
    row = [1.0] * len(plans.CLASSES)
    group = {m: dict.fromkeys(plans.PLACES, [f] * len(row)) for m, f in factors.items()}
    path.write_text(json.dumps(dict.fromkeys(("codes", "codes, 16 bits"), group)))


class TestUnpack:
    @pytest.mark.parametrize("format", FORMATS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_the_product_with_the_restored_weight(self, format, dtype):
        w, x = packed(format, dtype, UNPACK), rows_of(17, dtype)
        bias = torch.randn(SHAPE[0], generator=generator(1)).to(dtype)
        expected = torch.relu(torch.nn.functional.linear(x, w.to_dense(), bias))
        assert torch.equal(strop.packed_linear(x, w, bias, activation="relu"), expected)
        out = torch.empty(17, SHAPE[0], dtype=dtype)
        assert strop.packed_linear(x, w, bias, activation="relu", out=out) is out
        assert torch.equal(out, expected)

    def test_float16_has_weights_beyond_its_range(self):
        big = torch.full(SHAPE, 1e6)
        w = strop.pack_weight(big, format="int8").beside(
            {"methods": UNPACK, "dtype": torch.float16}
        )
        x = torch.full((9, SHAPE[1]), 1e-4, dtype=torch.float16)
        assert torch.allclose(strop.packed_linear(x, w), torch.tensor(9600.0).half(), rtol=1e-2)

    def test_where_the_plan_says_so(self):
        mixed = (*BY_KERNELS[:4], *UNPACK[4:])
        w, by_kernels = packed("nf4", methods=mixed), packed("nf4")
        for rows, unpacks in ((1, False), (16, False), (17, True), (200, True)):
            x = rows_of(rows)
            dense = torch.nn.functional.linear(x, w.to_dense())
            expected = dense if unpacks else strop.packed_linear(x, by_kernels)
            assert torch.equal(strop.packed_linear(x, w), expected)
        assert w.method_names() == ["codes"] * 4 + ["unpack"] * 3
        assert "unpack" in w.plan()

    def test_a_plan_is_for_one_dtype_of_input(self):
        w, x = packed(methods=UNPACK), rows_of(20, torch.bfloat16)
        assert torch.equal(strop.packed_linear(x, w), strop.packed_linear(x, packed()))

    def test_transforms(self, compiled_product):
        w, x = packed(methods=UNPACK), rows_of(12)
        expected = strop.packed_linear(x, w)
        assert torch.equal(compiled_product(x, w), expected)
        batched = torch.vmap(lambda row: strop.packed_linear(row, w))(x.view(3, 4, -1))
        torch.testing.assert_close(batched.view_as(expected), expected)
        given = x.clone().requires_grad_()
        strop.packed_linear(given, w).sum().backward()
        torch.testing.assert_close(given.grad, w.to_dense().sum(0).expand_as(x))

    def test_follows_writes(self):
        w, x = packed(methods=UNPACK), rows_of(12)
        before = strop.packed_linear(x, w)
        w.scale.mul_(2)
        torch.testing.assert_close(strop.packed_linear(x, w), 2 * before)
        assert w.methods == UNPACK

    def test_errors(self):
        w = packed(methods=UNPACK)
        with pytest.raises(ValueError, match="strop.packed_linear: input has shape"):
            strop.packed_linear(torch.ones(12, 95), w)
        with pytest.raises(ValueError, match="methods, the plan is"):
            w._with({"methods": (plans.NUMBER_OF["quads"],) * 7})
        with pytest.raises(ValueError, match="methods, the plan is"):
            w._with({"methods": UNPACK[:3]})
        with pytest.raises(ValueError, match="plan_source is 'dense'"):
            w._with({"plan_source": "dense"})


class TestPlanned:
    def test_by_this_machines_costs(self, kept):
        written(kept, unpack=0.5)
        assert packed().method_names() == ["codes"] * 3 + ["unpack"] * 4
        assert packed(rows=1).methods == BY_KERNELS
        assert "costs of this machine" in packed().plan()

    @pytest.mark.parametrize("factor", [0.95, 1.0, 3.0])
    def test_by_kernels_unless_another_way_gains(self, kept, factor):
        written(kept, unpack=factor)
        assert packed().methods == BY_KERNELS

    def test_where_there_is_no_other_way(self, kept):
        written(kept, unpack=0.1)
        assert packed(activations="int8").methods == BY_KERNELS
        assert packed(plan="packed").methods == BY_KERNELS
        assert packed(dtype=torch.float16).methods == BY_KERNELS
        assert packed().to("meta").methods == BY_KERNELS

    def test_off(self, monkeypatch):
        monkeypatch.setattr(machine_costs, "measured", None)  # which would fail
        assert packed().methods == BY_KERNELS

    @pytest.mark.parametrize("gains", [True, False])
    def test_by_trying(self, monkeypatch, gains):
        def medians(calls, **options):
            for call in calls:
                call()
            return [1.0] * (len(calls) - 1) + [0.5 if gains else 0.97]

        monkeypatch.setattr(planning, "medians", medians)
        monkeypatch.setattr(plans, "_WIDER", ())
        w = packed("nf4", plan="measure")
        assert w.method_names() == ["codes"] * 3 + ["unpack" if gains else "codes"] * 4
        assert w.plan_source == "measure"

    def test_costs_are_measured(self):
        found = machine_costs.measured("codes")
        assert machine_costs._is_whole(found)
        assert found["unpack"]["near"][6] != 1
        assert all(0.01 < f < 1000 for row in found["unpack"].values() for f in row)

    def test_another_dtype_has_another_plan(self, kept):
        written(kept, unpack=0.5)
        w = packed()
        assert w.to(torch.float16).methods == BY_KERNELS
        assert w.to(torch.float16).to(torch.bfloat16).methods == w.methods

    def test_loaded_anew_unless_forced(self, kept):
        written(kept, unpack=0.5)
        auto, forced = packed(), packed(plan="packed")
        states = [w.state_dict() for w in (auto, forced)]
        again = [strop.PackedWeight.from_state_dict(state) for state in states]
        assert [w.methods for w in again] == [auto.methods, forced.methods]
        written(kept, unpack=2.0)
        machine_costs._known.clear()
        again = [strop.PackedWeight.from_state_dict(state) for state in states]
        assert [w.methods for w in again] == [BY_KERNELS] * 2
        assert [w.plan_source for w in again] == ["auto", "packed"]

    def test_an_unknown_plan(self):
        w = packed()
        with pytest.raises(ValueError, match="strop.PackedWeight: the plan is .* unknown"):
            type(w).of_facts(w.held(), w.shape, w.facts() | {"plan": "dense"})


@pytest.mark.skipif("avx2" not in strop.supported_isas(), reason="the processor has no AVX2")
class TestOtherSets:
    """Kernels of AVX2, where a set that extends it is in force; here of itself, or of a wider one."""

    @pytest.fixture(autouse=True)
    def wider(self, monkeypatch):
        monkeypatch.setattr(plans, "_WIDER", (*plans._WIDER, strop.isa()))

    @pytest.fixture
    def by_avx2(self):
        before = strop.isa()
        yield lambda: strop.set_isa("avx2")
        strop.set_isa(before)

    @pytest.mark.parametrize("method", list(plans.BY_AVX2))
    @pytest.mark.parametrize("rows", [1, 9, 40])
    def test_are_those_kernels(self, by_avx2, compiled_product, method, rows):
        dense, x = torch.randn(SHAPE, generator=generator()), rows_of(rows)
        if plans.FORM_OF[method] == "codes":
            made = TimedWeight(SHAPE, x.dtype, lambda _: packed().layout)
            w = packed(methods=(plans.NUMBER_OF[method],) * 7)
        else:
            kept = dense.abs() > 1
            bits, values = strop._linear.ops.pack_masked(dense, kept)
            made = TimedWeight.masked(bits, values, SHAPE, x.dtype)
            methods = (plans.NUMBER_OF[method],) * 7
            w = type(strop.pack_weight(dense, kept)).prepared(
                bits, values, SHAPE, methods=methods, plan_source="packed", backward=False
            )
        in_eager = strop.packed_linear(x, w)
        in_graph = compiled_product(x, w)
        out = strop.packed_linear(x, w, out=torch.empty_like(in_eager))
        by_avx2()
        assert torch.equal(
            made.call(method, rows)(), made.call(method.removesuffix("-avx2"), rows)()
        )
        expected = strop.packed_linear(x, w)
        for found in (in_eager, in_graph, out):
            assert torch.equal(found, expected)

    def test_are_candidates(self, monkeypatch):
        assert plans.candidates(0) == ("mask", "quads", "mask-avx2", "quads-avx2")
        assert plans.candidates_of_codes(0, torch.float32) == ("codes", "codes-avx2")
        monkeypatch.setattr(plans, "_WIDER", ())
        assert plans.candidates(0) == ("mask", "quads")

    def test_are_chosen_where_they_gain(self, kept):
        written(kept, **{"unpack": 2.0, "codes-avx2": 0.5})
        assert packed().method_names() == ["codes-avx2"] * 7
        row = [1.0] * 7
        places = {m: dict.fromkeys(plans.PLACES, row) for m in (*plans.LAYOUTS, "dense")}
        places["quads-avx2"] = dict.fromkeys(plans.PLACES, [0.2] * 7)
        kept.write_text(json.dumps({"32 bits": places}))
        machine_costs._known.clear()
        costs = plans.Costs((512, 512), 25000, torch.float32, torch.float32)
        found = planning.planned_by_costs(costs, range(7), packed_only=True)
        assert {plans.METHOD_OF[n] for n in found} == {"quads-avx2"}

    def test_are_none_where_the_set_in_force_is_narrower(self, by_avx2):
        w, x = packed(methods=(plans.NUMBER_OF["codes-avx2"],) * 7), rows_of(9)
        strop.set_isa("baseline")
        assert torch.equal(strop.packed_linear(x, w), strop.packed_linear(x, packed()))

    def test_a_plan_moves_to_a_gpu_as_another(self):
        from strop._linear.masked_layouts import fits

        methods = (plans.NUMBER_OF["quads-avx2"],) * 7
        assert not fits(methods, torch.device("cuda"))
        assert fits(methods, torch.device("cpu"))


class TestMasked:
    """A mask beside a format: values of what stayed, or codes with zeros between them."""

    def packed(self, format="int8", **options):
        weight = torch.randn(SHAPE, generator=generator())
        return weight, strop.pack_weight(weight, weight.abs() > 0.5, format=format, **options)

    @pytest.mark.parametrize("format", ["int8", "nf4", "mxfp4", "uint4"])
    def test_codes_where_they_are_faster(self, kept, format):
        written(kept, codes=0.1, unpack=2.0)
        weight, w = self.packed(format, symmetric="u" not in format)
        assert w.method_names() == ["codes"] * 7
        assert w.nnz == int((weight.abs() > 0.5).sum())
        assert not w.to_dense()[weight.abs() <= 0.5].count_nonzero()
        state = w.state_dict()
        assert {"bits", "codes", "scale"} <= set(state)
        again = strop.PackedWeight.from_state_dict(state)
        for rows in (1, 7, 40):
            x = rows_of(rows)
            y = strop.packed_linear(x, w)
            assert torch.equal(strop.packed_linear(x, again), y)
            expected = (x.double() @ w.to_dense().double().T).float()
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)

    def test_values_elsewhere(self, kept):
        written(kept, codes=2.0, unpack=2.0)
        assert "codes" not in self.packed()[1].method_names()
        written(kept, codes=0.1, unpack=2.0)
        machine_costs._known.clear()
        assert self.packed(plan="dense")[1].method_names() == ["dense"] * 7

    def test_values_where_no_code_is_0(self, kept):
        written(kept, codes=0.1, unpack=2.0)
        weight = torch.randn(SHAPE, generator=generator())
        scale, zero = torch.full((24, 1), 20.0), torch.full((24, 1), 0.5)
        q = strop.quantize(weight, scale, zero, format="int8", block_size=(1, -1))
        w = strop.pack_weight(q, weight.abs() > 0.5)
        assert "codes" not in w.method_names()
        assert not w.to_dense()[weight.abs() <= 0.5].count_nonzero()
