"""strop.pack_model with formats: what is packed as what, what it changes, what is taken as it is."""

import copy
import io
import math

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from models.problems import batch, layers, net, packed_names, reasons, twin

LAYERS = ["0", "2", "4"]


def dequantized(model):
    """The same function of dense layers with the weights that the codes stand for."""
    return strop.densify(copy.deepcopy(model))


class TestFormats:
    @pytest.mark.parametrize("format", ["int8", "nf4", "mxfp8"])
    def test_exact(self, format):
        model = net()
        report = strop.pack_model(model, batch(5, 48), format=format, only_if_faster=False)
        assert packed_names(model) == LAYERS
        assert {entry["format"] for entry in layers(report).values()} == {format}
        assert layers(report)["0"]["activation"] == "gelu"
        x = batch(5, 48)
        torch.testing.assert_close(model(x), dequantized(model)(x), rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("activations", ["int8", "uint8"])
    def test_quantized_activations(self, activations):
        model, reference = net(), net()
        options = {"format": "int8", "activations": activations, "only_if_faster": False}
        report = strop.pack_model(model, batch(50, 48), **options)
        found, expected = model(batch(5, 48)), reference(batch(5, 48))
        assert (found - expected).norm().item() < 0.03 * expected.norm().item()
        for entry in layers(report).values():
            assert entry["activations"] == activations
            assert 30 < entry["sqnr"] < 50
            assert entry["methods"]["1"] == "codes"

    def test_errors_are_those_of_the_results(self):
        model, x = net(), batch(7, 48)
        linear = nn.Sequential(model[0])
        expected = linear(x)
        report = strop.pack_model(linear, x, format="int4", only_if_faster=False)
        noise = (linear(x) - expected).double().square().sum()
        sqnr = 10 * math.log10(float(expected.double().square().sum() / noise))
        assert layers(report)["0"]["sqnr"] == pytest.approx(sqnr, abs=0.01)
        assert "SQNR, dB" in str(report)

    def test_the_least_that_is_kept(self):
        model, x = net(), batch(40, 48)
        options = {"format": "int8", "activations": "uint8", "only_if_faster": False}
        kept = {n: e["sqnr"] for n, e in layers(strop.pack_model(net(), x, **options)).items()}
        least = sorted(kept.values())[1]
        report = strop.pack_model(model, x, **options, min_sqnr=least)
        worst = min(kept, key=kept.__getitem__)
        assert packed_names(model) == [name for name in LAYERS if name != worst]
        assert reasons(report)[worst] == (
            f"its results would keep {kept[worst]:.1f} dB, less than min_sqnr"
        )

    @pytest.mark.parametrize("format", [None, "int8"])
    def test_what_keeps_less_is_not_pruned_either(self, format):
        model, x = net(), batch(5, 48)
        before = {name: t.clone() for name, t in model.state_dict().items()}
        report = strop.pack_model(
            model, x, sparsity=0.9, format=format, min_sqnr=60, only_if_faster=False
        )
        assert list(reasons(report)) == LAYERS
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())

    def test_errors_of_a_layer_with_its_activation(self):
        model, x = net(), batch(5, 48)
        strop.pack_model(model, x, sparsity=0.5, only_if_faster=False)
        report = strop.pack_model(model, x, format="int8", only_if_faster=False)
        assert all(entry["sqnr"] > 30 for entry in layers(report).values())

    def test_codes_have_no_part_in_a_ranking(self):
        model = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
        with torch.no_grad():
            model[0].weight.mul_(0.01)
        strop.pack_model(model, format="int8", filter=lambda n, _: n == "0", only_if_faster=False)
        strop.pack_model(model, sparsity=0.5, only_if_faster=False)
        assert model[1].packed.sparsity == pytest.approx(0.5, abs=1e-3)
        with pytest.raises(ValueError, match="masks has '0.weight', which cannot be pruned"):
            strop.pack_model(model, masks={"0.weight": torch.ones(64, 64) > 0})

    def test_random_numbers_are_as_they_were(self):
        model, before = net(), torch.get_rng_state()
        strop.pack_model(model, batch(5, 48), format="int8")
        strop.pack_weight(torch.eye(8) + 1, plan="measure")
        assert torch.equal(torch.get_rng_state(), before)

    def test_a_mask_as_well(self):
        model = net()
        strop.pack_model(model, sparsity=0.8, format="int8", only_if_faster=False)
        assert {model[i].packed.format for i in (0, 2, 4)} == {"int8"}
        sizes = [(model[i].packed.nnz, model[i].packed.shape) for i in (0, 2, 4)]
        kept = sum(nnz for nnz, _ in sizes) / sum(n * k for _, (n, k) in sizes)
        assert kept == pytest.approx(0.2, abs=0.001)
        torch.testing.assert_close(model(batch(3, 48)), dequantized(model)(batch(3, 48)))

    def test_masks_first_and_formats_then(self):
        model = net()
        strop.pack_model(model, sparsity=0.8, only_if_faster=False)
        nnz = model[0].packed.nnz
        strop.pack_model(model, format="int8", only_if_faster=False)
        assert (model[0].packed.format, model[0].packed.nnz) == ("int8", nnz)
        report = strop.pack_model(model, format="int4", only_if_faster=False)
        assert set(reasons(report).values()) == {"it is packed already, in codes"}

    def test_only_what_gains(self, monkeypatch):
        def medians(calls, **_):
            return [2e-3, 1e-3]

        monkeypatch.setattr(strop._linear.plans, "medians", medians)
        model = net()
        report = strop.pack_model(model, batch(4, 48), format="int8")
        assert packed_names(model) == []
        assert set(reasons(report).values()) == {"dense is faster (measured: 1 ms for 4 rows)"}


