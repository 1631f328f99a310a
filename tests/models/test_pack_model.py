"""strop.pack_model: what becomes packed, by which mask, for which rows; its report and errors."""

import json

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import strop
from core.devices import assert_same_bits
from models.problems import (
    assert_same_function,
    assert_unchanged,
    batch,
    net,
    packed_names,
    prune_in_place,
    reasons,
    state_of,
    twin,
)
from strop._linear.dense_ways import can_prepack

LAYERS = ["0", "2", "4"]


class TestMasks:
    def test_zeros(self):
        model = prune_in_place(net())
        reference = twin(model)
        report = strop.pack_model(model, only_if_faster=False)
        assert packed_names(model) == LAYERS
        for rows in (1, 7, 60):
            assert_same_function(model, reference, batch(rows, 48))
        entry = report.to_dict()["layers"][0]
        zeros = float((reference[0].weight == 0).float().mean())
        assert entry["sparsity"] == pytest.approx(zeros)
        assert model[0].bias is not reference[0].bias
        assert [name for name, _ in model.named_parameters()] == [
            "0.bias", "2.bias", "3.weight", "3.bias", "4.bias",
        ]  # fmt: skip

    def test_by_sparsity_as_prune_masks(self):
        model, reference = net(), prune_in_place(net(), 0.7)
        report = strop.pack_model(model, sparsity=0.7, only_if_faster=False)
        assert_same_function(model, reference, batch(5, 48))
        for name in LAYERS:
            weight = model.get_submodule(name).weight.to_dense()
            assert torch.equal(weight, reference.get_submodule(name).weight)
        assert report.to_dict()["totals"]["sparsity"] == pytest.approx(0.7, abs=1e-4)

    @pytest.mark.parametrize("pattern", ["2:4", (4, 4)])
    def test_by_pattern(self, pattern):
        model, reference = net(), net()
        sparsity = None if pattern == "2:4" else 0.75
        masks = strop.prune_masks(reference, sparsity=sparsity, pattern=pattern)
        strop.pack_model(model, sparsity=sparsity, pattern=pattern, only_if_faster=False)
        expected = reference[2].weight * masks["2.weight"]
        assert torch.equal(model[2].weight.to_dense(), expected)

    def test_given(self):
        model, reference = net(), net()
        masks = strop.prune_masks(reference, sparsity=0.6)
        del masks["2.weight"]
        report = strop.pack_model(model, masks=masks)
        assert reasons(report)["2"] == "nothing of it is pruned"
        for name in ("0", "4"):
            module = model.get_submodule(name)
            kept = module.weight.to_dense() if name in packed_names(model) else module.weight
            assert torch.equal(kept, reference.get_submodule(name).weight * masks[f"{name}.weight"])

    def test_given_for_a_layer_that_is_left_alone(self):
        model, reference = net(), net()
        masks = strop.prune_masks(model, sparsity=0.6)
        strop.pack_model(model, masks=masks, filter=lambda name, _: name != "2")
        assert type(model[2]) is nn.Linear
        assert torch.equal(model[2].weight, reference[2].weight * masks["2.weight"])

    def test_of_torch_prune(self):
        model = net()
        for name in LAYERS:
            prune.l1_unstructured(model.get_submodule(name), "weight", 0.9)
        prune.random_unstructured(model[2], "bias", 0.5)
        expected = model(batch(5, 48))
        strop.pack_model(model, only_if_faster=False, filter=lambda name, _: name != "4")
        assert packed_names(model) == ["0", "2"]
        assert torch.allclose(model(batch(5, 48)), expected, rtol=1e-4, atol=2e-5)
        assert prune.is_pruned(model[4])  # which was not to be touched
        assert not prune.is_pruned(model[2])
        assert sorted(model[2].state_dict()) == ["bias", "bits", "plan", "shape", "values"]

    def test_of_torch_prune_where_dense_is_faster(self, monkeypatch):
        monkeypatch.setattr(strop._linear.planning, "_LEAST_GAIN", 1e9)
        monkeypatch.setattr(strop._linear.planning, "_LEAST_GAIN_ONE", 1e9)
        model = nn.Sequential(nn.Linear(512, 512))
        prune.l1_unstructured(model[0], "weight", 0.02)
        expected = model[0].weight_orig * model[0].weight_mask
        report = strop.pack_model(model)
        assert reasons(report) == {"0": "dense is faster, by its costs"}
        assert type(model[0]) is nn.Linear
        assert not prune.is_pruned(model)
        assert torch.equal(model[0].weight, expected)
        assert isinstance(model[0].weight, nn.Parameter)

    def test_filter(self):
        seen = []

        def chosen(name, module):
            seen.append((name, type(module)))
            return name != "2"

        model = prune_in_place(net())
        report = strop.pack_model(model, filter=chosen, only_if_faster=False)
        assert seen == [(name, nn.Linear) for name in LAYERS]
        assert packed_names(model) == ["0", "4"]
        assert reasons(report) == {"2": "not chosen by filter"}


