"""Functions of torch.jit.trace and torch.fx: graphs of public ops, with gradients and without."""

import pytest
import torch

import strop

X = torch.linspace(-2, 2, 48).view(6, 8)
IMAGES = torch.linspace(0, 1, 2 * 3 * 8 * 9).view(2, 3, 8, 9)
MATRICES = strop.affine_matrix(torch.tensor([20.0, -30.0]), (1, 0.5), 1.2, 0, 8, 9)
BOXES = torch.tensor([[[1.0, 1, 5, 6], [0, 2, 9, 4]]] * 2)

FUNCTIONS = {
    "fake_quantize": (lambda x: strop.fake_quantize(x, format="int4", block_size=(1, 4)), X),
    "soft_threshold": (lambda x: strop.soft_threshold(x, 0.5), X),
    "prune_mask": (lambda x: strop.prune_mask(x, sparsity=0.5), X),
    "augment_images": (lambda x: strop.augment_images(x, MATRICES, mean=0.5), IMAGES),
    "warp_points": (lambda x: strop.warp_points(x, MATRICES), BOXES[..., :2]),
    "warp_boxes": (lambda x: strop.warp_boxes(x, MATRICES, size=(8, 9)), BOXES),
    "packed_linear": (lambda x: strop.packed_linear(x, WEIGHT), X),
}
WEIGHT = strop.pack_weight(X[:, :8].clone(), X.abs() > 1, plan="packed")


@pytest.mark.parametrize("trains", [False, True])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_traced_by_jit(name, trains):
    function, x = FUNCTIONS[name]
    x = x.clone().requires_grad_(trains)
    traced = torch.jit.trace(function, (x,))
    private = [line for line in str(traced.graph).splitlines() if "strop::_" in line]
    assert not any("_fake_quantize" in line for line in private)  # its number is of this process
    for given in (x, x.detach() * 0.5):
        assert torch.equal(traced(given), function(given))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n != "packed_linear"])
def test_traced_symbolically(name):
    function, x = FUNCTIONS[name]
    traced = torch.fx.symbolic_trace(function)
    targets = [str(node.target) for node in traced.graph.nodes if node.op == "call_function"]
    assert any(target.startswith(f"strop.{name}.") for target in targets)
    assert torch.equal(traced(x), function(x))
