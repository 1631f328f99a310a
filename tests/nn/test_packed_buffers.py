"""PackedLinear's tensors are buffers, and what its kernels read follows them."""

import copy
import io
import multiprocessing

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint import state_dict as distributed
from torch.func import functional_call

import strop
from core.devices import assert_same_bits
from linear.problems import pruned
from models.problems import PLANS, SHAPE, inputs, layer, two_layers

ROWS = (1, 3, 20, 200)


def reference_of(made):
    """The dense model of what the buffers hold, by way of numpy."""
    mask = strop.unpack_mask(made.bits, made.in_features)
    weight = torch.zeros(made.out_features, made.in_features, dtype=made.values.dtype)
    weight[mask] = made.values
    return weight


def assert_follows(made):
    """The results are those of a layer that was made from the buffers as they are."""
    weight = reference_of(made)
    fresh = strop.nn.PackedLinear(
        strop.PackedWeight.from_state_dict(
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


def layouts_of(packed):
    names = ("starts", "quads", "pairs", "dense")
    return {name: getattr(packed, name) for name in names if getattr(packed, name) is not None}


class TestBuffers:
    def test_every_key_of_the_state_dict_is_a_buffer_or_a_parameter(self):
        model = two_layers()
        named = dict([*model.named_parameters(), *model.named_buffers()])
        state = model.state_dict()
        assert state.keys() == named.keys()
        assert all(state[name].data_ptr() == named[name].data_ptr() for name in named)
        assert [name for name, _ in model.named_parameters()] == ["0.bias", "1.bias"]
        assert not any(t.requires_grad for t in model.buffers())

    def test_names_of_distributed_state_dicts(self):
        model, other = two_layers(), two_layers("dense")
        state = distributed.get_model_state_dict(model)
        assert state.keys() == model.state_dict().keys()
        distributed.set_model_state_dict(other, state)
        assert_same_bits(other(inputs()), model(inputs()))

    def test_functional_call(self):
        model = two_layers()
        other, x, before = copy.deepcopy(model), inputs(), model(inputs())
        other[0].values.mul_(2)
        packed = model[0].packed
        assert_same_bits(functional_call(model, model.state_dict(), (x,)), before)
        assert model[0].packed is packed  # nothing was made anew
        assert_same_bits(functional_call(model, other.state_dict(), (x,)), other(x))
        assert_same_bits(model(x), before)

    def test_gradients_through_functional_call(self):
        model, x = two_layers(), inputs()
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
        assert (made.bits.dtype, made.plan.dtype) == (torch.uint8, torch.uint8)
        assert_follows(made)
        made.type("torch.FloatTensor")
        assert_follows(made)
        state = {name: t.clone() for name, t in made.state_dict().items()}
        with pytest.raises(TypeError, match=r"PackedLinear: values cannot become torch.int32"):
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
        assert (made.activation, int(made.state_dict()["activation"])) == ("relu", 1)
        assert_follows(made)


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
            other = strop.pack_weight(reference_of(layer(plan)).flip(0), plan=plan)
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
        other = layer("packed" if plan == "dense" else "dense")
        made.plan.copy_(other.plan)
        assert made.packed.methods == other.packed.methods
        assert_follows(made)
        made.shape[0] += 1
        with pytest.raises(ValueError, match="shape"):
            made(inputs())

    def test_a_checkpoint_that_is_read_in_place(self, plan, tmp_path):
        model, other = two_layers(plan), two_layers(plan)
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
        strop.pack_model(model, sparsity=0.8, only_if_faster=False, plan=plan)
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

    def test_what_was_written_as_it_was(self, plan):
        made = layer(plan, activation="relu")
        for _ in range(3):  # as DistributedDataParallel does before each forward
            with torch.no_grad():
                for buffer in made.buffers():
                    buffer.copy_(buffer.clone())
            before = layouts_of(made._packed)
            made(inputs())
        after = layouts_of(made.packed)
        assert before.keys() == after.keys()
        assert all(before[name] is after[name] for name in before)
        made.values.mul_(2)
        assert_follows(made)

    def test_a_weight_by_itself(self, plan):
        packed = strop.pack_weight(pruned(SHAPE, 0.7), plan=plan, backward=True)
        x = inputs(40, requires_grad=True)
        strop.packed_linear(x, packed)
        packed.state_dict()["values"].mul_(2)
        fresh = strop.pack_weight(packed.to_dense(), plan=plan, backward=True)
        found, expected = strop.packed_linear(x, packed), strop.packed_linear(x, fresh)
        assert_same_bits(found, expected)
        for a, b in zip(
            torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), x), strict=True
        ):
            assert_same_bits(a, b)
        packed.values[0] = 9
        assert float(packed.to(torch.float64).to_dense().max()) == 9
        packed.values[0] = 10
        assert float(copy.deepcopy(packed).to_dense().max()) == 10


def _run(holders, queue):
    torch.set_num_threads(1)
    packed, model, narrow, x = holders
    with torch.no_grad():
        for y in (strop.packed_linear(x, packed), model(x), strop.packed_linear(x, narrow)):
            queue.put(y.numpy())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_every_kind(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no start method {method}")
    context = torch.multiprocessing.get_context(method)
    queue, x, model = context.SimpleQueue(), inputs(), two_layers().requires_grad_(False)
    packed = layer().packed
    narrow = packed.to(torch.bfloat16)
    wanted = [strop.packed_linear(x, packed), model(x), strop.packed_linear(x, narrow)]
    worker = context.Process(target=_run, args=((packed, model, narrow, x), queue))
    worker.start()
    found = [torch.from_numpy(queue.get()) for _ in wanted]
    worker.join()
    assert worker.exitcode == 0
    for y, expected in zip(found, wanted, strict=True):
        assert_same_bits(y, expected)


def test_saved_whole():
    model = two_layers()
    model[0].values.mul_(3)
    stream = io.BytesIO()
    torch.save(model, stream)
    stream.seek(0)
    again = torch.load(stream, weights_only=False)
    assert_same_bits(again(inputs()), model(inputs()))
    assert_follows(again[0])
