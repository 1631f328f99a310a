"""strop.pack_model: layers that are linear by another class, and what is none and is named."""

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import strop
from core.devices import assert_same_bits
from models.problems import (
    Conv1D,
    assert_same_function,
    batch,
    packed_names,
    prune_in_place,
    reasons,
    twin,
)


def gpt(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(Conv1D(48, 16), nn.GELU(), Conv1D(16, 48), nn.Linear(16, 16)).eval()


class TestConv1D:
    def test_converted(self):
        model = prune_in_place(gpt())
        reference = twin(model)
        report = strop.pack_model(model, batch(5, 16), only_if_faster=False).to_dict()
        assert packed_names(model) == ["0", "2", "3"]
        assert [layer["shape"] for layer in report["layers"]] == [[48, 16], [16, 48], [16, 16]]
        assert [layer["rows"] for layer in report["layers"]] == [[5]] * 3
        assert model[0].activation == "gelu"
        assert model[0].nf == 48
        assert_same_function(model, reference, batch(2, 3, 16))
        again = strop.load_packed(gpt(1), model.state_dict())
        assert_same_bits(again(batch(5, 16)), model(batch(5, 16)))
        with torch.device("meta"):
            on_meta = gpt()
        assert_same_bits(
            strop.load_packed(on_meta, model.state_dict())(batch(5, 16)), model(batch(5, 16))
        )

    @pytest.mark.parametrize("pattern", ["unstructured", "2:4", (4, 2)])
    def test_masks_are_of_its_shape(self, pattern):
        model = gpt()
        sparsity = None if pattern == "2:4" else 0.5
        masks = strop.prune_masks(model, sparsity=sparsity, pattern=pattern)
        assert [tuple(mask.shape) for mask in masks.values()] == [(16, 48), (48, 16), (16, 16)]
        assert all(mask.is_contiguous() for mask in masks.values())
        if pattern == "2:4":  # along the inputs, which are its rows
            kept = masks["0.weight"].reshape(4, 4, 48).sum(1)
            assert torch.equal(kept, torch.full_like(kept, 2))
        if pattern == (4, 2):  # rows of outputs, columns of inputs
            blocks = masks["0.weight"].t().reshape(12, 4, 8, 2)
            assert torch.equal(blocks.any(3).any(1), blocks.all(3).all(1))
        reference, other = twin(model), twin(model)
        with torch.no_grad():
            for name, mask in masks.items():
                reference.get_parameter(name).mul_(mask)
        strop.pack_model(model, masks=masks, only_if_faster=False)
        strop.pack_model(other, sparsity=sparsity, pattern=pattern, only_if_faster=False)
        for one in (model, other):
            assert_same_function(one, reference, batch(5, 16))

    def test_left_alone_with_zeros(self):
        model = gpt()
        masks = strop.prune_masks(model, sparsity=0.5)
        expected = model[0].weight * masks["0.weight"]
        strop.pack_model(model, masks=masks, filter=lambda name, _: name != "0")
        assert torch.equal(model[0].weight, expected)

    def test_of_torch_prune(self):
        model = gpt()
        nn.utils.prune.l1_unstructured(model[0], "weight", 0.7)
        expected = model(batch(3, 16))
        strop.pack_model(model, only_if_faster=False)
        assert torch.allclose(model(batch(3, 16)), expected, atol=1e-5)

    def test_of_that_name_alone(self):
        other = type("Conv1D", (Conv1D,), {"forward": lambda self, x: x @ self.weight - self.bias})
        convolution = type("Conv1D", (nn.Conv1d,), {})
        model = nn.Sequential(other(48, 16), convolution(4, 4, 3))
        report = strop.pack_model(model, sparsity=0.5, only_if_faster=False)
        assert packed_names(model) == []
        assert reasons(report)["0"] == "a Conv1D that is not x @ weight + bias"
        assert "1.weight" in reasons(report)


class TestSubclasses:
    def test_plain_ones_are_converted(self):
        class Plain(nn.Linear):
            """It has what a class has anyway."""

            kind: str = "mine"
            extra: int

            def __init__(self, n, k):
                super().__init__(n, k)
                self.scale = 3

            def reset_parameters(self):
                nn.init.normal_(self.weight)
                nn.init.zeros_(self.bias)

            def extra_repr(self):
                return "mine"

        class Further(Plain):
            pass

        quantizable = nn.modules.linear.NonDynamicallyQuantizableLinear(16, 16)
        model = prune_in_place(nn.Sequential(Plain(16, 16), Further(16, 16), quantizable))
        reference, fresh = twin(model), twin(model)
        strop.pack_model(model, only_if_faster=False)
        assert packed_names(model) == ["0", "1", "2"]
        assert (model[0].scale, model[0].kind) == (3, "mine")
        assert_same_function(model, reference, batch(3, 16))
        strop.load_packed(fresh, model.state_dict())
        assert_same_bits(fresh(batch(3, 16)), model(batch(3, 16)))

    def test_others_are_named(self):
        class Own(nn.Linear):
            def forward(self, x):
                return -super().forward(x)

        class Asked(nn.Linear):
            def split(self):
                return self.weight.chunk(2)

        class Called(nn.Linear):
            def __call__(self, x):
                return super().__call__(x) + 1

        class Mixin:
            def forward(self, x):
                return super().forward(x) * 2

        mixed = type("Mixed", (Mixin, nn.Linear), {})
        model = nn.Sequential(*(kind(16, 16) for kind in (Own, Asked, Called, mixed)))
        report = strop.pack_model(model, sparsity=0.5, only_if_faster=False)
        assert packed_names(model) == []
        assert reasons(report) == {
            "0": "a subclass of nn.Linear, Own, with a forward of its own",
            "1": "a subclass of nn.Linear, Asked, that has split as well",
            "2": "a subclass of nn.Linear, Called, that has __call__ as well",
            "3": "a subclass of nn.Linear, Mixed, with a forward of its own",
        }


class TestOthers:
    def test_are_named(self):
        class Experts(nn.Module):
            def __init__(self):
                super().__init__()
                self.up = nn.Parameter(torch.randn(4, 16, 8))
                self.bias, self.scale = (
                    nn.Parameter(torch.ones(8)),
                    nn.Parameter(torch.ones(1, 1, 8)),
                )
                self.steps = nn.Parameter(torch.ones(3, 3).int(), requires_grad=False)

        model = nn.ModuleDict(
            {
                "experts": Experts(),
                "bilinear": nn.Bilinear(4, 5, 6),
                "conv": nn.Conv2d(3, 8, 3),
                "lstm": nn.LSTM(8, 8),
                "embed": nn.Embedding(9, 8),
                "norm": nn.LayerNorm((4, 8)),
                "fc": nn.Linear(16, 16),
            }
        )
        model["conv"].weight.data[:4] = 0
        report = strop.pack_model(model, sparsity=0.5, only_if_faster=False)
        assert reasons(report) == {
            "experts.up": "a parameter of 3 dimensions of Experts, which is no linear layer",
            "bilinear.weight": "a parameter of 3 dimensions of Bilinear, which is no linear layer",
            "conv.weight": "a parameter of 4 dimensions of Conv2d, which is no linear layer",
            "lstm.weight_ih_l0": "a parameter of LSTM, which is no linear layer",
            "lstm.weight_hh_l0": "a parameter of LSTM, which is no linear layer",
        }
        entries = {entry["name"]: entry for entry in report.to_dict()["left_alone"]}
        assert entries["experts.up"]["shape"] == [4, 16, 8]
        assert entries["conv.weight"]["sparsity"] == 0.5
        assert entries["conv.weight"]["dense_bytes"] == 4 * 8 * 27
        assert "experts.up" in str(report)
        assert "4x16x8" in str(report)

    def test_shared_ones_once(self):
        a, b = nn.Conv1d(4, 4, 3), nn.Conv1d(4, 4, 3)
        b.weight = a.weight
        (entry,) = strop.pack_model(nn.Sequential(a, b)).to_dict()["left_alone"]
        assert (entry["name"], entry["tied"]) == ("0.weight", ["1.weight"])


class TestAgain:
    """On a model that was converted before."""

    def converted(self, **options):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 64), nn.Linear(64, 32))
        dense = twin(model.eval())
        strop.pack_model(model, batch(5, 48), sparsity=0.5, only_if_faster=False, **options)
        return model, dense

    def test_prunes_further(self):
        model, dense = self.converted(plan="packed", filter=lambda name, _: name != "3")
        report = strop.pack_model(model, sparsity=0.9, only_if_faster=False).to_dict()
        masks = strop.prune_masks(dense, sparsity=0.9)
        with torch.no_grad():
            for name, mask in masks.items():
                dense.get_parameter(name).mul_(mask)
        assert packed_names(model) == ["0", "2", "3"]
        assert_same_function(model, dense, batch(7, 48))
        assert report["totals"]["sparsity"] == pytest.approx(0.9, abs=1e-4)
        assert report["layers"][0]["activation"] == "gelu"
        assert model[0].activation == "gelu"
        assert type(model[1]) is nn.Identity

    @pytest.mark.parametrize("plan", ["packed", "dense", "auto"])
    @pytest.mark.parametrize("dtype", [None, torch.bfloat16])
    def test_keeps_its_options(self, plan, dtype):
        model, _ = self.converted(plan=plan, dtype=dtype)
        bias, before = model[0].bias, model[0].packed
        model[0].kept = 1
        strop.pack_model(model, sparsity=0.8)
        after = model[0].packed
        assert (after.plan_source, after.dtype) == (plan, before.dtype)
        assert (after.input_dtype, model[0].bias is bias) == (before.input_dtype, True)
        assert model[0].kept == 1
        kept = before.to_dense() * (after.to_dense() != 0)
        assert torch.equal(after.to_dense(), kept)
        assert after.sparsity > before.sparsity

    def test_values_of_more_digits_than_the_input(self):
        model, _ = self.converted()
        model.to(torch.bfloat16)
        model[0] = strop.nn.PackedLinear(
            strop.pack_weight(torch.randn(64, 48).bfloat16(), dtype=torch.float32),
            activation="gelu",
        )
        values = model[0].packed.to_dense()
        values += torch.randn_like(values) * 1e-5  # (what bfloat16 does not hold)
        model[0].values.copy_(values.flatten())
        strop.pack_model(model, sparsity=0.8)
        after = model[0].packed
        assert (after.dtype, after.input_dtype) == (torch.float32, torch.bfloat16)
        assert torch.equal(after.to_dense(), values * (after.to_dense() != 0))

    def test_by_masks_of_a_pattern(self):
        model, _ = self.converted()
        before = model[2].packed.to_dense()
        masks = strop.prune_masks(model, pattern="2:4")
        assert list(masks) == ["0.weight", "2.weight", "3.weight"]
        assert torch.equal(masks["2.weight"], strop.prune_mask(before, pattern="2:4"))
        strop.pack_model(model, masks=masks)
        assert torch.equal(model[2].packed.to_dense(), before * masks["2.weight"])
        with pytest.raises(
            ValueError, match=r"masks has shape \[2, 2\] for '0.weight' of \[64, 48\]"
        ):
            strop.pack_model(model, masks={"0.weight": torch.eye(2) > 0})

    def test_says_why_not(self):
        model, _ = self.converted()
        layers = [model[i] for i in (0, 2, 3)]
        for options, why in (
            ({}, "it is packed already; sparsity or masks prune more"),
            ({"sparsity": 0.3}, "it is packed already; nothing more of it is pruned"),
        ):
            report = strop.pack_model(model, **options)
            assert set(reasons(report).values()) == {why}
            assert "no linear layers" not in str(report)
            assert [model[i] for i in (0, 2, 3)] == layers
        assert report.to_dict()["left_alone"][0]["sparsity"] == model[0].packed.sparsity

    def test_shared_weights_stay_shared(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        model[1].weight = model[0].weight
        strop.pack_model(model, sparsity=0.5, only_if_faster=False)
        assert list(strop.prune_masks(model, sparsity=0.8)) == ["0.weight"]
        report = strop.pack_model(model, sparsity=0.8).to_dict()
        assert report["layers"][0]["tied"] == ["1"]
        assert model[0].packed.bits is model[1].packed.bits
        assert model[0].packed.nnz == round(0.2 * 256)

    def test_a_layer_by_itself(self):
        layer = strop.nn.PackedLinear.from_dense(nn.Linear(16, 16))
        assert int((~strop.prune_masks(layer, sparsity=0.5)["weight"]).sum()) == 128
        with pytest.raises(ValueError, match="model is a PackedLinear, which cannot be replaced"):
            strop.pack_model(layer, sparsity=0.5)
