"""What reads the weight of a PackedLinear, and what traces the layer."""

import copy
import pickle

import pytest
import torch
from torch import nn

import strop
from core.devices import assert_same_bits
from linear.problems import kept
from models.problems import PLANS, SHAPE, dense, inputs, layer, two_layers


class TestDenseWeight:
    def test_is_the_masked_weight(self):
        linear, mask = nn.Linear(40, 24), kept(SHAPE, 0.7)
        made = strop.nn.PackedLinear.from_dense(linear, mask)
        expected = torch.where(mask, linear.weight, 0).detach()
        assert isinstance(made.weight, torch.Tensor)
        assert (made.weight.shape, made.weight.dtype) == (linear.weight.shape, torch.float32)
        assert made.weight.device == linear.weight.device
        assert not made.weight.requires_grad
        assert torch.equal(made.weight, expected)
        assert (made.weight.numpy() == expected.numpy()).all()
        assert made.weight.tolist() == expected.tolist()
        assert type(made.weight.t()) is type(made.weight + 1) is torch.Tensor
        assert str(made.weight) == str(expected)
        for copied in (copy.deepcopy(made.weight), pickle.loads(pickle.dumps(made.weight))):
            assert type(copied) is torch.Tensor
            assert torch.equal(copied, expected)

    def test_of_values_of_another_dtype(self):
        made = strop.nn.PackedLinear.from_dense(dense(), dtype=torch.bfloat16)
        assert made.weight.dtype == torch.float32
        assert torch.equal(made.weight, dense().weight.bfloat16().float())

    def test_models_that_read_it_run(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.encoder, self.scale = dense(), nn.Parameter(torch.ones(40))

            def forward(self, x):
                return (
                    nn.functional.linear(self.encoder(x), self.encoder.weight.t() * 2) * self.scale
                )

        model = Tied()
        x = inputs(requires_grad=True)
        expected = model(x)
        wanted = torch.autograd.grad(expected.sum(), (x, model.scale))
        strop.pack_model(model, only_if_faster=False)
        assert isinstance(model.encoder, strop.nn.PackedLinear)
        found = model(x)
        assert torch.allclose(found, expected, atol=1e-4)
        for a, b in zip(torch.autograd.grad(found.sum(), (x, model.scale)), wanted, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-3)
        compiled = torch.compile(model, fullgraph=True)
        assert torch.allclose(compiled(x), expected, atol=1e-4)

    def test_nothing_is_written_to_it(self):
        made = layer()
        expected = made(inputs())
        for write in (
            lambda: setattr(made, "weight", torch.zeros(SHAPE)),
            lambda: setattr(made, "weight", nn.Parameter(torch.zeros(SHAPE))),
            lambda: setattr(made, "weight", None),
            lambda: delattr(made, "weight"),
        ):
            with pytest.raises(AttributeError, match="weight"):
                write()

        def assign(at, value):
            made.weight[at] = value

        for write in (
            lambda: made.weight.zero_(),
            lambda: nn.init.normal_(made.weight),
            lambda: assign(0, 1.0),
            lambda: torch.add(torch.ones(SHAPE), 1, out=made.weight),
            lambda: made.weight.requires_grad_(),
            lambda: setattr(made.weight, "data", torch.zeros(SHAPE)),
            lambda: torch.ops.aten.zero_(made.weight),
            lambda: torch.ops.aten.zero_.default(made.weight),
        ):
            with pytest.raises(RuntimeError, match="weight is computed of what is packed"):
                write()
        assert_same_bits(made(inputs()), expected)


class TestGraphs:
    """What was traced has the layouts of its time, and says so where they are of no use."""

    def test_compiled_code_refuses_what_it_cannot_follow(self):
        made = layer()
        x = inputs()
        compiled = torch.compile(made, fullgraph=True)
        assert_same_bits(compiled(x), made(x))
        made.load_state_dict(layer(sparsity=0.6).state_dict())
        assert_same_bits(compiled(x), made(x))
        made.values = made.values * 2
        made.packed  # noqa: B018
        assert_same_bits(compiled(x), made(x))
        made.state_dict()["values"].mul_(2)
        with pytest.raises(RuntimeError, match="values was written to in place.*once outside"):
            compiled(x)
        expected = made(x)
        assert_same_bits(compiled(x), expected)

    def test_written_before_it_was_compiled(self):
        made, x = layer(), inputs()
        made.state_dict()["values"].mul_(2)
        with pytest.raises(RuntimeError, match="values was written to in place"):
            torch.compile(made, fullgraph=True)(x)

    def test_exported_with_its_buffers(self):
        model = two_layers().eval()
        exported = torch.export.export(model, (inputs(),))
        assert exported.state_dict.keys() == model.state_dict().keys()
        shared = {t.data_ptr() for t in model.state_dict().values()}
        constants = [t for t in exported.constants.values() if isinstance(t, torch.Tensor)]
        assert not any(t.data_ptr() in shared for t in constants)
        assert_same_bits(exported.module()(inputs()), model(inputs()))
        model.state_dict()["0.values"].mul_(2)
        with pytest.raises(RuntimeError, match="written to in place; call the layer once before"):
            torch.export.export(model, (inputs(),))

    def test_symbolically_traced(self):
        model, x = two_layers(), inputs()
        traced = torch.fx.symbolic_trace(model)
        assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1"]
        assert_same_bits(traced(x), model(x))
        traced.get_submodule("0").values.mul_(2)
        assert_same_bits(traced(x), model(x))
        for made in (layer(activation="gelu"), layer("dense")):
            assert torch.allclose(torch.fx.symbolic_trace(made)(x), made(x), atol=1e-5)

    @pytest.mark.parametrize("plan", PLANS)
    @pytest.mark.parametrize("trainable", [True, False])
    def test_traced_by_jit(self, plan, trainable):
        model = two_layers(plan).requires_grad_(trainable)
        x = inputs()
        traced = torch.jit.trace(model, (x,))
        assert torch.allclose(traced(x), model(x), atol=1e-5)
        assert torch.allclose(traced(x * 2), model(x * 2), atol=1e-5)