class TestPlans:
    def test_without_inputs_the_table_decides(self):
        model = nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 512), nn.Linear(512, 512))
        strop.pack_model(model, masks=strop.prune_masks(model, sparsity=0.9))
        assert packed_names(model) == ["0", "1", "2"]
        assert model[0].packed.plan_source == "auto"

    @pytest.mark.parametrize("when", ["planning", "compared on the rows that were seen"])
    def test_dense_where_that_is_faster(self, when, monkeypatch):
        def medians(calls, **_):
            planning = calls[0].__module__ == "strop._linear.pack_masked"
            dense = 1e-3 if planning == (when == "planning") else 3e-3
            ways = 2 if planning and can_prepack(torch.float32) else 1
            return [2e-3] * (len(calls) - ways) + [dense] * ways

        for module in (strop._linear.plans, strop._linear.planning):
            monkeypatch.setattr(module, "medians", medians)
        model = prune_in_place(net())
        reference = twin(model)
        found = reasons(strop.pack_model(model, batch(64, 48)))
        assert list(found) == LAYERS
        assert all(reason.startswith("dense is faster (measured: ") for reason in found.values())
        assert type(model[1]) is nn.GELU  # which nothing took over
        pairs = zip(model.parameters(), reference.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)

    def test_measured_on_the_rows_that_were_seen(self, one_thread):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512))
        prune_in_place(model, 0.97)
        report = strop.pack_model(model, batch(3, 7, 512)).to_dict()
        assert [entry["rows"] for entry in report["layers"]] == [[21], [21]]
        for entry in report["layers"]:
            assert entry["plan"] == "measure"
            (timing,) = entry["timings"]
            assert timing["rows"] == 21
            assert 0 < timing["planned_ms"] < timing["dense_ms"] < 1e3
        weight = model[0].packed
        assert (weight.pairs is None) != (
            weight.quads is None
        )  # what other rows would have had too
        assert report["totals"]["dense_ms"] > report["totals"]["planned_ms"]

    @pytest.mark.parametrize("plan", ["auto", "packed", "dense", "measure"])
    def test_named(self, plan):
        model = prune_in_place(net())
        strop.pack_model(model, plan=plan, only_if_faster=False)
        assert {model.get_submodule(name).packed.plan_source for name in LAYERS} == {plan}

    def test_dtype(self):
        model = prune_in_place(net()).double()
        reference = twin(model)
        strop.pack_model(model, only_if_faster=False)
        assert model[0].packed.dtype == torch.float64
        x = batch(5, 48).double()
        assert torch.allclose(model(x), reference(x))
        narrow = prune_in_place(net()).double()
        strop.pack_model(narrow, only_if_faster=False, dtype=torch.float32)
        assert {narrow[i].packed.dtype for i in (0, 2, 4)} == {torch.float32}

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("of_model", [True, False])
    def test_half(self, dtype, of_model):
        model = prune_in_place(net())
        model = model.to(dtype) if of_model else model
        reference = twin(model)
        strop.pack_model(model, only_if_faster=False, dtype=None if of_model else dtype)
        assert {model[i].packed.dtype for i in (0, 2, 4)} == {dtype}
        x = batch(5, 48).to(dtype if of_model else torch.float32)
        with torch.no_grad():
            assert model(x).dtype == x.dtype
            assert (model(x) - reference(x)).abs().max() < 0.05
        again = strop.load_packed(net().to(x.dtype), model.state_dict())
        assert_same_bits(again(x), model(x))


