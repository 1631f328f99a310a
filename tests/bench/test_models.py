"""The whole model that pruned layers are measured in."""

import functools

import pytest
import torch
from torch import nn

from strop._bench import measure, registry
from strop._bench.case import Case
from strop._bench.linear import minilm
from strop._bench.linear import model as masked_model

SMALL = {"width": 32, "wide": 64, "heads": 4, "layers": 2}


def padded():
    """Token numbers, and which of them are tokens."""
    tokens = torch.randint(100, (3, 9), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(9) < torch.tensor([[9], [4], [6]])
    return tokens, mask


@pytest.fixture
def small(monkeypatch):
    """Encoders are small ones, but of layers that gain."""
    options = SMALL | {"width": 128, "wide": 512}
    monkeypatch.setattr(minilm, "Encoder", functools.partial(minilm.Encoder, **options))


class TestEncoder:
    def test_layers_are_torchs_encoder_layers(self):
        torch.manual_seed(0)
        layer = minilm.Layer(32, 64, 4).eval()
        theirs = nn.TransformerEncoderLayer(
            32, 4, 64, activation="gelu", layer_norm_eps=1e-12, batch_first=True
        ).eval()
        parts = [layer.query, layer.key, layer.value]
        with torch.no_grad():
            theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
            theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.self_attn.out_proj.load_state_dict(layer.attended.state_dict())
        theirs.linear1.load_state_dict(layer.widen[0].state_dict())
        theirs.linear2.load_state_dict(layer.narrow.state_dict())
        x, (_, mask) = torch.randn(3, 9, 32), padded()
        with torch.inference_mode():
            ours = layer(x, mask[:, None, None])
            expected = theirs(x, src_key_padding_mask=~mask)
        torch.testing.assert_close(ours[mask], expected[mask], atol=2e-6, rtol=1e-5)

    def test_computes_what_transformers_does(self):
        transformers = pytest.importorskip("transformers", reason="transformers is not installed")
        torch.manual_seed(1)
        config = transformers.BertConfig(
            vocab_size=100,
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=4,
            num_hidden_layers=2,
        )
        theirs = transformers.BertModel(config).eval()
        ours = minilm.Encoder(**SMALL, words=100).eval()
        ours.load_state_dict(minilm.from_transformers(theirs.state_dict()))
        tokens, mask = padded()
        with torch.inference_mode():
            expected = theirs(tokens, attention_mask=mask.long()).last_hidden_state
            found = ours(tokens, mask)
        torch.testing.assert_close(found[mask], expected[mask], atol=2e-6, rtol=1e-5)

    def test_is_the_same_one_each_time_and_pruned(self, small):
        torch.manual_seed(3)
        before = torch.get_rng_state()
        first, second = (minilm.pruned_encoder(0.75).state_dict() for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(first[key], second[key]) for key in first)
        layers = minilm.linears(minilm.pruned_encoder(0.75))
        assert len(layers) == 12
        for layer in layers.values():
            assert int((layer.weight == 0).sum()) == layer.weight.numel() * 3 // 4


class TestCases:
    def test_promises(self):
        cases = {c.name: c for c in registry.cases("masked") if c.name.startswith("MiniLM")}
        limits = {name: case.bars[0].limit for name, case in cases.items()}
        assert limits == {
            "MiniLM, 90% pruned, 1 x 128 tokens": 2.5,
            "MiniLM, 90% pruned, 1 x 128 tokens: its 36 linears": 6,
            "MiniLM, 90% pruned, 16 x 128 tokens": 2.7,
            "MiniLM, 90% pruned, 16 x 128 tokens: its 36 linears": 6,
        }

    @pytest.mark.parametrize("contenders", [masked_model.whole, masked_model.alone])
    def test_are_measured(self, small, contenders):
        case = Case("masked", "a small one", lambda: contenders(2))
        result = measure.measure(case, seconds=0.0)
        assert set(result.medians) == {"strop", "torch dense"}
        assert result.missing == {}

    def test_the_layers_are_replaced_and_the_result_stays(self, small):
        calls = {name: make() for name, make in masked_model.whole(2).items()}
        torch.testing.assert_close(calls["strop"](), calls["torch dense"](), atol=1e-5, rtol=1e-5)
        model = masked_model.packed(minilm.pruned_encoder(0.9), minilm.sentences(2))
        assert sum(isinstance(m, nn.Linear) for m in model.modules()) < 12
