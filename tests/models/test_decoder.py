"""A decoder of transformers, with random weights: packed, it writes what its dequantized twin writes."""

import copy

import pytest
import torch

import strop
from models.problems import packed_names

transformers = pytest.importorskip("transformers", reason="transformers, of the demo, is missing")


@pytest.fixture(scope="module")
def decoder():
    """Two layers, four heads that share two of keys and values, embeddings tied to the last layer."""
    config = transformers.LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=160,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def prompt(batch=2):
    return torch.randint(320, (batch, 7), generator=torch.Generator().manual_seed(1))


def written(model, tokens, **options):
    with torch.no_grad():
        return model.generate(
            tokens, max_new_tokens=12, do_sample=False, cache_implementation="static",
            pad_token_id=0, eos_token_id=None, disable_compile=True, **options,
        )  # fmt: skip


@pytest.mark.parametrize("format", ["int8", "int4", "nf4"])
def test_writes_the_same_tokens(decoder, format):
    model = copy.deepcopy(decoder)
    report = strop.pack_model(model, (prompt(),), format=format, only_if_faster=False)
    assert len(packed_names(model)) == 14
    (alone,) = (e for e in report.to_dict()["left_alone"] if e["name"] == "lm_head")
    assert "shares its weight with" in alone["reason"]
    dense = strop.densify(copy.deepcopy(model))
    assert not packed_names(dense)
    assert torch.equal(written(model, prompt()), written(dense, prompt()))


def test_quantized_activations_saved_and_loaded(decoder):
    model = copy.deepcopy(decoder)
    strop.pack_model(model, (prompt(),), format="int8", activations="uint8", only_if_faster=False)
    with torch.no_grad():
        found, expected = model(prompt()).logits, decoder(prompt()).logits
    assert float((found - expected).norm() / expected.norm()) < 0.05
    again = strop.load_packed(copy.deepcopy(decoder), model.state_dict())
    assert torch.equal(written(again, prompt()), written(model, prompt()))
    assert again.lm_head.weight is again.model.embed_tokens.weight


def test_in_bfloat16(decoder):
    model = copy.deepcopy(decoder).to(torch.bfloat16)
    strop.pack_model(model, format="int4", block_size=(1, 32), only_if_faster=False)
    dense = strop.densify(copy.deepcopy(model))
    with torch.no_grad():
        found, expected = model(prompt()).logits, dense(prompt()).logits
    assert found.dtype == torch.bfloat16
    assert float((found - expected).float().norm() / expected.float().norm()) < 0.03


def test_compiled_steps(decoder):
    model = copy.deepcopy(decoder)
    strop.pack_model(model, format="int8", activations="int8", only_if_faster=False)
    with torch.no_grad():
        expected = model(prompt()).logits
        compiled = torch.compile(model, backend="aot_eager")
        torch.testing.assert_close(compiled(prompt()).logits, expected)
