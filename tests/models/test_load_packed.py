"""strop.load_packed: saved, rebuilt from a dense model, the same bits."""

import io
import subprocess
import sys

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from models.problems import (
    assert_unchanged,
    batch,
    count_calls,
    net,
    packed_names,
    prune_in_place,
    state_of,
)


def packed_net(**options):
    model = prune_in_place(net())
    strop.pack_model(model, batch(3, 48), only_if_faster=False, **options)
    return model


def through_torch(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)


class TestRebuilt:
    @pytest.mark.parametrize(
        "options",
        [{}, {"fuse": False}, {"plan": "auto"}, {"filter": lambda name, _: name == "2"}],
        ids=["packed", "not fused", "auto", "one layer"],
    )
    def test_the_same_bits(self, options):
        model = packed_net(**options)
        fresh = net()
        again = strop.load_packed(fresh, through_torch(model.state_dict()))
        assert again is fresh
        assert packed_names(again) == packed_names(model)
        assert type(again[1]) is type(model[1])
        assert repr(again) == repr(model)
        with torch.no_grad():
            for rows in (1, 5, 200):
                assert_same_bits(again(batch(rows, 48)), model(batch(rows, 48)))
        assert not again[0].training
        assert again[0].bias.requires_grad

    def test_in_a_fresh_process(self, tmp_path):
        model = packed_net()
        torch.save(model.state_dict(), tmp_path / "state.pt")
        with torch.no_grad():
            torch.save((batch(9, 48), model(batch(9, 48))), tmp_path / "expected.pt")
        code = f"""
import torch, strop
from torch import nn
model = nn.Sequential(nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 32))
strop.load_packed(model, torch.load({str(tmp_path / "state.pt")!r}, weights_only=True))
x, y = torch.load({str(tmp_path / "expected.pt")!r})
with torch.no_grad():
    assert torch.equal(model(x), y)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]

    def test_safetensors(self, tmp_path):
        safetensors = pytest.importorskip(
            "safetensors.torch", reason="safetensors is not installed"
        )
        model = packed_net()
        safetensors.save_file(model.state_dict(), tmp_path / "model.safetensors")
        again = strop.load_packed(net(), safetensors.load_file(tmp_path / "model.safetensors"))
        assert_same_bits(again(batch(3, 48)), model(batch(3, 48)))

    def test_safetensors_keeps_one_of_tied_layers(self, tmp_path):
        safetensors = pytest.importorskip(
            "safetensors.torch", reason="safetensors is not installed"
        )

        def build():
            model = nn.Sequential(
                nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 16)
            )
            model[2].weight = model[0].weight
            model.append(model[3])
            return model

        model = prune_in_place(build(), 0.6)
        strop.pack_model(model, only_if_faster=False)
        safetensors.save_model(model, str(tmp_path / "model.safetensors"))
        again = strop.load_packed(build(), safetensors.load_file(tmp_path / "model.safetensors"))
        assert again[0].packed.bits is again[2].packed.bits
        assert again[3] is again[4]
        assert_same_bits(again(batch(3, 16)), model(batch(3, 16)))

    def test_tied_embedding_and_buffers(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed, self.body = nn.Embedding(20, 16), nn.Linear(16, 16)
                self.norm = nn.BatchNorm1d(16)
                self.head = nn.Linear(16, 20)
                self.head.weight = self.embed.weight

            def forward(self, x):
                return self.head(self.norm(self.body(self.embed(x))))

        model = Tied()
        model(torch.arange(20))  # statistics
        strop.pack_model(model.eval(), sparsity=0.5, only_if_faster=False)
        state = through_torch(model.state_dict())
        x = torch.arange(20)
        for without in ((), ("head.weight",)):
            part = {k: v for k, v in state.items() if k not in without}
            again = strop.load_packed(Tied().eval(), part)
            assert_same_bits(again(x), model(x))
            assert again.head.weight is again.embed.weight

    def test_encoder(self):
        def build():
            torch.manual_seed(1)
            layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
            return nn.TransformerEncoder(layer, 2).eval()

        model = prune_in_place(build())
        strop.pack_model(model, only_if_faster=False)
        again = strop.load_packed(build(), through_torch(model.state_dict()))
        calls = count_calls(again)
        with torch.no_grad():
            assert_same_bits(again(batch(2, 6, 32)), model(batch(2, 6, 32)))
        assert len(calls) == 4

    def test_on_meta(self):
        model = packed_net()
        with torch.device("meta"):
            fresh = nn.Sequential(
                nn.Linear(48, 64), nn.GELU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.Linear(64, 32)
            )
        again = strop.load_packed(fresh, through_torch(model.state_dict()))
        assert not any(t.is_meta for t in again.state_dict().values())
        assert_same_bits(again(batch(3, 48)), model(batch(3, 48)))

    def test_over_a_packed_one_and_of_a_dense_one(self):
        model, other = packed_net(), packed_net()
        other[0].bias.data.zero_()
        strop.load_packed(other, model.state_dict())
        assert_same_bits(other(batch(3, 48)), model(batch(3, 48)))
        dense = prune_in_place(net())
        again = strop.load_packed(net(), dense.state_dict())
        assert packed_names(again) == []
        assert_same_bits(again(batch(3, 48)), dense(batch(3, 48)))

    def test_copies_what_it_takes(self):
        state = packed_net().state_dict()
        again = strop.load_packed(net(), state)
        before = again(batch(3, 48))
        for tensor in state.values():
            tensor.zero_()
        assert_same_bits(again(batch(3, 48)), before)

    def test_values_of_another_dtype(self):
        model = prune_in_place(net())
        strop.pack_model(model.double(), only_if_faster=False)
        again = strop.load_packed(net().double(), through_torch(model.state_dict()))
        assert again[0].packed.dtype == torch.float64
        assert_same_bits(again(batch(3, 48).double()), model(batch(3, 48).double()))


class TestErrors:
    def test_leave_the_model_as_it_was(self):
        state = packed_net().state_dict()
        without = lambda *names: {k: v for k, v in state.items() if k not in names}  # noqa: E731
        other = nn.Linear(48, 64)
        sparse = strop.nn.PackedLinear.from_dense(nn.Linear(47, 64), plan="packed").state_dict()
        cases = [
            (ValueError, "lacks: 3.bias", without("3.bias")),
            (ValueError, "has what the model has not: more", {**state, "more": torch.ones(1)}),
            (ValueError, "9.bits", {**state, "9.bits": torch.ones(1)}),
            (ValueError, r"other shapes: 3.bias: \[2\] for \[64\]", {**state, "3.bias": torch.ones(2)}),
            (ValueError, "'0' lacks values", without("0.values")),
            (ValueError, "'0' has a bias in the model alone", without("0.bias")),
            (ValueError, r"'0' has shape \(64, 47\) in state_dict, \(64, 48\)",
             {**state, **{f"0.{k}": v for k, v in sparse.items()}}),
            (ValueError, "'0': .*plan", {**state, "0.plan": torch.ones(3)}),
            (ValueError, "'2' has activation relu in state_dict; the model has none",
             {**state, "2.activation": torch.tensor(1)}),
            (ValueError, "'0' has activation relu in state_dict; the model has gelu",
             {**state, "0.activation": torch.tensor(1)}),
            (ValueError, "activation is tensor.77.", {**state, "0.activation": torch.tensor(77)}),
            (TypeError, "'0.values' of state_dict is a list", {**state, "0.values": [1.0]}),
            (TypeError, "a key of state_dict is a int", {**state, 1: torch.ones(1)}),
            (TypeError, "state_dict is a list", [state]),
            (ValueError, "0.weight", {**state, "0.weight": other.weight}),
        ]  # fmt: skip
        model = net()
        before = state_of(model)
        for kind, text, wrong in cases:
            with pytest.raises(kind, match=f"strop.load_packed: .*{text}"):
                strop.load_packed(model, wrong)
            assert_unchanged(model, before)

    def test_of_the_model(self):
        state = packed_net().state_dict()
        with pytest.raises(TypeError, match="model is a dict; a torch.nn.Module"):
            strop.load_packed({}, state)
        with pytest.raises(ValueError, match="model is an nn.Linear, which cannot be replaced"):
            strop.load_packed(nn.Linear(4, 4), state)
        model = net()
        model[2].register_forward_hook(lambda *_: None)
        with pytest.raises(ValueError, match="'2' packed, .* cannot be replaced: it has hooks"):
            strop.load_packed(model, state)
        with pytest.raises(ValueError, match="'0' has a bias in state_dict alone"):
            strop.load_packed(net(bias=False), state)
        with pytest.raises(ValueError, match="'0' has activation gelu .* none that could be"):
            strop.load_packed(net(activation=nn.Tanh), state)