class TestInputs:
    def test_tuple_dict_and_module_modes(self):
        class Two(nn.Module):
            def __init__(self):
                super().__init__()
                self.body, self.drop, self.norm = net(), nn.Dropout(), nn.BatchNorm1d(32)
                self.modes = []

            def forward(self, x, y, *, scale=1.0):
                self.modes.append((self.training, torch.is_grad_enabled()))
                return self.norm(self.drop(self.body(x + y) * scale))

        for inputs in (
            (batch(6, 48), batch(6, 48)),
            {"x": batch(6, 48), "y": batch(6, 48), "scale": 2},
        ):
            model = prune_in_place(Two().train())
            model.body[3].eval()
            before = torch.get_rng_state()
            report = strop.pack_model(model, inputs, only_if_faster=False)
            assert torch.equal(torch.get_rng_state(), before)
            assert {tuple(entry["rows"]) for entry in report.to_dict()["layers"]} == {(6,)}
            assert set(model.modes) == {(False, False)}
            assert model.training
            assert model.body[0].training
            assert not model.body[3].training
            assert int(model.norm.num_batches_tracked) == 0
            assert torch.backends.mha.get_fastpath_enabled()

    def test_layers_that_were_not_called(self):
        class Reads(nn.Module):
            def __init__(self):
                super().__init__()
                self.read, self.called = nn.Linear(48, 48), nn.Linear(48, 16)

            def forward(self, x):
                return self.called(nn.functional.linear(x, self.read.weight, self.read.bias))

        for only_if_faster in (True, False):
            model = prune_in_place(Reads())
            reference = twin(model)
            report = strop.pack_model(model, batch(2, 48), only_if_faster=only_if_faster)
            assert reasons(report)["read"] == "example_inputs gave it no rows"
            assert_same_function(model, reference, batch(2, 48))

    def test_empty_batch(self):
        model = prune_in_place(net())
        report = strop.pack_model(model, batch(0, 48))
        assert set(reasons(report).values()) == {"example_inputs gave it no rows"}

    def test_nested(self):
        model = prune_in_place(net(activation=nn.ReLU)[:3])
        x = torch.nested.nested_tensor([batch(3, 48), batch(5, 48)], layout=torch.jagged)
        report = strop.pack_model(model, x, only_if_faster=False).to_dict()
        assert [entry["rows"] for entry in report["layers"]] == [[8], [8]]


