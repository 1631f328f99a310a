"""The example of a packed model, on a small one of random weights."""

import pytest
import torch
from rich.console import Console
from torch import nn

from examples.packed_minilm import comparison
from strop._bench.linear import minilm


def make():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return minilm.Encoder(width=64, wide=256, heads=4, layers=2, words=200).eval()


def tokens(batch):
    return torch.randint(200, (batch, 16), generator=torch.Generator().manual_seed(batch))


@torch.inference_mode()
def embed(model):
    return nn.functional.normalize(model(tokens(24)).float().mean(1), dim=1)


@pytest.fixture(scope="module")
def outcomes():
    return {o.way.name: o for o in comparison.compared(make, embed, tokens)}


def test_what_is_kept(outcomes):
    first, int8, pruned = (
        outcomes[name] for name in ("torch float32", "strop int8, uint8 input", "strop 90 % pruned")
    )
    assert float(first.cosines.min()) == pytest.approx(1, abs=1e-6)
    assert first.kept == 1
    assert 0.98 < float(int8.cosines.min()) < 1
    assert float(pruned.cosines.min()) < float(int8.cosines.min())
    assert pruned.kept < 1
    assert outcomes["strop int8"].cosines.mean() > int8.cosines.mean()


def test_bytes(outcomes):
    dense = outcomes["torch float32"].bytes
    linears = sum(layer.weight.nbytes for layer in minilm.linears(make()).values())
    assert outcomes["torch bfloat16"].bytes == dense // 2
    for name in ("strop int8, uint8 input", "strop int8", "torch dynamic int8"):
        assert outcomes[name].bytes == pytest.approx(dense - 0.75 * linears, rel=0.1)
    assert outcomes["strop nf4, groups of 64"].bytes < outcomes["strop int8"].bytes


def test_the_table(outcomes):
    console = Console(width=120, record=True)
    console.print(comparison.table(list(outcomes.values())))
    told = console.export_text()
    assert all(name in told for name in outcomes)
    assert "(1.00x)" in told
    assert f"{outcomes['strop int8'].cosines.mean():.4f}" in told


def test_neighbours():
    vectors = nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.1, 1]]), dim=1)
    assert comparison.neighbours(vectors, 1).flatten().tolist() == [1, 0, 3, 2]
    turned = vectors[[0, 2, 1, 3]]
    assert comparison.share_kept(turned, vectors, 1) == 0
    assert comparison.share_kept(vectors, vectors, 2) == 1


def test_all_of_the_demo_is_there():
    pytest.importorskip("matplotlib", reason="matplotlib, for the demo's pictures, is missing")
    from examples.demo.__main__ import PARTS

    assert [part.name for part in PARTS] == ["quantize", "report", "packed", "augment"]
