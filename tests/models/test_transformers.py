"""strop.pack_model of the models of transformers, made from small configurations."""

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from models.problems import packed_names, reasons, twin

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SIZES = {"vocab_size": 60, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
BERT = {**SIZES, "intermediate_size": 64, "max_position_embeddings": 32}


def gpt2():
    config = transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, n_positions=32)
    return transformers.GPT2LMHeadModel(config)


def bert(**options):
    return transformers.BertForMaskedLM(transformers.BertConfig(**BERT, **options))


def llama():
    config = transformers.LlamaConfig(**BERT, num_key_value_heads=2, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config)


def mixtral():
    config = transformers.MixtralConfig(**BERT, num_key_value_heads=2, num_local_experts=4)
    return transformers.MixtralForCausalLM(config)


def t5():
    config = transformers.T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
        decoder_start_token_id=0,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def mamba():
    config = transformers.MambaConfig(
        vocab_size=60, hidden_size=32, state_size=4, num_hidden_layers=2
    )
    return transformers.MambaForCausalLM(config)


def vit():
    config = transformers.ViTConfig(
        **{k: v for k, v in BERT.items() if "vocab" not in k and "position" not in k},
        image_size=16, patch_size=4,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config)


MODELS = [gpt2, bert, llama, mixtral, t5, mamba, vit]


def inputs(make):
    if make is vit:
        return {
            "pixel_values": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        }
    tokens = torch.arange(24).reshape(2, 12) % 60
    more = {"decoder_input_ids": tokens[:, :5]} if make is t5 else {"use_cache": False}
    return {"input_ids": tokens, **({} if make in (bert,) else more)}


def built(make):
    torch.manual_seed(0)
    with torch.random.fork_rng():
        return make().eval()


def logits(model, make):
    with torch.no_grad():
        return model(**inputs(make)).logits


@pytest.mark.parametrize("observed", [True, False], ids=["with inputs", "without"])
@pytest.mark.parametrize("make", MODELS)
def test_pruned_converted_and_back(make, observed):
    model = built(make)
    masks = strop.prune_masks(model, sparsity=0.5)
    reference = built(make)
    named = dict(reference.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            named[name].mul_(mask)
    expected = logits(reference, make)
    keys = list(model.state_dict())
    given = inputs(make) if observed else None
    report = strop.pack_model(model, given, masks=masks, only_if_faster=False)
    assert len(packed_names(model)) >= 6
    assert torch.allclose(logits(model, make), expected, rtol=1e-4, atol=1e-4)
    again = strop.load_packed(built(make), model.state_dict())
    assert_same_bits(logits(again, make), logits(model, make))
    assert "no linear layers" not in str(report)
    strop.densify(model)
    assert list(model.state_dict()) == keys
    assert torch.equal(logits(model, make), expected)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, named[name])


def test_gpt2_is_all_of_it_sparse():
    model = built(gpt2)
    report = strop.pack_model(model, inputs(gpt2), sparsity=0.5, only_if_faster=False)
    assert len(packed_names(model)) == 8
    assert reasons(report) == {
        "lm_head": "shares its weight with 'transformer.wte' (Embedding)",
    }
    strop.densify(model)
    kind = transformers.pytorch_utils.Conv1D
    assert sum(type(m) is kind for m in model.modules()) == 8


@pytest.mark.parametrize(
    ("act", "name"), [("gelu", "gelu"), ("gelu_new", "gelu_tanh"), ("relu", "relu")]
)
def test_bert_is_fused_where_inputs_show_it(act, name):
    model = built(lambda: bert(hidden_act=act))
    strop.pack_model(model, sparsity=0.5, only_if_faster=False)
    layers = [m for m in model.modules() if isinstance(m, strop.nn.PackedLinear)]
    assert {layer.activation for layer in layers} == {None}
    model = built(lambda: bert(hidden_act=act))
    expected = [type(layer.intermediate.intermediate_act_fn) for layer in model.bert.encoder.layer]
    strop.pack_model(model, inputs(bert), sparsity=0.5, only_if_faster=False)
    for layer in model.bert.encoder.layer:
        assert layer.intermediate.dense.activation == name
        assert type(layer.intermediate.intermediate_act_fn) is nn.Identity
    strop.densify(model)
    assert [type(x.intermediate.intermediate_act_fn) for x in model.bert.encoder.layer] == expected


def test_experts_are_named():
    model = built(mixtral)
    report = strop.pack_model(model, inputs(mixtral), sparsity=0.5, only_if_faster=False)
    assert any(
        "experts" in name and "no linear layer" in why for name, why in reasons(report).items()
    )


@pytest.mark.parametrize("make", [gpt2, bert, t5])
def test_quantization_report(make):
    found = strop.quantization_report(twin(built(make)), formats=["int8"]).to_dict()
    names = {name for entry in found["weights"] for name in (entry["name"], *entry["tied"])}
    assert {"lm_head.weight", "cls.predictions.decoder.weight"} & names
