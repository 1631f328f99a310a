"""Dense plans by oneDNN, with the weight in its order: torch's results, and torch's own way elsewhere."""

import collections
import copy
import functools

import pytest
import torch
from torch.nn import functional

import strop
from core.devices import assert_same_bits
from linear.problems import generator, pruned
from strop._linear import dense_ways, planning, plans
from strop._linear.masked_layouts import fits, one_method
from strop._linear.masked_weight import MaskedWeight

if not dense_ways.can_prepack(torch.float32):
    pytest.skip("torch has no oneDNN here", allow_module_level=True)

ACTIVATED = {
    None: lambda y: y,
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda y: functional.gelu(y, approximate="tanh"),
    "silu": functional.silu,
}


def made(shape=(45, 70), method="prepacked"):
    w = strop.pack_weight(pruned(shape, 0.3), plan="dense")
    return MaskedWeight.prepared(
        w.bits, w.values, w.shape, methods=one_method(method), plan_source="auto", backward=False
    )


def inputs(*shape, **options):
    return torch.randn(shape, generator=generator(), **options)


@pytest.mark.parametrize("activation", ACTIVATED)
@pytest.mark.parametrize("shape", [(1, 70), (2, 3, 70), (130, 70), (70,), (0, 70)])
def test_is_the_dense_layer(shape, activation):
    w, x, bias = made(), inputs(*shape), inputs(45)
    for b in (None, bias):
        expected = ACTIVATED[activation](functional.linear(x, w.to_dense(), b))
        found = strop.packed_linear(x, w, b, activation=activation)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
        out = torch.empty_like(expected)
        assert strop.packed_linear(x, w, b, activation=activation, out=out) is out
        assert_same_bits(out, found)


@pytest.mark.parametrize("bias", [torch.ones(1).expand(45), inputs(90)[::2]])
def test_a_bias_of_any_strides(bias):
    w, x = made(), inputs(3, 70)
    expected = functional.linear(x, w.to_dense(), bias)
    torch.testing.assert_close(strop.packed_linear(x, w, bias), expected, rtol=1e-5, atol=2e-5)


def test_is_what_runs(monkeypatch):
    calls = []
    product = dense_ways.product
    monkeypatch.setattr(dense_ways, "product", lambda *a: calls.append(a) or product(*a))
    w, x = made(), inputs(3, 70)
    strop.packed_linear(x, w)
    assert len(calls) == 1
    strop.packed_linear(x.requires_grad_(), w).sum().backward()  # which torch differentiates
    strop.packed_linear(inputs(3, 70).bfloat16(), w)
    strop.packed_linear(inputs(70), w)
    with torch.autocast("cpu", torch.bfloat16):
        assert strop.packed_linear(inputs(3, 70), w).dtype == torch.bfloat16
    torch.vmap(lambda v: strop.packed_linear(v, w))(inputs(2, 3, 70))
    assert len(calls) == 1


def test_follows_and_copies():
    w, x = made(), inputs(3, 70)
    before = strop.packed_linear(x, w)
    w.values.mul_(2)
    torch.testing.assert_close(strop.packed_linear(x, w), 2 * before)
    again = copy.deepcopy(w)
    assert again.method_names() == ["prepacked"] * 7
    assert_same_bits(strop.packed_linear(x, again), strop.packed_linear(x, w))
    loaded = strop.PackedWeight.from_state_dict(w.state_dict())
    assert loaded.methods == w.methods
    assert w.nbytes == made(method="dense").nbytes + 4 * 45 * 70


def test_compiled_and_exported():
    layer = strop.nn.PackedLinear(made())
    x = inputs(3, 70)
    torch.testing.assert_close(torch.compile(layer, backend="aot_eager")(x), layer(x))
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), layer(x))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x, b: (x[:, :-1], b), "input has shape"),
        (lambda x, b: (x, b[:-1]), "bias has shape"),
        (lambda x, b: (x.double(), b), "input has dtype float64"),
        (lambda x, b: (x, b.double()), "bias has dtype float64"),
        (lambda x, b: (x.long(), b), "input has dtype int64"),
    ],
)
def test_errors(change, text):
    x, bias = change(inputs(3, 70), inputs(45))
    with pytest.raises((ValueError, TypeError), match=rf"strop\.packed_linear: .*{text}"):
        strop.packed_linear(x, made(), bias)


class TestPlanned:
    def test_where_it_gains(self, monkeypatch):
        from strop._linear import machine_costs

        costs = plans.Costs((64, 64), 4000, torch.float32, torch.float32)
        for ratio, way in ((0.5, "prepacked"), (0.97, "dense"), (2.0, "dense")):
            monkeypatch.setattr(
                machine_costs, "factor", lambda m, *_, r=ratio: r if m == "prepacked" else 1.0
            )
            assert planning.dense_way(costs, 3) == way
            assert planning.planned_by_costs(costs, range(7), packed_only=False) == one_method(way)

    def test_dense_is_compared_with_the_better_one(self, monkeypatch):
        from strop._linear import machine_costs

        costs = plans.Costs((512, 512), 26000, torch.float32, torch.float32)
        before = planning.ratios(costs, 3)["quads"]
        monkeypatch.setattr(machine_costs, "factor", lambda m, *_: 0.5 if m == "prepacked" else 1.0)
        assert planning.ratios(costs, 3)["quads"] == pytest.approx(before / 2)

    def test_measured(self, monkeypatch):
        times = collections.defaultdict(lambda: 9.0)  # of other sets
        times |= {"quads": 3.0, "dense": 2.0, "prepacked": 1.0}

        class Timed:
            def call(self, method, rows):
                return lambda: method

        found = []

        def medians(runs, **_):
            found.append([run() for run in runs])
            return [times[run()] for run in runs]

        def method_of(dtype):
            names_of = functools.partial(planning.ways, plans.Costs((64, 64), 2048, dtype, dtype))
            methods = planning.measured(Timed(), names_of, [2])
            assert len(set(methods)) == 1
            return plans.METHOD_OF[methods[0]]

        monkeypatch.setattr(planning, "medians", medians)
        assert method_of(torch.float32) == "prepacked"
        times["prepacked"] = 1.98
        assert method_of(torch.float32) == "dense"
        times["quads"] = 1.8
        assert method_of(torch.float32) == "quads"
        assert method_of(torch.float64) == "quads"
        others = {"mask"} if strop.isa() in plans.SPREADING else set()
        assert {name for name in found[-1] if "avx2" not in name} == {"dense", "quads"} | others

    def test_is_of_a_cpu(self):
        assert fits(one_method("prepacked"), torch.device("cpu"))
        assert not fits(one_method("prepacked"), torch.device("cuda"))
