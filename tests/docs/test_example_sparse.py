"""The example of a pruned model, on a small one of random weights."""

import pytest
import torch
from rich.console import Console
from torch import nn

import strop
from examples.sparse_minilm import pruning
from strop._bench.linear import minilm


def make():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return minilm.Encoder(width=64, wide=256, heads=4, layers=2, words=200).eval()


def tokens(batch):
    return torch.randint(200, (batch, 16), generator=torch.Generator().manual_seed(batch))


@torch.inference_mode()
def embed(model):
    return nn.functional.normalize(model(tokens(5)).mean(1), dim=1)


def test_what_the_table_says():
    found = pruning.tried(make, embed, tokens, 0.9)
    assert found.off < 1e-5
    assert found.cosines.shape == (5,)
    assert 0 < float(found.cosines.min()) < 0.999  # pruning did something
    linears = minilm.linears(make()).values()
    assert found.layer_bytes[0] == sum(p.nbytes for layer in linears for p in layer.parameters())
    assert found.layer_bytes[1] < 0.2 * found.layer_bytes[0]
    assert found.bytes[0] - found.layer_bytes[0] == found.bytes[1] - found.layer_bytes[1]
    assert {batch: len(ms) for batch, ms in found.ms.items()} == {1: 2, 16: 2}
    console = Console(width=120, record=True)
    console.print(pruning.table([found]))
    told = console.export_text()
    assert "90%" in told
    assert f"{found.cosines.mean():.3f}" in told


def test_refuses_a_model_that_differs(monkeypatch):
    replaced = strop.sparsify

    def wrongly(model, *arguments, **options):
        report = replaced(model, *arguments, **options)
        model.norm.weight.data[0] += 1
        return report

    monkeypatch.setattr(strop, "sparsify", wrongly)
    with pytest.raises(AssertionError, match="embeddings of the sparse model are off by"):
        pruning.tried(make, embed, tokens, 0.5)


def test_every_layer_is_pruned_to_the_sparsity():
    model = make()
    pruning.prune(model, 0.75)
    for layer in minilm.linears(model).values():
        assert int((layer.weight == 0).sum()) == layer.weight.numel() * 3 // 4


def test_all_of_the_demo_is_there():
    pytest.importorskip("matplotlib", reason="matplotlib, for the demo's pictures, is missing")
    from examples.demo.__main__ import PARTS

    assert [part.name for part in PARTS] == ["quantize", "report", "sparse", "augment"]
