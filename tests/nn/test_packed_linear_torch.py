"""strop.nn.PackedLinear within torch: compiled, exported, transformed."""

import subprocess
import sys

import torch
from torch import nn

from linear.problems import generator
from models.problems import inputs, layer


def test_fullgraph_any_rows_and_gradients():
    model = nn.Sequential(layer(activation="gelu"), layer("dense", shape=(16, 24)))
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    for rows in (3, 20, 150):
        x = inputs(rows, requires_grad=True)
        y, expected = compiled(x), model(x)
        assert torch.allclose(y, expected, atol=1e-5)
        wanted = (x, model[0].bias, model[1].bias)
        found = torch.autograd.grad(y.square().sum(), wanted)
        for a, b in zip(found, torch.autograd.grad(expected.square().sum(), wanted), strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_exported_and_loaded_in_a_fresh_process(tmp_path):
    model = nn.Sequential(layer(activation="relu"), layer(shape=(16, 24))).eval()
    batch = torch.export.Dim("batch", min=2, max=4096)
    exported = torch.export.export(model, (inputs(),), dynamic_shapes={"input": {0: batch}})
    torch.export.save(exported, tmp_path / "model.pt2")
    xs = [torch.randn(rows, 5, 40, generator=generator(rows)) for rows in (2, 9, 300)]
    with torch.no_grad():
        torch.save([(x, model(x)) for x in xs], tmp_path / "expected.pt")
    code = f"""
import torch, strop
model = torch.export.load({str(tmp_path / "model.pt2")!r}).module()
for x, y in torch.load({str(tmp_path / "expected.pt")!r}):
    assert torch.equal(model(x), y), x.shape
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_vmap():
    made = layer()
    assert torch.allclose(torch.vmap(made)(inputs()), made(inputs()), atol=1e-5)