class TestKept:
    def test_saved_loaded_copied_and_moved(self):
        model = net()
        strop.pack_model(
            model, batch(5, 48), format="int4", activations="int8", only_if_faster=False
        )
        x = batch(5, 48)
        stream = io.BytesIO()
        torch.save(model.state_dict(), stream)
        stream.seek(0)
        fresh = strop.load_packed(net(), torch.load(stream, weights_only=True))
        for other in (fresh, copy.deepcopy(model), model.to("cpu")):
            assert_same_bits(other(x).detach(), model(x).detach())
        assert fresh[0].activation == "gelu"
        half = copy.deepcopy(model).to(torch.bfloat16)
        assert half(x.bfloat16()).dtype == torch.bfloat16
        assert torch.equal(half[0].codes, model[0].codes)

    def test_replicated(self):
        model = net()
        strop.pack_model(model, format="int8", only_if_faster=False)
        replica = model._replicate_for_data_parallel()
        for name, child in model.named_children():
            replica._modules[name] = child._replicate_for_data_parallel()
            replica._modules[name]._parameters = dict(child._parameters)
        assert_same_bits(replica(batch(3, 48)).detach(), model(batch(3, 48)).detach())

    def test_compiled_and_exported(self):
        model = net()
        strop.pack_model(
            model, batch(5, 48), format="int8", activations="uint8", only_if_faster=False
        )
        x = batch(6, 48)
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), model(x))
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), model(x))

    def test_tied(self):
        model = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32))
        model[2].weight = model[0].weight
        strop.pack_model(model, format="int8", only_if_faster=False)
        assert model[0].codes is model[2].codes
        restored = strop.densify(model)
        assert restored[0].weight is restored[2].weight

    def test_over_another_kind(self):
        coded, masked = net(), net()
        strop.pack_model(coded, format="int8", only_if_faster=False)
        strop.pack_model(masked, sparsity=0.5, only_if_faster=False)
        x = batch(3, 48)
        strop.load_packed(coded, masked.state_dict())
        assert_same_bits(coded(x).detach(), masked(x).detach())
        state = masked.state_dict()
        del state["0.values"]
        with pytest.raises(ValueError, match=r"state_dict lacks: 0\.values"):
            strop.load_packed(coded, state)

    def test_under_another_default_device(self):
        model = net()
        strop.pack_model(model, format="int8", only_if_faster=False)
        with torch.device("meta"):
            state = model.state_dict()
            again = strop.nn.PackedLinear(model[0].packed, activation="relu")
        assert not any(t.is_meta for t in (*state.values(), *again.state_dict().values()))


class TestRecipes:
    def test_first_pattern_that_fits(self):
        model = net()
        recipe = {
            "2": {"format": "nf4", "block_size": (1, 16)},
            "4": None,
            "*": {"activations": None},
        }
        report = strop.pack_model(
            model, format="int8", activations="int8", recipe=recipe, only_if_faster=False
        )
        assert packed_names(model) == ["0", "2"]
        first, second = model[0].packed, model[2].packed
        assert (first.format, first.activations) == ("int8", "")
        assert (second.format, second.activations, second.block_size) == ("nf4", "", (1, 16))
        assert reasons(report) == {"4": "the recipe leaves it alone"}

    def test_from_a_file(self, tmp_path):
        path = tmp_path / "recipe.toml"
        path.write_text(
            '["[02]"]\nformat = "int4"\nactivations = "uint8"\nblock_size = [1, 16]\n'
            '["4"]\ndtype = "bfloat16"\n'
        )
        model = net()
        strop.pack_model(model, recipe=path, only_if_faster=False)
        assert [model[i].packed.format for i in (0, 2, 4)] == ["int4", "int4", None]
        assert model[4].packed.dtype == torch.bfloat16

    @pytest.mark.parametrize(
        ("recipe", "kind", "text"),
        [
            ({"nothing": {"format": "int8"}}, ValueError, "recipe has 'nothing', but no layer"),
            ({"0": {"formt": "int8"}}, ValueError, "recipe has formt for '0'; .*format"),
            ({"0": "int8"}, TypeError, "recipe has a str for '0'"),
            ({"0": {"dtype": "int8"}}, ValueError, "recipe has dtype 'int8' for '0'"),
            ({0: None}, TypeError, "a key of recipe is a int|a key of recipe is an int"),
            ({"0": {"activations": "int8"}}, ValueError, "activations is given, but format"),
            ({"0": {"format": "int99"}}, ValueError, "'0': .*int99"),
            ("missing.toml", ValueError, "recipe: .*missing.toml"),
            (3, TypeError, "recipe is a int|recipe is an int"),
        ],
    )
    def test_errors(self, recipe, kind, text):
        model, before = net(), net().state_dict()
        with pytest.raises(kind, match=rf"strop\.pack_model: .*({text})"):
            strop.pack_model(model, recipe=recipe)
        assert packed_names(model) == []
        assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())

    def test_errors_of_options(self):
        for options, text in (
            ({"activations": "int8"}, "activations is given, but format is None"),
            ({"format": "int8", "min_sqnr": 30}, "min_sqnr is given, but no example_inputs"),
            ({"format": "int8", "min_sqnr": "30"}, "min_sqnr is a str"),
            ({"format": "nf4", "activations": "int8"}, "'0': .*nf4 is none"),
        ):
            with pytest.raises((TypeError, ValueError), match=r"strop\.pack_model: " + text):
                strop.pack_model(net(), **options)


def test_a_twin_is_not_changed():
    model = net()
    reference = twin(model)
    strop.pack_model(model, format="int8", only_if_faster=False)
    assert packed_names(reference) == []