class TestReport:
    def test_figures(self, tmp_path):
        model = prune_in_place(net())
        report = strop.pack_model(
            model, batch(9, 48), only_if_faster=False, filter=lambda n, _: n != "2"
        )
        found = json.loads(json.dumps(report.to_dict()))
        assert [entry["name"] for entry in found["layers"]] == ["0", "4"]
        first, totals = found["layers"][0], found["totals"]
        weight = model[0].packed
        assert first["shape"] == [64, 48]
        assert first["dense_bytes"] == 4 * 64 * 48
        assert first["memory_bytes"] == weight.nbytes
        assert first["saved_bytes"] == sum(t.nbytes for t in weight.state_dict().values())
        assert first["activation"] == "gelu"
        assert list(first["methods"]) == [
            "1", "2 to 4", "5 to 8", "9 to 16", "17 to 32", "33 to 128", "129 and more",
        ]  # fmt: skip
        assert first["methods"]["9 to 16"] == "quads"
        assert totals["dense_bytes"] == 4 * (64 * 48 + 64 * 32)
        assert totals["left_alone_bytes"] == 4 * 64 * 64
        text = str(report)
        assert "Packed: 2 layers" in text
        assert "+ gelu" in text
        assert "Left alone: 1 layer, 16.4 kB" in text
        assert "not chosen by filter" in text
        assert repr(report) == "<strop.Report: 2 layers packed, 1 left alone>"
        report.plot(tmp_path / "report.png")
        assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")

    def test_measured(self, tmp_path, one_thread):
        torch.manual_seed(0)
        model = prune_in_place(nn.Sequential(nn.Linear(512, 1024), nn.Linear(1024, 512)), 0.95)
        report = strop.pack_model(model, batch(40, 512))
        assert "now, ms" in str(report)
        report.plot(tmp_path / "report.svg")
        assert "ms, for the rows" in (tmp_path / "report.svg").read_text()

    def test_nothing(self, tmp_path):
        report = strop.pack_model(nn.Sequential(nn.ReLU()))
        assert str(report) == "no linear layers"
        assert report.to_dict()["layers"] == []
        with pytest.raises(ValueError, match="no layer became packed"):
            report.plot(tmp_path / "report.png")


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "text", "options"),
        [
            (ValueError, "masks and sparsity are both given", {"masks": {}, "sparsity": 0.5}),
            (ValueError, "masks and pattern are both given", {"masks": {}, "pattern": "2:4"}),
            (ValueError, "sparsity", {"sparsity": 1.5}),
            (ValueError, "pattern", {"pattern": "2:5:3"}),
            (TypeError, "masks is a list; a dict", {"masks": []}),
            (ValueError, "masks has 'x', which is no weight", {"masks": {"x": torch.ones(1) > 0}}),
            (ValueError, "masks has '3.weight', which is no weight", {"masks": {"3.weight": torch.ones(64) > 0}}),
            (TypeError, "float32 for '0.weight'; a bool", {"masks": {"0.weight": torch.ones(64, 48)}}),
            (ValueError, r"shape \[2, 2\] for '0.weight' of \[64, 48\]", {"masks": {"0.weight": torch.eye(2) > 0}}),
            (TypeError, "filter is a str", {"filter": "0"}),
            (ValueError, "plan is 'fast'; auto", {"plan": "fast"}),
            (TypeError, "'0': .*dtype", {"dtype": torch.int8, "sparsity": 0.5}),
            (TypeError, "example_inputs is a int; a tensor", {"example_inputs": 3}),
        ],
    )  # fmt: skip
    def test_leave_the_model_as_it_was(self, kind, text, options):
        model = net().train()
        before = state_of(model)
        with pytest.raises(kind, match=text):
            strop.pack_model(model, **options)
        assert_unchanged(model, before)

    def test_where_the_model_cannot_run(self):
        model = prune_in_place(net())
        before = state_of(model)
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            strop.pack_model(model, batch(3, 47))
        assert_unchanged(model, before)
        assert torch.backends.mha.get_fastpath_enabled()

    def test_of_the_model(self):
        with pytest.raises(ValueError, match="model is an nn.Linear, .*PackedLinear.from_dense"):
            strop.pack_model(nn.Linear(4, 4))
        with pytest.raises(TypeError, match="model is a dict; a torch.nn.Module"):
            strop.pack_model({})
        with pytest.raises(ValueError, match="'0' is on meta"):
            strop.pack_model(nn.Sequential(nn.Linear(4, 4, device="meta")))

    def test_torch_prune_and_more(self):
        model = net()
        prune.l1_unstructured(model[2], "weight", 0.5)
        before = state_of(model)
        with pytest.raises(
            ValueError, match="'2' has a mask of torch.nn.utils.prune; give neither"
        ):
            strop.pack_model(model, sparsity=0.5)
        with pytest.raises(
            ValueError, match="'2.weight_orig', which has a mask of torch.nn.utils.prune"
        ):
            strop.pack_model(model, masks={"2.weight_orig": torch.ones(64, 64) > 0})
        assert_unchanged(model, before)
