"""strop.pack_model in models where more than a layer itself knows its weight."""

import time

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import strop
from models.problems import (
    assert_same_function,
    assert_unchanged,
    batch,
    count_calls,
    net,
    packed_names,
    prune_in_place,
    state_of,
    twin,
)


def converted(model, *inputs, **options):
    """The report's dictionary, of a pruned model whose function has to stay."""
    prune_in_place(model.eval())
    with torch.no_grad():
        expected = model(*inputs)
        report = strop.pack_model(model, only_if_faster=False, **options).to_dict()
        assert torch.allclose(model(*inputs), expected, rtol=1e-4, atol=2e-5)
    return report


def reasons(report):
    return {entry["name"]: entry["reason"] for entry in report["left_alone"]}


class TestTies:
    def test_a_module_at_two_places(self):
        shared = nn.Linear(16, 16)
        model = nn.Sequential(shared, nn.ReLU(), nn.Sequential(shared, nn.Tanh()))
        report = converted(model, batch(3, 16))
        assert isinstance(model[0], strop.nn.PackedLinear)
        assert model[2][0] is model[0]
        assert model[0].activation is None  # at the other place there is another
        (entry,) = report["layers"]
        assert (entry["name"], entry["tied"]) == ("0", ["2.0"])

    def test_a_parent_at_two_places(self):
        block = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
        model = nn.Sequential(block, block)
        report = converted(model, batch(3, 16))
        assert model[0][0] is model[1][0]
        assert report["layers"][0]["tied"] == ["1.0"]

    def test_two_layers_with_one_weight(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
        model[2].weight = model[0].weight
        report = converted(model, batch(3, 16))
        assert model[0].packed is model[2].packed
        assert model[0].bias is not model[2].bias
        assert report["totals"]["layers"] == 1
        again = twin(model)
        assert again[0].packed.bits is again[2].packed.bits

    def test_masks_of_one_weight(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        model[1].weight = model[0].weight
        mask = torch.rand(16, 16) > 0.5
        before = state_of(model)
        with pytest.raises(ValueError, match="'1.weight' unlike another name of the same weight"):
            strop.pack_model(model, masks={"0.weight": mask, "1.weight": ~mask})
        assert_unchanged(model, before)
        strop.pack_model(model, masks={"1.weight": mask}, only_if_faster=False)
        assert torch.equal(model[0].weight.to_dense() != 0, mask)

    def test_an_embedding(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.body = nn.Embedding(20, 16), nn.Linear(16, 16)
                self.head = nn.Linear(16, 20, bias=False)
                self.head.weight = self.embed.weight

            def forward(self, x):
                return self.head(self.body(self.embed(x)))

        model = Tied()
        before = model.embed.weight.detach().clone()
        report = strop.pack_model(model, sparsity=0.5, only_if_faster=False).to_dict()
        assert packed_names(model) == ["body"]
        assert reasons(report) == {"head": "shares its weight with 'embed' (Embedding)"}
        assert torch.equal(model.embed.weight, before)  # not pruned either
        assert model.head.weight is model.embed.weight

    def test_with_a_layer_that_is_left_alone(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        model[1].weight = model[0].weight
        report = converted(model, batch(2, 16), filter=lambda name, _: name == "0")
        assert packed_names(model) == []
        assert reasons(report) == {"0": "shares its weight with '1': not chosen by filter"}


class TestLeftAlone:
    def test_who_computes_or_watches_its_weight(self):
        class Own(nn.Linear):
            def forward(self, x):
                return 2 * super().forward(x)

        hooked, replaced = nn.Linear(16, 16), nn.Linear(16, 16)
        hooked.register_forward_hook(lambda *_: None)
        replaced.forward = lambda x: nn.functional.linear(x, replaced.weight) * 2
        scaled = nn.Linear(16, 16)
        scaled.register_buffer("scale", torch.ones(1))
        model = nn.Sequential(
            Own(16, 16),
            hooked,
            replaced,
            parametrizations.weight_norm(nn.Linear(16, 16)),
            torch.nn.utils.spectral_norm(nn.Linear(16, 16)),
            nn.Linear(16, 16),
            nn.Linear(16, 0),
            scaled,
        )
        report = strop.pack_model(model, sparsity=0.5, only_if_faster=False).to_dict()
        assert packed_names(model) == ["5"]
        assert reasons(report) == {
            "0": "a subclass of nn.Linear, Own, with a forward of its own",
            "1": "it has hooks",
            "2": "its forward was replaced",
            "3": "its parameters are computed (torch.nn.utils.parametrize)",
            "4": "it has hooks",
            "6": "its weight is empty",
            "7": "it has more than a weight and a bias",
        }
        assert report["totals"]["sparsity"] == pytest.approx(0.5)
        assert model[1].weight.count_nonzero() == 256

    def test_lazy(self):
        report = strop.pack_model(nn.Sequential(nn.LazyLinear(4))).to_dict()
        assert "LazyLinear" in reasons(report)["0"]

    def test_again(self):
        model = prune_in_place(net())
        strop.pack_model(model, only_if_faster=False)
        layers = [model[i] for i in (0, 2, 4)]
        report = strop.pack_model(model, only_if_faster=False).to_dict()
        assert report["totals"]["layers"] == 0
        assert [model[i] for i in (0, 2, 4)] == layers


def encoder(layers=2, **options):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, **options)
    return nn.TransformerEncoder(layer, layers).eval()


class TestTransformerEncoder:
    """Its fast path reads the weights of linear1 and linear2, and never calls these."""

    @pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    @pytest.mark.parametrize("masked", ["nothing", "padding", "attention"])
    @pytest.mark.parametrize("activation", ["relu", "gelu"])
    def test_packed_layers_run(self, context, masked, activation):
        model = prune_in_place(encoder(activation=activation))
        reference = twin(model)
        x, padding = batch(2, 6, 32), torch.zeros(2, 6, dtype=torch.bool)
        options = {}
        if masked == "padding":
            padding[0, 4:] = True
            options["src_key_padding_mask"] = padding
        if masked == "attention":
            options["mask"] = nn.Transformer.generate_square_subsequent_mask(6)
        report = strop.pack_model(model, x, only_if_faster=False)
        assert [entry["rows"] for entry in report.to_dict()["layers"]] == [[12]] * 4
        calls = count_calls(model)
        with context():
            y, expected = model(x, **options), reference(x, **options)
        assert len(calls) == 4
        assert torch.allclose(y[~padding], expected[~padding], atol=1e-5)

    def test_layer_by_layer_in_a_frozen_model(self):
        # The encoder itself was not told; with gradients on it asks its weights whether they need one.
        model = prune_in_place(encoder()).requires_grad_(False)
        reference = twin(model)
        for layer in model.layers:
            strop.pack_model(layer, only_if_faster=False)
        calls = count_calls(model)
        x, padding = batch(2, 6, 32), torch.zeros(2, 6, dtype=torch.bool)
        padding[0, 4:] = True
        y, expected = (m(x, src_key_padding_mask=padding) for m in (model, reference))
        assert len(set(calls)) == 4  # (of nested tensors, one part after another)
        assert torch.allclose(y[~padding], expected[~padding], atol=1e-5)

    def test_attention_keeps_its_projection(self):
        model = encoder()
        report = strop.pack_model(model, sparsity=0.5, only_if_faster=False).to_dict()
        why = "nn.MultiheadAttention reads its weight"
        own = "a parameter of MultiheadAttention, which is no linear layer"
        assert reasons(report) == {
            **{f"layers.{i}.self_attn.out_proj": why for i in (0, 1)},
            **{f"layers.{i}.self_attn.in_proj_weight": own for i in (0, 1)},
        }
        plain = nn.MultiheadAttention(32, 4)
        plain.out_proj = nn.Linear(32, 32)
        found = reasons(strop.pack_model(plain, only_if_faster=False).to_dict())
        assert found == {"out_proj": why, "in_proj_weight": own}

    def test_some_layers_or_none(self):
        x = batch(2, 6, 32)
        model = prune_in_place(encoder())
        reference = twin(model)
        strop.pack_model(
            model, only_if_faster=False, filter=lambda name, _: name == "layers.1.linear2"
        )
        assert (
            model.layers[0].activation_relu_or_gelu,
            model.layers[1].activation_relu_or_gelu,
        ) == (1, 0)
        padding = torch.zeros(2, 6, dtype=torch.bool)
        padding[1, 3:] = True
        with torch.no_grad():
            y, expected = (m(x, src_key_padding_mask=padding) for m in (model, reference))
        assert torch.allclose(y[~padding], expected[~padding], atol=1e-5)
        untouched = encoder()
        strop.pack_model(untouched, filter=lambda *_: False)
        assert untouched.layers[0].activation_relu_or_gelu == 1
        assert untouched.use_nested_tensor

    def test_layer_by_layer(self):
        model = prune_in_place(encoder())
        reference = twin(model)
        for layer in model.layers:
            strop.pack_model(layer, only_if_faster=False)
        x, padding = batch(2, 6, 32), torch.zeros(2, 6, dtype=torch.bool)
        padding[0, 4:] = True
        calls = count_calls(model)
        with torch.no_grad():
            y, expected = (m(x, src_key_padding_mask=padding) for m in (model, reference))
        assert calls
        assert torch.allclose(y[~padding], expected[~padding], atol=1e-5)

    def test_decoder(self):
        torch.manual_seed(0)
        layer = nn.TransformerDecoderLayer(32, 4, 64, batch_first=True)
        model = prune_in_place(nn.TransformerDecoder(layer, 2).eval())
        reference = twin(model)
        strop.pack_model(model, (batch(2, 5, 32), batch(2, 7, 32)), only_if_faster=False)
        assert len(packed_names(model)) == 4
        assert_same_function(model, reference, batch(2, 5, 32), batch(2, 7, 32))


def test_a_jagged_batch():
    layer = nn.Sequential(nn.Linear(16, 8), nn.ReLU())
    reference = twin(prune_in_place(layer))
    strop.pack_model(layer, only_if_faster=False)
    x = torch.nested.nested_tensor([batch(3, 16), batch(5, 16)], layout=torch.jagged)
    y = layer(x)
    assert y.offsets() is x.offsets()
    assert torch.allclose(y.values(), reference(x).values(), atol=1e-5)


def test_trains_what_is_left():
    model = prune_in_place(net().train())
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)  # made before, and good after
    strop.pack_model(model, only_if_faster=False)
    x, wanted = batch(20, 48), batch(20, 32, seed=1)
    weight = model[0].packed.values.clone()
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(x) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
    assert torch.equal(model[0].packed.values, weight)


def test_a_stack_like_minilm_takes_no_time():
    torch.manual_seed(0)
    shapes = [(384, 384)] * 4 + [(384, 1536), (1536, 384)]
    model = nn.Sequential(*(nn.Linear(k, n) for _ in range(6) for k, n in shapes))
    prune_in_place(model, 0.8)
    start = time.perf_counter()
    report = strop.pack_model(model, plan="auto").to_dict()
    assert time.perf_counter() - start < 3
    assert len(report["layers"]) + len(report["left_alone"]) == 36
    assert report["totals"]["saved_bytes"] < 0.26 * report["totals"]["dense_bytes"]
