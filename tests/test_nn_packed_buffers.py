"""SparseLinear's tensors are buffers, and what its kernels read follows them."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import state_dict as distributed
from torch.func import functional_call

import strop
from conftest import assert_same_bits
from sparse_problems import kept, pruned
from sparsify_problems import SHAPE, dense, inputs, layer

PLANS = ("sparse", "dense", "table")
ROWS = (1, 3, 20, 200)


def model_of(plan="sparse"):
    return nn.Sequential(layer(plan, activation="relu"), layer(plan, shape=(16, 24)))


def reference_of(made):
    """The dense model of what the buffers hold, by way of numpy."""
    mask = strop.unpack_mask(made.bits, made.in_features)
    weight = torch.zeros(made.out_features, made.in_features, dtype=made.values.dtype)
    weight[mask] = made.values
    return weight


def assert_follows(made):
    """The results are those of a layer that was made from the buffers as they are."""
    weight = reference_of(made)
    fresh = strop.nn.SparseLinear(
        strop.SparseWeight.from_state_dict(
            {name: getattr(made, name).clone() for name in ("bits", "values", "shape", "plan")}
        ),
        made.bias,
        activation=made.activation,
    )
    assert torch.equal(made.weight, weight)
    for rows in ROWS:
        x = inputs(rows, made.in_features).to(made.values.dtype)
        expected = nn.functional.linear(x, weight, made.bias)
        expected = torch.relu(expected) if made.activation else expected
        assert torch.allclose(made(x), expected, atol=1e-4)
        assert_same_bits(made(x), fresh(x))
    again = copy.deepcopy(made)
    assert_same_bits(again(x), made(x))


class TestBuffers:
    def test_every_key_of_the_state_dict_is_a_buffer_or_a_parameter(self):
        model = model_of()
        named = dict([*model.named_parameters(), *model.named_buffers()])
        state = model.state_dict()
        assert state.keys() == named.keys()
        assert all(state[name].data_ptr() == named[name].data_ptr() for name in named)
        assert [name for name, _ in model.named_parameters()] == ["0.bias", "1.bias"]
        assert not any(t.requires_grad for t in model.buffers())

    def test_names_of_distributed_state_dicts(self):
        model, other = model_of(), model_of("dense")
        state = distributed.get_model_state_dict(model)
        assert state.keys() == model.state_dict().keys()
        distributed.set_model_state_dict(other, state)
        assert_same_bits(other(inputs()), model(inputs()))

    def test_functional_call(self):
        model = model_of()
        other, x, before = copy.deepcopy(model), inputs(), model(inputs())
        other[0].values.mul_(2)
        packed = model[0].packed
        assert_same_bits(functional_call(model, model.state_dict(), (x,)), before)
        assert model[0].packed is packed  # nothing was made anew
        assert_same_bits(functional_call(model, other.state_dict(), (x,)), other(x))
        assert_same_bits(model(x), before)

    def test_gradients_through_functional_call(self):
        model, x = model_of(), inputs()
        parameters = {name: p.detach() for name, p in model.named_parameters()}

        def loss(parameters):
            state = {**dict(model.named_buffers()), **parameters}
            return functional_call(model, state, (x,)).square().sum()

        found = torch.func.grad(loss)(parameters)
        expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
        for a, b in zip(found.values(), expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)
        assert_follows(model[0])

    def test_type_casts_values_alone(self):
        made = layer()
        made.type(torch.float64)
        assert made.values.dtype == made.bias.dtype == torch.float64
        assert (made.bits.dtype, made.plan.dtype) == (torch.uint8, torch.int64)
        assert_follows(made)
        made.type("torch.FloatTensor")
        assert_follows(made)
        state = {name: t.clone() for name, t in made.state_dict().items()}
        with pytest.raises(TypeError, match=r"SparseLinear: values cannot become torch.int32"):
            made.type(torch.int32)
        for name, tensor in made.state_dict().items():
            assert torch.equal(tensor, state[name])

    def test_a_name_of_each_buffer(self):
        made = layer(activation="silu")
        assert made.activation == "silu"
        assert made.get_buffer("bits") is made.bits
        assert int(made._buffers["activation"]) == 4
        made.activation = None
        assert "activation" not in made.state_dict()
        made.activation = "relu"
        assert_follows(made)
        with pytest.raises(ValueError, match="activation is 'tanh'; None, relu"):
            made.activation = "tanh"


@pytest.mark.parametrize("plan", PLANS)
class TestWritten:
    def test_into_a_state_dict(self, plan):
        made = layer(plan, activation="relu")
        state = made.state_dict()
        made(inputs())
        state["values"].mul_(-3)
        assert_follows(made)
        with torch.no_grad():
            state["bits"].copy_(layer(plan).bits.flip(0))
            other = strop.pack_sparse(reference_of(layer(plan)).flip(0), plan=plan)
            state["values"].copy_(other.values)
        assert_follows(made)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_within_modes(self, plan, mode):
        made = layer(plan)
        with mode():
            made.values[0] = 7.5
            y = made(inputs())
        assert_same_bits(made(inputs()), y)
        assert_follows(made)

    def test_another_number_of_values(self, plan):
        made, other = layer(plan), layer(plan, sparsity=0.3)
        made.bits, made.values = other.bits.clone(), other.values.clone()
        assert_follows(made)
        assert made.packed.nnz == other.packed.nnz
        made.load_state_dict(layer(plan).state_dict())
        assert_follows(made)

    def test_by_other_means_of_torch(self, plan):
        made = layer(plan)
        made.values.data = made.values * 2  # no write that torch would count
        assert_follows(made)
        torch.utils.swap_tensors(made.values, made.values * 3)
        assert_follows(made)
        made.values.set_(made.values * 4)
        assert_follows(made)

    def test_what_does_not_fit_is_an_error_until_it_does(self, plan):
        made = layer(plan)
        expected, values = made(inputs()), made.values
        made.values = values[:-1].clone()
        with pytest.raises(ValueError, match="bits are set"):
            made(inputs())
        made.values = values
        assert_same_bits(made(inputs()), expected)
        made.bits.bitwise_not_()
        with pytest.raises(ValueError, match="bits are set"):
            made(inputs())
        made.bits.bitwise_not_()
        assert_same_bits(made(inputs()), expected)

    def test_the_plan(self, plan):
        made = layer(plan)
        other = layer("sparse" if plan == "dense" else "dense")
        made.plan.copy_(other.plan)
        assert made.packed.chosen == other.packed.chosen
        assert_follows(made)
        made.shape[0] += 1
        with pytest.raises(ValueError, match="shape"):
            made(inputs())

    def test_a_checkpoint_that_is_read_in_place(self, plan, tmp_path):
        model, other = model_of(plan), model_of(plan)
        for made in other:
            made.values.mul_(0.5)
        dcp.save(other.state_dict(), checkpoint_id=tmp_path / "saved", no_dist=True)
        expected = other(inputs())
        dcp.load(model.state_dict(), checkpoint_id=tmp_path / "saved", no_dist=True)
        assert_same_bits(model(inputs()), expected)
        empty = copy.deepcopy(model).to("meta").to_empty(device="cpu")
        dcp.load(empty.state_dict(), checkpoint_id=tmp_path / "saved", no_dist=True)
        assert_same_bits(empty(inputs()), expected)

    def test_of_tied_layers(self, plan):
        model = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24))
        model[2].weight = model[0].weight
        strop.sparsify(model, sparsity=0.8, only_if_faster=False, plan=plan)
        assert model[0].bits is model[2].bits
        model[2].values.mul_(2)
        assert_follows(model[0])
        assert_follows(model[2])
        again = copy.deepcopy(model)
        assert again[0].values is again[2].values

    def test_loading_keeps_whoever_holds_the_tensors(self, plan):
        made, other = layer(plan), layer(plan)
        other.values.mul_(4)
        held = made.state_dict()
        made.load_state_dict(other.state_dict())
        assert_same_bits(held["values"], other.values)
        held["values"].mul_(0.25)
        assert_follows(made)

    def test_a_weight_by_itself(self, plan):
        packed = strop.pack_sparse(pruned(SHAPE, 0.7), plan=plan, backward=True)
        x = inputs(40, requires_grad=True)
        strop.sparse_linear(x, packed)
        packed.state_dict()["values"].mul_(2)
        fresh = strop.pack_sparse(packed.to_dense(), plan=plan, backward=True)
        found, expected = strop.sparse_linear(x, packed), strop.sparse_linear(x, fresh)
        assert_same_bits(found, expected)
        for a, b in zip(
            torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), x), strict=True
        ):
            assert_same_bits(a, b)
        packed.values[0] = 9
        assert float(packed.to(torch.float64).to_dense().max()) == 9
        packed.values[0] = 10
        assert float(copy.deepcopy(packed).to_dense().max()) == 10


class TestDenseWeight:
    def test_is_the_masked_weight(self):
        linear, mask = nn.Linear(40, 24), kept(SHAPE, 0.7)
        made = strop.nn.SparseLinear.from_dense(linear, mask)
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
        made = strop.nn.SparseLinear.from_dense(dense(), dtype=torch.bfloat16)
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
        strop.sparsify(model, only_if_faster=False)
        assert isinstance(model.encoder, strop.nn.SparseLinear)
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
            with pytest.raises(RuntimeError, match="weight is computed from bits and values"):
                write()
        assert_same_bits(made(inputs()), expected)


def _run(holders, queue):
    torch.set_num_threads(1)
    packed, model, narrow, x = holders
    with torch.no_grad():
        for y in (strop.sparse_linear(x, packed), model(x), strop.sparse_linear(x, narrow)):
            queue.put(y.numpy())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no start method {method}")
    context = torch.multiprocessing.get_context(method)
    queue, x, model = context.SimpleQueue(), inputs(), model_of().requires_grad_(False)
    packed = layer().packed
    narrow = packed.to(torch.bfloat16)
    wanted = [strop.sparse_linear(x, packed), model(x), strop.sparse_linear(x, narrow)]
    worker = context.Process(target=_run, args=((packed, model, narrow, x), queue))
    worker.start()
    found = [torch.from_numpy(queue.get()) for _ in wanted]
    worker.join()
    assert worker.exitcode == 0
    for y, expected in zip(found, wanted, strict=True):
        assert_same_bits(y, expected)


def test_saved_whole():
    model = model_of()
    model[0].values.mul_(3)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    assert_same_bits(again(inputs()), model(inputs()))
    assert_follows(again[0])


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
        model = model_of().eval()
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
        model, x = model_of(), inputs()
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
        model = model_of(plan).requires_grad_(trainable)
        x = inputs()
        traced = torch.jit.trace(model, (x,))
        assert torch.allclose(traced(x), model(x), atol=1e-5)
        assert torch.allclose(traced(x * 2), model(x * 2), atol=1e-5)
