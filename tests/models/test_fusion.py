"""strop.pack_model: which activations become a part of their layer, and what the model sees of that."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import strop
from core.devices import assert_same_bits
from models.problems import assert_same_function, batch, prune_in_place, twin


def converted(model, *inputs, **options):
    """A twin of the model as it was, and the report's dictionary."""
    prune_in_place(model.eval())
    reference = twin(model)
    report = strop.pack_model(model, inputs or None, only_if_faster=False, **options).to_dict()
    if inputs:
        assert_same_function(model, reference, *inputs)
    return reference, report


def activations(model):
    return [m.activation for m in model.modules() if isinstance(m, strop.nn.PackedLinear)]


class Intermediate(nn.Module):
    """As BERT has it."""

    def __init__(self, act):
        super().__init__()
        self.dense, self.intermediate_act_fn = nn.Linear(16, 32), act

    def forward(self, x):
        return self.intermediate_act_fn(self.dense(x))


class Around(nn.Module):
    """A net, and a forward that does something with it."""

    def __init__(self, forward, activation=None):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 16), activation or nn.ReLU(), nn.Linear(16, 16))
        self.extra, self._forward, self.seen = nn.Linear(16, 16), forward, []

    def forward(self, x):
        return self._forward(self, x)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
        (nn.SiLU(), "silu"),
        (nn.SiLU(inplace=True), "silu"),
        (nn.Tanh(), None),
        (nn.LeakyReLU(), None),
    ],
)
def test_what_is_fused(module, name):
    model = nn.Sequential(nn.Linear(16, 32), module, nn.Linear(32, 8))
    _, report = converted(model, batch(5, 16))
    assert model[0].activation == name
    assert (type(model[1]) is nn.Identity) == (name is not None)
    assert report["layers"][0]["activation"] == name
    assert len(model) == 3


def test_nothing_without_example_inputs():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), Intermediate(functional.gelu))
    reference, report = converted(model)
    assert activations(model) == [None, None]
    assert {layer["activation"] for layer in report["layers"]} == {None}
    x = batch(3, 16)
    for part in (lambda m: m[0], lambda m: m[:1], lambda m: m[2].dense, lambda m: m):
        assert_same_function(part(model), part(reference), x)


def test_switched_off():
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    converted(model, batch(5, 16), fuse=False)
    assert model[0].activation is None
    assert type(model[1]) is nn.ReLU


OTHERWISE = {
    "the layer by itself as well": lambda m, x: m.net(x) + m.net[0](x),
    "a slice": lambda m, x: m.net(x) + m.net[:1](x),
    "the layer alone": lambda m, x: m.net[0](x),
    "the activation of something else": lambda m, x: m.net(x) + m.net[1](x),
    "the activation without the layer": lambda m, x: m.net[2](m.net[1](m.extra(x))),
    "another step between": lambda m, x: m.net[2](m.net[1](m.net[0](x) + 1)),
    "a copy between": lambda m, x: m.net[2](m.net[1](m.net[0](x).clone())),
    "both taken": lambda m, x: (lambda y: m.net[1](y) + y)(m.net[0](x)),
    "taken before": lambda m, x: (lambda y: y.sum() + m.net[1](y))(m.net[0](x)),
    "taken in a list": lambda m, x: (lambda y: torch.cat([m.net[1](y), y]))(m.net[0](x)),
    "a functional activation": lambda m, x: m.net[2](functional.relu(m.net[0](x))),
    "the activation twice": lambda m, x: m.net[2](m.net[1](m.net[1](m.net[0](x)))),
    "a layer's result thrown away": lambda m, x: (m.net[0](x), m.net(x))[1],
}


@pytest.mark.parametrize("forward", OTHERWISE.values(), ids=OTHERWISE.keys())
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_a_forward_that_sees_the_result_itself(forward, activation):
    model = Around(forward, activation())
    converted(model, batch(5, 16))
    assert set(activations(model)) == {None}


KEEPS = {
    "returned": lambda m, x: (m.net[1](y := m.net[0](x)), y),
    "returned in a dict": lambda m, x: {"hidden": (y := m.net[0](x)), "y": m.net[1](y)},
    "in a list": lambda m, x: (m.seen.append(y := m.net[0](x)), m.net[1](y))[1],
    "of each module": lambda m, x: [x := one(x) for one in m.net],
}


@pytest.mark.parametrize("forward", KEEPS.values(), ids=KEEPS.keys())
def test_a_forward_that_keeps_the_result(forward):
    model = Around(forward)
    strop.pack_model(model.eval(), batch(5, 16), sparsity=0.5, only_if_faster=False)
    assert set(activations(model)) == {None}


SAME = {
    "the net": lambda m, x: m.net(x),
    "twice": lambda m, x: m.net(m.net(x)),
    "one by one": lambda m, x: m.net[2](m.net[1](m.net[0](x))),
    "in a loop": lambda m, x: [x := one(x) for one in m.net][-1],
    "by keyword": lambda m, x: m.net[2](m.net[1](input=m.net[0](input=x))),
    "by forward": lambda m, x: m.net[2](m.net[1].forward(m.net[0].forward(x))),
    "its shape": lambda m, x: (lambda y: m.net[1](y) * y.shape[0])(m.net[0](x)),
}


