"""strop.densify: what strop.pack_model made of a model, undone but for the zeros."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional

import strop
from models.problems import Conv1D, assert_same_function, batch, net, prune_in_place, twin


class Intermediate(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.dense, self.intermediate_act_fn = nn.Linear(16, 16), act

    def forward(self, x):
        return self.intermediate_act_fn(self.dense(x))


class Own(nn.Linear):
    kind = "own"


class Everything(nn.Module):
    """Of each kind of layer one, with activations, ties and attributes."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 16), nn.Linear(16, 20, bias=False)
        self.head.weight = self.embed.weight
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
        self.b.weight = self.a.weight
        self.own, self.conv1d = Own(16, 16), Conv1D(16, 16)
        self.bert = Intermediate(functional.gelu)
        self.seq = nn.Sequential(nn.Linear(16, 32), nn.SiLU(inplace=True), nn.Linear(32, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.own.scale = torch.tensor(2.0)
        self.a.weight.requires_grad_(False)

    def forward(self, tokens):
        x = self.seq(self.bert(self.embed(tokens)))
        x = self.conv1d(torch.tanh(self.own(x)) * self.own.scale)
        return self.head(self.encoder(self.b(torch.relu(self.a(x)))))


def everything():
    torch.manual_seed(0)
    return prune_in_place(Everything()).eval()


TOKENS = torch.arange(12).reshape(3, 4)


def structure(model):
    """Names, classes and attributes of modules, names and sizes of parameters."""
    plain = lambda m: sorted(k for k, v in vars(m).items() if not isinstance(v, dict))  # noqa: E731
    modules = [(name, type(m), plain(m), m.training) for name, m in model.named_modules()]
    parameters = model.named_parameters(remove_duplicate=False)
    return modules, [(name, tuple(p.shape), p.requires_grad) for name, p in parameters]


@pytest.mark.parametrize("inputs", [(TOKENS,), None], ids=["fused", "not fused"])
@pytest.mark.parametrize("way", ["at once", "copied", "pickled", "loaded"])
def test_everything_is_as_it_was(inputs, way):
    model = everything()
    reference = everything()
    before, act = structure(model), model.seq[1]
    bias = model.seq[0].bias
    strop.pack_model(model, inputs, only_if_faster=False)
    assert (model.seq[0].activation is not None) == (inputs is not None)
    assert model.encoder.layers[0].activation_relu_or_gelu == 0
    assert_same_function(model, reference, TOKENS)
    if way == "copied":
        model = copy.deepcopy(model)
    elif way == "pickled":
        stream = io.BytesIO()
        torch.save(model, stream)
        stream.seek(0)
        model = torch.load(stream, weights_only=False)
    elif way == "loaded":
        model = strop.load_packed(everything(), model.state_dict())
    else:
        assert strop.densify(model) is model
        assert model.seq[1] is act
        assert model.seq[0].bias is bias
    strop.densify(model)
    assert structure(model) == before
    assert list(model.state_dict()) == list(reference.state_dict())
    assert model.b.weight is model.a.weight
    assert model.head.weight is model.embed.weight
    assert model.bert.intermediate_act_fn is functional.gelu
    assert "intermediate_act_fn" not in model.bert._modules
    assert model.seq[1].inplace
    assert "kind" not in vars(model.own)
    assert model.encoder.layers[1].activation_relu_or_gelu == 1
    assert model.encoder.use_nested_tensor
    for name, tensor in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
        assert model.state_dict()[name].is_contiguous()
    with torch.no_grad():
        assert torch.equal(model(TOKENS), reference(TOKENS))
    reference.load_state_dict(model.state_dict())


def test_it_can_be_converted_again_and_trained():
    model = prune_in_place(net())
    strop.pack_model(model, batch(3, 48), only_if_faster=False)
    strop.densify(model)
    model.train()
    before = model[0].weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(batch(5, 48)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(model[0].weight, before)
    reference = twin(model.eval())
    strop.pack_model(model, batch(3, 48), only_if_faster=False)
    assert model[0].activation == "gelu"
    assert_same_function(model, reference, batch(4, 48))


def test_after_pruning_further():
    model = prune_in_place(net(), 0.5)
    reference = twin(model)
    strop.pack_model(model, batch(3, 48), only_if_faster=False)
    masks = strop.prune_masks(reference, sparsity=0.9)
    strop.pack_model(model, sparsity=0.9)
    with torch.no_grad():
        for name, mask in masks.items():
            reference.get_parameter(name).mul_(mask)
    strop.densify(model)
    for name, tensor in reference.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    assert type(model[1]) is nn.GELU


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes(dtype):
    model = prune_in_place(net()).to(dtype)
    reference = twin(model)
    strop.pack_model(model, batch(3, 48).to(dtype), only_if_faster=False)
    strop.densify(model)
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert torch.equal(model(batch(3, 48).to(dtype)), reference(batch(3, 48).to(dtype)))
    smaller = prune_in_place(net())
    strop.pack_model(smaller, dtype=torch.bfloat16, only_if_faster=False)
    dense = smaller[0].packed.to_dense()
    strop.densify(smaller)
    assert smaller[0].weight.dtype == torch.float32
    assert torch.equal(smaller[0].weight, dense.float())


def test_layers_made_by_hand():
    linear = prune_in_place(nn.Sequential(nn.Linear(16, 8)))[0]
    plain = strop.nn.PackedLinear.from_dense(linear)
    active = strop.nn.PackedLinear.from_dense(linear, activation="gelu_tanh")
    model = nn.Sequential(nn.ModuleList([plain, active]), plain, nn.Identity())
    handle = plain.register_forward_hook(lambda module, given, y: y + 1)
    plain.register_buffer("more", torch.ones(1), persistent=False)
    expected = [plain(batch(2, 16)), active(batch(2, 16))]
    strop.densify(model)
    assert type(model[1]) is nn.Linear
    assert model[0][0] is model[1]
    assert model[1].bias is linear.bias
    assert "more" in dict(model[1].named_buffers())
    assert "more" not in model.state_dict()
    assert [type(m) for m in model[0][1]] == [nn.Linear, nn.GELU]
    assert torch.allclose(model[1](batch(2, 16)), expected[0], atol=1e-6)
    assert torch.allclose(model[0][1](batch(2, 16)), expected[1], atol=1e-6)
    handle.remove()
    assert torch.allclose(model[1](batch(2, 16)), expected[0] - 1, atol=1e-6)


def test_a_part_of_a_model():
    model = everything()
    strop.pack_model(model, (TOKENS,), only_if_faster=False)
    expected = model(TOKENS)
    strop.densify(model.encoder.layers[0])
    strop.densify(model.seq)
    assert (model.encoder.layers[0].activation_relu_or_gelu, model.encoder.use_nested_tensor) == (
        1,
        False,
    )
    assert [type(m) for m in model.seq] == [nn.Linear, nn.SiLU, nn.Linear]
    assert torch.allclose(model(TOKENS), expected, atol=1e-5)
    strop.densify(model)
    assert model.encoder.use_nested_tensor


def test_on_meta():
    model = prune_in_place(net())
    strop.pack_model(model, batch(3, 48), only_if_faster=False)
    shapes = [(n, tuple(p.shape)) for n, p in net().named_parameters()]
    strop.densify(model.to("meta"))
    assert [(n, tuple(p.shape)) for n, p in model.named_parameters()] == shapes
    assert all(p.is_meta for p in model.parameters())


def test_nothing_to_do_and_errors():
    model = net()
    before = dict(model.named_modules())
    assert strop.densify(model) is model
    assert dict(model.named_modules()) == before
    with pytest.raises(TypeError, match=r"strop.densify: model is a dict; a torch.nn.Module"):
        strop.densify({})
    with pytest.raises(
        ValueError, match=r"strop.densify: model is a strop.nn.PackedLinear.*to_dense"
    ):
        strop.densify(strop.nn.PackedLinear.from_dense(nn.Linear(4, 4)))
