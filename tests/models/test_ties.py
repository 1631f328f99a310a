"""One parameter, several names: prune_masks and strop.pack_model have one rule for it."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import strop
from models.problems import (
    assert_same_function,
    assert_unchanged,
    batch,
    packed_names,
    reasons,
    state_of,
    twin,
)


class Tied(nn.Module):
    """A language model's head, which is its embedding."""

    def __init__(self, tie="parameter"):
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 20, bias=False)
        if tie == "parameter":
            self.head.weight = self.embed.weight
        elif tie == "memory":
            self.head.weight = nn.Parameter(self.embed.weight.detach())
        elif tie == "half of the memory":
            both = torch.randn(40, 16)
            self.embed.weight = nn.Parameter(both[:30])
            self.head.weight = nn.Parameter(both[20:])

    def forward(self, x):
        return self.head(torch.relu(self.b(torch.relu(self.a(self.embed(x))))))


TOKENS = torch.arange(20).reshape(4, 5)


def masked(model, masks):
    """The dense model with zeros, as torch would have it."""
    model = twin(model)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask)
    return model


def _tied(tie):
    torch.manual_seed(0)
    return Tied(tie).eval()


@pytest.mark.parametrize("tie", ["parameter", "memory", "half of the memory"])
def test_an_embedding_has_no_part_in_it(tie):
    model, other = _tied(tie), _tied(tie)  # (a deepcopy would part them)
    masks = strop.prune_masks(model, sparsity=0.6)
    assert list(masks) == ["a.weight", "b.weight"]
    assert sum(int((~mask).sum()) for mask in masks.values()) == round(0.6 * 512)
    weights = {name: getattr(model, name[0]).weight for name in masks}
    expected = strop.prune_masks(weights, sparsity=0.6)
    assert all(torch.equal(masks[name], expected[name]) for name in masks)
    reference = masked(model, masks)
    report = strop.pack_model(model, (TOKENS,), masks=masks, only_if_faster=False)
    strop.pack_model(other, (TOKENS,), sparsity=0.6, only_if_faster=False)
    assert packed_names(model) == packed_names(other) == ["a", "b"]
    assert "shares its weight with 'embed' (Embedding)" in reasons(report)["head"]
    assert "embed.weight" not in reasons(report)
    for one in (model, other):
        assert_same_function(one, reference, TOKENS)


def test_a_filter_chooses_what_it_likes():
    model = Tied()
    masks = strop.prune_masks(model, sparsity=0.5, filter=lambda name, p: p.dim() == 2)
    assert list(masks) == ["embed.weight", "a.weight", "b.weight"]
    before = state_of(model)
    with pytest.raises(ValueError, match=r"'head' \(Linear\) .* with 'embed' \(Embedding\)"):
        strop.pack_model(model, masks=masks)
    with pytest.raises(ValueError, match=r"'head' \(Linear\) .* with 'embed' \(Embedding\)"):
        strop.pack_model(model, masks={"head.weight": masks["embed.weight"]})
    assert_unchanged(model, before)


def test_a_mask_of_something_else_names_it():
    model = Tied("no")
    with pytest.raises(ValueError, match=r"'embed.weight', .* but of 'embed' \(Embedding\)"):
        strop.pack_model(model, masks={"embed.weight": torch.ones(20, 16) > 0})
    with pytest.raises(ValueError, match="masks has 'x', which is no weight of an nn.Linear here$"):
        strop.pack_model(model, masks={"x": torch.ones(20, 16) > 0})


class Shared(nn.Module):
    """Two layers of one weight, one of them at two places."""

    def __init__(self, same=True):
        super().__init__()
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        weight = self.first.weight
        self.second.weight = weight if same else nn.Parameter(weight.detach())
        self.again, self.other = self.second, nn.Linear(16, 16)

    def forward(self, x):
        return self.other(self.again(torch.relu(self.second(torch.relu(self.first(x))))))


@pytest.mark.parametrize("same", [True, False], ids=["one parameter", "one memory"])
def test_linear_layers_share_one_mask(same):
    torch.manual_seed(1)
    model = Shared(same).eval()
    masks = strop.prune_masks(model, sparsity=0.5)
    assert list(masks) == ["first.weight", "other.weight"]
    assert sum(int((~mask).sum()) for mask in masks.values()) == 256
    reference = masked(model, masks)
    for given in ({"masks": masks}, {"sparsity": 0.5}):
        one = twin(model)
        if not same:  # (a deepcopy parts them)
            one.second.weight = nn.Parameter(one.first.weight.detach())
        report = strop.pack_model(one, batch(3, 16), only_if_faster=False, **given).to_dict()
        assert report["totals"]["layers"] == 2
        assert report["layers"][0]["tied"] == ["second", "again"]
        assert one.first.packed.bits is one.second.packed.bits
        reference.second.weight = reference.first.weight
        assert_same_function(one, reference, batch(3, 16))


