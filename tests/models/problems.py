"""Layers and models that the tests of PackedLinear and pack_model convert."""

import copy

import torch
from torch import nn

import strop
from linear.problems import generator, pruned

SHAPE = (24, 40)
PLANS = ("packed", "dense", "auto")


def dense(shape=SHAPE, sparsity=0.8, bias=True, dtype=torch.float32):
    """An nn.Linear with zeros."""
    linear = nn.Linear(shape[1], shape[0], bias=bias)
    with torch.no_grad():
        linear.weight.copy_(pruned(shape, sparsity))
    return linear.to(dtype)


def layer(plan="packed", activation=None, **options):
    return strop.nn.PackedLinear.from_dense(dense(**options), plan=plan, activation=activation)


def two_layers(plan="packed"):
    return nn.Sequential(layer(plan, activation="relu"), layer(plan, shape=(16, 24)))


def inputs(rows=5, columns=SHAPE[1], **options):
    return torch.randn(2, rows, columns, generator=generator(rows), **options)


def prune_in_place(model, sparsity=0.8):
    """The model with zeros, by one ranking."""
    masks = strop.prune_masks(model, sparsity=sparsity)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masks:
                parameter.mul_(masks[name])
    return model


def net(activation=nn.GELU, bias=True):
    """Two layers in a row, an activation, a norm, a third layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(48, 64, bias=bias),
        activation(),
        nn.Linear(64, 64),
        nn.LayerNorm(64),
        nn.Linear(64, 32),
    ).eval()


def batch(*shape, seed=0):
    return torch.randn(shape, generator=generator(seed))


def packed_names(model):
    return [name for name, m in model.named_modules() if isinstance(m, strop.nn.PackedLinear)]


def state_of(model):
    """What must not change where an error is raised: modules, parameters, values, hooks, modes."""
    return (
        [(name, id(module), module.training) for name, module in model.named_modules()],
        [(name, id(parameter)) for name, parameter in model.named_parameters()],
        {name: t.clone() for name, t in model.state_dict().items()},
        [len(module._forward_pre_hooks) for module in model.modules()],
    )


def assert_unchanged(model, before):
    now = state_of(model)
    assert now[0] == before[0]
    assert now[1] == before[1]
    assert now[3] == before[3]
    assert now[2].keys() == before[2].keys()
    assert all(torch.equal(t, before[2][name]) for name, t in now[2].items())


def assert_same_function(model, reference, *inputs, atol=2e-5):
    with torch.no_grad():
        assert torch.allclose(model(*inputs), reference(*inputs), rtol=1e-4, atol=atol)


def twin(model):
    return copy.deepcopy(model)


def count_calls(model):
    """A list that grows by a name each time a sparse layer runs."""
    calls = []
    for name, module in model.named_modules():
        if isinstance(module, strop.nn.PackedLinear):
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    return calls


class Conv1D(nn.Module):
    """GPT-2's linear layer, as transformers has it."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf, self.nx = nf, nx
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))
        nn.init.normal_(self.weight, std=0.2)
        nn.init.normal_(self.bias)

    def forward(self, x):
        size_out = x.size()[:-1] + (self.nf,)
        x = torch.addmm(self.bias, x.view(-1, x.size(-1)), self.weight)
        return x.view(size_out)


def reasons(report):
    """Why each layer was left alone."""
    return {entry["name"]: entry["reason"] for entry in report.to_dict()["left_alone"]}


def layers(report):
    """What was told of each layer that was packed."""
    return {entry["name"]: entry for entry in report.to_dict()["layers"]}


def pack(model, *args, **options):
    """Packs every layer, whatever is faster."""
    return strop.pack_model(model, *args, only_if_faster=False, **options)