@pytest.mark.parametrize("forward", SAME.values(), ids=SAME.keys())
def test_a_forward_that_does_the_same(forward):
    model = Around(forward, nn.GELU())
    if forward is SAME["in a loop"]:
        model._forward = _loop
    converted(model, batch(5, 16))
    assert model.net[0].activation == "gelu"
    assert type(model.net[1]) is nn.Identity
    assert model.net[1].approximate == "none"


def _loop(model, x):
    for one in model.net:
        x = one(x)
    return x


@pytest.mark.parametrize("place", ["layer", "activation", "net"])
def test_hooks(place):
    seen = []
    model = Around(lambda m, x: m.net(x))
    target = {"layer": model.net[0], "activation": model.net[1], "net": model.net}[place]
    target.register_forward_hook(lambda *given: seen.append(given))
    converted(model, batch(5, 16))
    fused = type(model.net[1]) is nn.Identity
    assert fused == (place == "net")  # which sees the same as before


def test_a_hook_of_every_module():
    seen = []
    hook = nn.modules.module.register_module_forward_hook(lambda m, x, y: seen.append(y))
    try:
        model = Around(lambda m, x: m.net(x))
        converted(model, batch(5, 16))
    finally:
        hook.remove()
    assert set(activations(model)) == {None}


def test_structures_that_could_be_anything():
    class Own(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x)) + self[0](x)

    shared = nn.ReLU()
    replaced = nn.ReLU()
    replaced.forward = lambda x: x * 2
    model = nn.Sequential(
        nn.Sequential(nn.Linear(16, 16), shared, nn.Linear(16, 16), shared),
        nn.Sequential(nn.Linear(16, 16), replaced),
        Own(nn.Linear(16, 16), nn.ReLU()),
        nn.ModuleList([nn.Linear(16, 16), nn.ReLU()])[0],
    )
    converted(model, batch(5, 16))
    assert activations(model) == [None] * 5


def test_a_parent_at_two_places():
    block = nn.Sequential(nn.Linear(16, 16), nn.ReLU())
    model = nn.Sequential(block, block)
    converted(model, batch(3, 16))
    assert model[0][0] is model[1][0]
    assert model[0][0].activation == "relu"


def test_layers_of_one_weight():
    model = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
    model[2].weight = model[0].weight
    converted(model, batch(3, 16))
    assert (model[0].activation, model[2].activation) == ("gelu", None)


class TestBert:
    @pytest.mark.parametrize(
        "act", [nn.GELU(), functional.gelu, functional.relu, "GELUActivation", "NewGELUActivation"]
    )
    def test_fused(self, act):
        expected = {"NewGELUActivation": "gelu_tanh", functional.relu: "relu"}.get(act, "gelu")
        if isinstance(act, str):  # as the class of that name in transformers, which is not imported
            tanh = "tanh" if expected == "gelu_tanh" else "none"
            forward = lambda self, x: functional.gelu(x, approximate=tanh)  # noqa: E731
            members = {"forward": forward, "__module__": "transformers.activations"}
            act = type(act, (nn.Module,), members)()
        model = nn.Sequential(Intermediate(act), nn.Linear(32, 16))
        converted(model, batch(5, 16))
        assert model[0].dense.activation == expected
        assert type(model[0].intermediate_act_fn) is nn.Identity
        fresh = nn.Sequential(Intermediate(act), nn.Linear(32, 16))
        strop.load_packed(fresh, model.state_dict())
        assert_same_bits(fresh(batch(5, 16)), model(batch(5, 16)))

    def test_dense_by_itself(self):
        class Reads(Intermediate):
            def forward(self, x):
                return super().forward(x) + self.dense(x)

        model = nn.Sequential(Reads(nn.GELU()))
        converted(model, batch(5, 16))
        assert activations(model) == [None]

    def test_an_activation_of_the_class(self):
        class Shared(nn.Module):
            intermediate_act_fn = staticmethod(functional.relu)

            def __init__(self):
                super().__init__()
                self.dense = nn.Linear(16, 16)

            def forward(self, x):
                return self.intermediate_act_fn(self.dense(x))

        model = nn.Sequential(Shared())
        converted(model, batch(5, 16))
        assert activations(model) == [None]

    def test_with_more_in_it(self):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.dense, self.gate = nn.Linear(16, 16), nn.Linear(16, 16)
                self.intermediate_act_fn = nn.GELU()

            def forward(self, x):
                return self.intermediate_act_fn(self.gate(x)) * self.dense(x)

        model = nn.Sequential(Gated())
        converted(model, batch(5, 16))
        assert activations(model) == [None, None]


def test_the_watched_model_is_left_as_it_was():
    model = prune_in_place(
        nn.Sequential(Intermediate(functional.gelu), nn.Linear(32, 16), nn.ReLU())
    )
    names = [sorted(vars(m)) for m in model.modules()]
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        strop.pack_model(model, batch(3, 15))
    assert [sorted(vars(m)) for m in model.modules()] == names
    assert model[0].intermediate_act_fn is functional.gelu
    strop.pack_model(model, batch(3, 16), filter=lambda *_: False)
    assert [sorted(vars(m)) for m in model.modules()] == names