@pytest.mark.parametrize("name", ["first.weight", "second.weight", "again.weight"])
def test_masks_by_any_name(name):
    model = Shared()
    mask = torch.rand(16, 16) > 0.5
    strop.pack_model(model, masks={name: mask}, only_if_faster=False)
    assert torch.equal(model.first.packed.to_dense() != 0, mask)
    assert torch.equal(model.second.packed.to_dense() != 0, mask)


def test_masks_by_the_names_of_torch_prune():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    mask = torch.rand(16, 16) > 0.5
    prune.identity(model[0], "weight")
    with pytest.raises(ValueError, match="'0.weight_orig', which has a mask of torch.nn.utils"):
        strop.pack_model(model, masks={"0.weight_orig": mask})
    assert list(strop.prune_masks(model, sparsity=0.5)) == ["1.weight"]


def test_masks_of_computed_weights_say_so():
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(16, 16)), nn.Linear(16, 16))
    assert list(strop.prune_masks(model, sparsity=0.5)) == ["1.weight"]
    for name in ("0.weight", "0.parametrizations.weight.original1"):
        with pytest.raises(ValueError, match=f"masks has '{name}', .*(computed|Parametrization)"):
            strop.pack_model(model, masks={name: torch.ones(16, 16) > 0})


def test_a_parameter_of_the_model_itself():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.out = nn.Linear(16, 16), nn.Linear(16, 16)
            self.own = self.fc.weight

        def forward(self, x):
            return self.out(self.fc(x))

    model = Both()
    assert list(strop.prune_masks(model, sparsity=0.5)) == ["out.weight"]
    report = strop.pack_model(model, batch(2, 16), sparsity=0.5, only_if_faster=False)
    assert reasons(report) == {"fc": "shares its weight with the model (Both)"}


def test_a_transpose_of_the_same_memory():
    model = nn.Sequential(nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 16))
    model[1].weight = nn.Parameter(model[0].weight.detach().t())
    report = strop.pack_model(model, batch(2, 16), sparsity=0.5, only_if_faster=False)
    assert packed_names(model) == ["2"]
    assert reasons(report) == {
        "0": "shares its weight with '1' (Linear)",
        "1": "shares its weight with '0' (Linear)",
    }


def test_views_of_one_buffer_are_nobody_elses():
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    flat = torch.randn(2, 16, 16)
    for layer, weight in zip(model, flat, strict=True):
        layer.weight = nn.Parameter(weight)
    strop.pack_model(model, sparsity=0.5, only_if_faster=False)
    assert packed_names(model) == ["0", "1"]


def test_a_layer_of_its_own_kind_is_something_else():
    class Transposed(nn.Linear):
        def forward(self, x):
            return x @ self.weight

    model = nn.Sequential(nn.Linear(16, 16), Transposed(16, 16), nn.Linear(16, 16))
    model[1].weight = model[0].weight
    assert list(strop.prune_masks(model, sparsity=0.5)) == ["2.weight"]
    report = strop.pack_model(model, sparsity=0.5, only_if_faster=False)
    assert "with '1' (Transposed)" in reasons(report)["0"]


def test_a_state_dict_has_each_weight_once():
    model = Shared()
    masks = strop.prune_masks(model.state_dict(), sparsity=0.5, filter=lambda name, _: "w" in name)
    assert list(masks) == [f"{name}.weight" for name in ("first", "second", "again", "other")]
    pruned = [int((~masks[name]).sum()) for name in ("first.weight", "other.weight")]
    assert sum(pruned) == 256
    assert all(
        torch.equal(masks["first.weight"], masks[f"{x}.weight"]) for x in ("second", "again")
    )
    strop.pack_model(model, masks=masks, only_if_faster=False)
    assert model.first.packed.nnz + model.other.packed.nnz == 256


def test_an_empty_weight_has_an_empty_mask():
    masks = strop.prune_masks(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 0)), sparsity=0.5)
    assert tuple(masks["1.weight"].shape) == (0, 4)


@pytest.mark.parametrize(
    ("options", "move"),
    [
        ({"sparsity": 0.8}, lambda m: m.half()),
        ({"sparsity": 0.8}, lambda m: m.double().float()),
        ({"format": "int8"}, lambda m: m.half()),
        ({"sparsity": 0.8, "format": "int8"}, lambda m: m.bfloat16()),
    ],
)
def test_ties_outlive_moves(options, move):
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16))
    model[2].weight = model[0].weight
    strop.pack_model(model, only_if_faster=False, **options)
    model = move(model)
    assert model[0].packed is model[2].packed
    dense = strop.densify(model)
    assert dense[0].weight is dense[2].weight
