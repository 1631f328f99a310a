"""strop.pack_model and strop.densify of models that torch.compile has seen."""

import pytest
import torch
from torch import nn

import strop
from models.problems import assert_same_function, batch, prune_in_place


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.act, self.down = nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)

    def forward(self, x):
        return x + self.down(self.act(self.up(x)))


def model():
    torch.manual_seed(0)
    net = nn.Sequential(Block(), nn.Sequential(nn.Linear(16, 16), nn.ReLU()), nn.Linear(16, 16))
    return prune_in_place(net.eval())


def compiled(module):
    return torch.compile(module, backend="eager")


def whole(net):
    return compiled(net)


def itself(net):
    net.compile(backend="eager")
    return net


def a_submodule(net):
    net[0] = compiled(net[0])
    return net


def a_submodule_itself(net):
    net[1].compile(backend="eager")
    return net


def a_layer(net):
    net[2] = compiled(net[2])
    net[0].up = compiled(net[0].up)
    return net


def a_layer_itself(net):
    net[2].compile(backend="eager")
    return net


def a_forward(net):
    net.forward = torch.compile(net.forward, backend="eager")
    return net


WAYS = [whole, itself, a_submodule, a_submodule_itself, a_layer, a_layer_itself, a_forward]


@pytest.fixture(autouse=True)
def fresh():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def packed(net):
    return [m for m in net.modules() if isinstance(m, strop.nn.PackedLinear)]


@pytest.mark.parametrize("way", WAYS)
def test_converted_and_compiled_anew(way):
    reference, net = model(), way(model())
    x = batch(5, 16)
    with torch.no_grad():
        assert torch.allclose(net(x), reference(x), atol=1e-6)
        report = strop.pack_model(net, x, only_if_faster=False).to_dict()
        assert [entry["rows"] for entry in report["layers"]] == [[5]] * 4
        assert len(packed(net)) == 4
        assert torch.allclose(net(x), reference(x), atol=1e-5)
        for layer in packed(net):  # what runs is what is there
            layer.bias.zero_()
        assert (net(x) - reference(x)).abs().max() > 1e-3


@pytest.mark.parametrize("way", WAYS)
def test_prunes(way):
    reference, net = model(), way(model())
    masks = strop.prune_masks(net, sparsity=0.9)
    with torch.no_grad():
        for name, mask in masks.items():
            reference.get_parameter(name.replace("_orig_mod.", "")).mul_(mask)
        strop.pack_model(net, batch(5, 16), masks=masks, only_if_faster=False)
    with torch.compiler.set_stance("force_eager"):
        assert_same_function(net, reference, batch(5, 16))


def test_masks_by_the_names_of_the_model_itself():
    reference, net = model(), whole(model())
    masks = strop.prune_masks(reference, sparsity=0.9)
    strop.pack_model(net, masks=masks, only_if_faster=False)
    with torch.no_grad():
        for name, mask in masks.items():
            reference.get_parameter(name).mul_(mask)
    with torch.compiler.set_stance("force_eager"):
        assert_same_function(net, reference, batch(5, 16))


@pytest.mark.parametrize("way", [whole, itself, a_layer, a_layer_itself])
def test_back_to_dense(way):
    reference, net = model(), way(model())
    keys = list(net.state_dict())
    with torch.no_grad():
        strop.pack_model(net, batch(5, 16), only_if_faster=False)
        net(batch(5, 16))
        strop.densify(net)
    assert not packed(net)
    assert list(net.state_dict()) == keys
    assert_same_function(net, reference, batch(5, 16))


@pytest.mark.parametrize("saved", [whole, a_submodule, itself, a_layer])
@pytest.mark.parametrize("loaded", [whole, a_submodule, itself, a_layer])
def test_saved_and_loaded(saved, loaded):
    net, again = saved(model()), loaded(model())
    strop.pack_model(net, batch(5, 16), only_if_faster=False)
    strop.load_packed(again, net.state_dict())
    assert len(packed(again)) == 4
    with torch.compiler.set_stance("force_eager"):
        assert_same_function(again, net, batch(5, 16))


def test_many_conversions_are_no_recompilations_of_one():
    net = torch.compile(model(), backend="eager", fullgraph=True)
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=2):
        for _ in range(3):
            net(batch(5, 16))
            strop.pack_model(net, batch(5, 16), only_if_faster=False)
            net(batch(5, 16))
            strop.densify(net)
        assert_same_function(net, model(), batch(5, 16))


def test_by_inductor():
    reference, net = model(), torch.compile(model())
    with torch.no_grad():
        net(batch(5, 16))
        strop.pack_model(net, batch(5, 16), only_if_faster=False)
        assert torch.allclose(net(batch(5, 16)), reference(batch(5, 16)), atol=1e-5)


def test_loaded_into_one_that_ran():
    net, again = model(), whole(model())
    strop.pack_model(net, batch(5, 16), only_if_faster=False)
    with torch.no_grad():
        again(batch(5, 16))
        strop.load_packed(again, net.state_dict())
        assert_same_function(again, net, batch(5, 16))


def test_nothing_is_compiled_while_it_is_observed():
    seen = []

    def backend(graph, _):
        seen.append(graph)
        return graph.forward

    net = torch.compile(model(), backend=backend)
    strop.pack_model(net, batch(5, 16), only_if_faster=False)
    assert seen == []
    with torch.no_grad():
        net(batch(5, 16))
    assert seen
