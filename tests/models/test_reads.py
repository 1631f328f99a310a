"""strop.pack_model in models that read their layers: weights, and what was set on them."""

import copy
import io

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune

import strop
from models.problems import (
    assert_same_function,
    batch,
    packed_names,
    prune_in_place,
    reasons,
    twin,
)


class Two(nn.Module):
    """Two layers, and a forward that does something with them."""

    def __init__(self, forward, **options):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.out = nn.Linear(16, 24, **options), nn.Linear(24, 16)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


READS = {
    "a tied transpose": lambda m, x: functional.linear(m.fc(x), m.fc.weight.t()),
    "a product": lambda m, x: m.fc(x) @ m.fc.weight,
    "its norm": lambda m, x: m.out(m.fc(x) / (m.fc.weight.norm(dim=1) + 1)),
    "a regulariser": lambda m, x: m.out(m.fc(x)) + m.fc.weight.abs().sum(),
    "by named_parameters": lambda m, x: m.out(m.fc(x)) + dict(m.named_parameters())["fc.weight"].sum(),
    "by state_dict": lambda m, x: m.out(m.fc(x)) + m.fc.state_dict(keep_vars=True)["weight"].sum(),
    "its data": lambda m, x: m.out(m.fc(x)) + m.fc.weight.data.sum(),
    "by numpy": lambda m, x: m.out(m.fc(x)) + float(m.fc.weight.detach().numpy().sum()),
    "a row": lambda m, x: m.out(m.fc(x)) + m.fc.weight[0].sum(),
    "in a list": lambda m, x: m.out(m.fc(x)) + torch.stack([m.fc.weight, m.fc.weight]).sum(),
    "by keyword": lambda m, x: m.out(m.fc(x)) + torch.sum(input=m.fc.weight),
    "before the call": lambda m, x: (m.fc.weight.sum(), m.out(m.fc(x)))[1],
    "another dtype": lambda m, x: m.out(m.fc(x)) + m.fc.weight.double().sum().float(),
    "its bias": lambda m, x: m.out(m.fc(x) - m.fc.bias),
    "with other weights": lambda m, x: m.out(
        torch.func.functional_call(m.fc, {"weight": m.fc.weight * 2}, (x,))
    ),
}  # fmt: skip


@pytest.mark.parametrize("forward", READS.values(), ids=READS.keys())
def test_what_is_read_stays(forward):
    model = prune_in_place(Two(forward).eval())
    reference = twin(model)
    report = strop.pack_model(model, batch(3, 16), only_if_faster=False)
    assert "fc" not in packed_names(model)
    assert "the model" in reasons(report)["fc"]
    assert_same_function(model, reference, batch(3, 16))


@pytest.mark.parametrize(
    "forward",
    [forward for name, forward in READS.items() if name not in ("by state_dict", "with other weights", "by named_parameters")],
)  # fmt: skip
def test_without_example_inputs_they_run_all_the_same(forward):
    model = prune_in_place(Two(forward).eval())
    reference = twin(model)
    strop.pack_model(model, only_if_faster=False)
    assert packed_names(model) == ["fc", "out"]
    assert_same_function(model, reference, batch(3, 16))


FACTS = {
    "dtype": lambda m, x: m.out(m.fc(x.to(m.fc.weight.dtype))),
    "device": lambda m, x: m.out(m.fc(x.to(m.fc.weight.device))),
    "to another tensor": lambda m, x: m.out(m.fc(x.to(m.fc.weight))),
    "type_as": lambda m, x: m.out(m.fc(x.type_as(m.fc.weight))),
    "shape": lambda m, x: m.out(m.fc(x)) * m.fc.weight.shape[0] * m.fc.weight.size(1),
    "T5": lambda m, x: (
        m.out(m.fc(x))
        if isinstance(m.fc.weight, torch.Tensor) and m.fc.weight.dtype != torch.int8
        else m.out(x)
    ),
    "a new tensor": lambda m, x: m.out(m.fc(x)) + m.fc.weight.new_ones(16),
    "is None": lambda m, x: m.out(m.fc(x)) if m.fc.bias is not None else x,
    "features": lambda m, x: m.out(m.fc(x)) * m.fc.in_features,
}


@pytest.mark.parametrize("forward", FACTS.values(), ids=FACTS.keys())
def test_facts_are_no_reads(forward):
    model = prune_in_place(Two(forward).eval())
    reference = twin(model)
    strop.pack_model(model, batch(3, 16), only_if_faster=False)
    assert packed_names(model) == ["fc", "out"]
    assert_same_function(model, reference, batch(3, 16))


