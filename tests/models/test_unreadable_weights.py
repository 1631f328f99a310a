"""Weights that other libraries made, or that are not there: left alone and named, never in the way."""

import pytest
import torch
from torch import nn

import strop
from models.problems import assert_same_function, batch, packed_names, reasons, twin


class Silent(torch.Tensor):
    """A tensor that answers to nothing but its shape."""

    @staticmethod
    def __new__(cls, shape):
        return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)

    def __init__(self, shape):
        super().__init__()

    def __repr__(self):
        return "Silent()"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return args[0]
        raise NotImplementedError(f"{func}")


class Loud(torch.Tensor):
    """One that refuses even that in Python."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func is torch.Tensor.detach:
            return args[0]
        if getattr(func, "__name__", "") == "__get__":
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **(kwargs or {}))
        raise NotImplementedError(f"{func}")


def silent():
    return nn.Parameter(Silent((16, 16)), requires_grad=False)


def loud():
    weight = torch.Tensor._make_subclass(Loud, torch.randn(16, 16), False)
    weight._is_param = True
    return weight


def on_meta():
    return nn.Parameter(torch.empty(16, 16, device="meta"))


def lazy():
    return nn.UninitializedParameter()


def sparse():
    return nn.Parameter(torch.eye(16).to_sparse_csr(), requires_grad=False)


def float8():
    return nn.Parameter(torch.ones(16, 16).to(torch.float8_e4m3fn), requires_grad=False)


@pytest.fixture
def group():
    """A process group of this process alone."""
    if not torch.distributed.is_available():
        pytest.skip("torch is built without torch.distributed")
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def dtensor():
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))
    return nn.Parameter(distribute_tensor(torch.randn(16, 16), mesh, [Replicate()]))


WEIGHTS = {
    silent: "Silent, a subclass of torch.Tensor",
    loud: "Loud, a subclass of torch.Tensor",
    on_meta: "on meta, where there are no numbers",
    lazy: "not initialised",
    sparse: "of layout torch.sparse_csr",
    float8: "float8",
}


def model_with(weight):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16))
    model[1].weight = weight
    return model


def check(weight, why):
    """Every function that looks at a whole model."""
    model = model_with(weight)
    masks = strop.prune_masks(model, sparsity=0.5)
    assert list(masks) == ["0.weight", "2.weight"]
    assert sum(int((~mask).sum()) for mask in masks.values()) == 256
    chosen = strop.prune_masks(model, sparsity=0.5, filter=lambda name, p: p.dim() == 2)
    readable = {name for name in chosen if name != "1.weight"}
    assert readable == set(masks)
    with pytest.raises(ValueError, match=r"masks has '1.weight', which cannot be pruned: .*" + why):
        strop.pack_model(model, masks={"1.weight": torch.ones(16, 16) > 0})
    report = strop.pack_model(model, sparsity=0.5, only_if_faster=False)
    assert packed_names(model) == ["0", "2"]
    assert why in reasons(report)["1"]
    assert "Left alone: 1 layer" in str(report)
    assert model[1].weight is weight
    again = strop.pack_model(model, sparsity=0.7)
    assert why in reasons(again)["1"]
    found = strop.quantization_report(model_with(weight), formats=["int8"]).to_dict()
    assert [entry["name"] for entry in found["weights"]] == ["0.weight", "2.weight"]
    left = {entry["name"]: entry["reason"] for entry in found["left_alone"]}
    assert why in left["1.weight"]
    return model


@pytest.mark.parametrize("make", WEIGHTS, ids=lambda make: make.__name__)
def test_left_alone_and_named(make):
    check(make(), WEIGHTS[make])


def test_a_distributed_one(group):
    check(dtensor(), "DTensor, a subclass of torch.Tensor")


@pytest.mark.parametrize("make", [float8, on_meta], ids=lambda make: make.__name__)
def test_load_packed(make):
    weight = make()
    model = model_with(weight)
    strop.pack_model(model, sparsity=0.5, only_if_faster=False)
    fresh = model_with(weight)
    strop.load_packed(fresh, model.state_dict())
    assert packed_names(fresh) == ["0", "2"]
    state = twin(model)
    state[1] = strop.nn.PackedLinear.from_dense(nn.Linear(16, 16))
    if make is float8:
        with pytest.raises(ValueError, match="'1' packed, .* its weight has dtype torch.float8"):
            strop.load_packed(model_with(weight), state.state_dict())


@pytest.mark.parametrize("make", WEIGHTS, ids=lambda make: make.__name__)
def test_a_mapping_says_which(make):
    if make is float8:
        pytest.skip("floats of 8 bits are numbers of a kind")
    with pytest.raises((TypeError, ValueError), match="strop.prune_masks: .*"):
        strop.prune_masks({"fine": torch.ones(3, 3), "odd": make()}, sparsity=0.5)


def test_a_tensor_of_a_class_with_nothing_of_its_own_is_a_tensor():
    class Tagged(nn.Parameter):
        pass

    model = model_with(Tagged(torch.randn(16, 16)))
    reference = twin(model)
    masks = strop.prune_masks(model, sparsity=0.5)
    assert list(masks) == ["0.weight", "1.weight", "2.weight"]
    with torch.no_grad():
        for name, mask in masks.items():
            reference.get_parameter(name).mul_(mask)
    strop.pack_model(model, masks=masks, only_if_faster=False)
    assert packed_names(model) == ["0", "1", "2"]
    assert_same_function(model, reference, batch(3, 16))


def test_where_no_weight_can_be_read():
    everything = nn.Sequential(nn.Linear(16, 16, device="meta"))
    with pytest.raises(ValueError, match="strop.pack_model: '0' is on meta"):
        strop.pack_model(everything, sparsity=0.5)
    with pytest.raises(ValueError, match="strop.prune_masks: there is no weight to prune"):
        strop.prune_masks(everything, sparsity=0.5)