def test_dora():
    class Dora(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.a, self.b = (nn.Linear(16, n, bias=False) for n in (16, 4, 4))
            self.b = nn.Linear(4, 16, bias=False)
            self.magnitude = nn.Parameter(torch.rand(16))

        def forward(self, x):
            weight = self.base.weight + self.b.weight @ self.a.weight
            scale = self.magnitude / weight.norm(dim=1)
            return (self.base(x) + self.b(self.a(x))) * scale

    model = prune_in_place(nn.Sequential(Dora(), nn.Linear(16, 16)).eval(), 0.5)
    reference = twin(model)
    report = strop.pack_model(model, batch(3, 16), only_if_faster=False)
    assert packed_names(model) == ["1"]
    assert {"0.base", "0.a", "0.b"} <= reasons(report).keys()
    assert_same_function(model, reference, batch(3, 16))
    strop.pack_model(reference, only_if_faster=False)
    assert_same_function(model, reference, batch(3, 16))


def test_a_masked_layer_reads_its_own_mask():
    model = Two(lambda m, x: m.out(m.fc(x))).eval()
    for name in ("weight", "bias"):
        prune.random_unstructured(model.fc, name, 0.5)
    expected = model(batch(3, 16))
    strop.pack_model(model, batch(3, 16), only_if_faster=False, filter=lambda name, _: name == "fc")
    assert packed_names(model) == ["fc"]
    assert torch.allclose(model(batch(3, 16)), expected, atol=1e-5)
    for what in ("weight", "weight_orig", "bias"):
        other = Two(lambda m, x, what=what: m.out(m.fc(x)) + getattr(m.fc, what).sum()).eval()
        for name in ("weight", "bias"):
            prune.random_unstructured(other.fc, name, 0.5)
        report = strop.pack_model(other, batch(3, 16), only_if_faster=False)
        assert "the model reads its" in reasons(report)["fc"]


def test_of_shared_weights_each_reader_counts():
    model = nn.ModuleDict({"a": Two(READS["a product"]), "b": Two(lambda m, x: m.out(m.fc(x)))})
    model["b"].fc.weight = model["a"].fc.weight
    whole = prune_in_place(nn.Sequential(model["a"], model["b"]).eval())
    report = strop.pack_model(whole, batch(3, 16), only_if_faster=False)
    assert packed_names(whole) == ["1.out"]
    assert "reads its weight" in reasons(report)["0.fc"]


class TestAttributes:
    SET = {
        "scale": 2.0,
        "table": torch.arange(24.0),
        "_is_hf_initialized": True,
        "names": {"a": [1, 2]},
        "no identifier": "of any kind",
    }

    def model(self):
        model = Two(lambda m, x: m.out(m.fc(x) * m.fc.scale + m.fc.table))
        for name, value in self.SET.items():
            setattr(model.fc, name, value)
        model.fc.__dict__["hidden"] = 3
        model.fc.train()
        model.out.eval()
        return prune_in_place(model)

    def test_are_carried(self):
        model = self.model()
        reference = twin(model)
        strop.pack_model(model, batch(3, 16), only_if_faster=False)
        assert packed_names(model) == ["fc", "out"]
        assert model.fc.hidden == 3
        assert all(getattr(model.fc, name) is value for name, value in self.SET.items())
        assert (model.fc.training, model.out.training) == (True, False)
        assert_same_function(model, reference, batch(3, 16))
        for again in (copy.deepcopy(model.fc), _through_pickle(model.fc)):
            assert again.names == {"a": [1, 2]}
            assert torch.equal(again.table, model.fc.table)

    def test_by_load_packed(self):
        model, fresh = self.model(), self.model()
        strop.pack_model(model, only_if_faster=False)
        strop.load_packed(fresh, model.state_dict())
        assert fresh.fc.scale == 2.0
        assert_same_function(fresh, model, batch(3, 16))

    def test_of_an_activation(self):
        model = nn.Sequential(nn.Linear(16, 16), nn.GELU("tanh"), nn.Linear(16, 16)).eval()
        model[1].kept = 5
        strop.pack_model(model, batch(3, 16), sparsity=0.5, only_if_faster=False)
        assert (type(model[1]), model[1].approximate, model[1].kept) == (nn.Identity, "tanh", 5)
        assert not model[1].training

    @pytest.mark.parametrize(
        "name", ["activation", "packed", "bits", "plan", "_packed", "to_dense"]
    )
    def test_that_a_packed_layer_has_for_itself(self, name):
        model = prune_in_place(Two(lambda m, x: m.out(m.fc(x))))
        setattr(model.fc, name, 7)
        report = strop.pack_model(model, only_if_faster=False)
        assert repr(name) in reasons(report)["fc"]
        assert getattr(model.fc, name) == 7

    def test_buffers_stay_a_reason(self):
        model = prune_in_place(Two(lambda m, x: m.out(m.fc(x) * m.fc.scale)))
        model.fc.register_buffer("scale", torch.ones(1))
        report = strop.pack_model(model, batch(3, 16), only_if_faster=False)
        assert reasons(report) == {"fc": "it has more than a weight and a bias"}


def _through_pickle(module):
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=False)
