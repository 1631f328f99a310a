"""A quantized tensor as a module: moved, cast, saved and loaded by what has it."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

import strop
from core.devices import assert_same_bits
from quantize.problems import RECIPES, sample

FORMATS = ["int4", "uint8", "int16", "nf4", "float8_e5m2", *RECIPES]


def quantized(format="int4", seed=0, dtype=torch.float32, **options):
    x = sample((6, 64), dtype, seed)
    block = None if format in RECIPES else (1, 32)
    return strop.quantize(x, format=format, block_size=block, **options)


class Layer(nn.Module):
    """A linear layer that restores its weight in each call."""

    def __init__(self, q):
        super().__init__()
        self.weight = strop.nn.Held(q)
        self.bias = nn.Parameter(torch.zeros(q.shape[0], dtype=q.dtype))

    def forward(self, x):
        return nn.functional.linear(x, self.weight().dequantize(), self.bias)


def model(format="int4", seed=0, **options):
    return nn.Sequential(Layer(quantized(format, seed, **options)), nn.ReLU())


def held(m):
    return m[0].weight()


def assert_same(ours, wanted):
    assert (ours.format, ours.block_size, ours.shape) == (
        wanted.format,
        wanted.block_size,
        wanted.shape,
    )
    for name, tensor in wanted.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    assert_same_bits(ours.dequantize(), wanted.dequantize())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_casts(format, dtype):
    q, (x, m) = quantized(format), (torch.randn(3, 64), model(format))
    for cast in (lambda m: m.to(dtype), lambda m: m.type(dtype)):
        moved = cast(copy.deepcopy(m))
        assert held(moved).dtype == moved[0].bias.dtype == dtype
        for name, tensor in q.state_dict().items():  # codes and scales stay what they are
            assert torch.equal(held(moved).state_dict()[name], tensor)
        assert_same_bits(held(moved).dequantize(), q.dequantize(dtype))
        assert moved(x.to(dtype)).dtype == dtype
        assert_same(held(moved.float()), q)


def test_devices():
    q = quantized("uint4", symmetric=False)
    m = model("uint4", symmetric=False).to("meta")
    assert held(m).device.type == "meta"
    assert held(m).shape == q.shape
    m.to_empty(device="cpu")
    assert held(m).device.type == "cpu"
    m.load_state_dict(model("uint4", symmetric=False).state_dict())
    assert_same(held(m), q)
    empty = q.to("meta")
    assert (empty.codes.device.type, empty.zero_point.device.type) == ("meta", "meta")


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_saves_and_loads(format, assign):
    saved, m = model(format, seed=1), model(format, seed=2)
    stream = io.BytesIO()
    torch.save(saved.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    assert all(isinstance(entry, torch.Tensor) for entry in state.values())
    place = held(m).codes.data_ptr()
    m.load_state_dict(state, assign=assign)
    assert_same(held(m), held(saved))
    assert (held(m).codes.data_ptr() == place) != assign


def test_safetensors():
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    saved, m = model("nvfp4", seed=1), model("nvfp4", seed=2)
    m.load_state_dict(safetensors.load(safetensors.save(saved.state_dict())))
    assert_same(held(m), held(saved))


def test_distributed_state_dicts_and_functional_calls():
    saved, m = model(seed=1), model(seed=2)
    set_model_state_dict(m, get_model_state_dict(saved))
    assert_same(held(m), held(saved))
    x = torch.randn(3, 64)
    assert_same_bits(torch.func.functional_call(model(seed=3), m.state_dict(), (x,)), m(x))
    for key, entry in m.state_dict().items():  # in place, as a distributed checkpoint is loaded
        entry.copy_(model(seed=4).state_dict()[key])
    assert_same(held(m), held(model(seed=4)))
    assert_same(held(copy.deepcopy(m)), held(m))


def test_the_dtype_to_restore_is_the_modules():
    state = model(seed=1).state_dict()
    m = model(seed=2).half()
    m.load_state_dict(state)
    assert held(m).dtype == torch.float16
    m.load_state_dict(state, assign=True)
    assert held(m).dtype == torch.float32


def test_copies_and_pickles():
    m = model()
    for again in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert_same(held(again), held(m))
        assert held(again).codes.data_ptr() != held(m).codes.data_ptr()
    stream = io.BytesIO()
    torch.save(m, stream)
    stream.seek(0)
    assert_same(held(torch.load(stream, weights_only=False)), held(m))


def test_shared_memory():
    m, q = model().share_memory(), quantized()
    for tensor in held(m).state_dict().values():
        assert tensor.is_shared()
    assert_same(held(m), q)
    assert q.share_memory_() is q
    assert all(tensor.is_shared() for tensor in q.state_dict().values())


def test_buffers_and_text():
    m = model("nvfp4")
    assert [n for n, _ in m.named_buffers()] == [
        f"0.weight.{n}" for n in ("codes", "scale", "tensor_scale")
    ]
    assert [n for n, _ in m.named_parameters()] == ["0.bias"]
    assert "format=nvfp4" in repr(m)
    rows = strop.quantize(torch.randn(8, 64), format="int4", block_size=(1, 32))[::2]
    assert_same_bits(strop.nn.Held(rows).half()().dequantize(), rows.dequantize(torch.float16))


def test_compiled_and_exported():
    m, x = model(), torch.randn(3, 64)
    torch._dynamo.reset()
    assert_same_bits(
        torch.compile(m[0].weight, fullgraph=True)().dequantize(), held(m).dequantize()
    )
    torch.testing.assert_close(torch.compile(m, fullgraph=True)(x), m(x))
    exported = torch.export.export(m, (x,))
    torch.testing.assert_close(exported.module()(x), m(x))


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"format": "nf4"}, "format is nf4 in the state dict; int4 is held"),
            ({"format": "int8"}, "format is int8"),
            ({"symmetric": False}, r"has \['_extra_state', 'codes', 'scale', 'zero_point'\]"),
        ],
    )
    def test_what_means_something_else(self, change, text):
        m = model()
        before = copy.deepcopy(held(m))
        for strict in (True, False):
            with pytest.raises(RuntimeError, match=text):
                m.load_state_dict(model(seed=1, **change).state_dict(), strict=strict)
            assert_same(held(m), before)

    def test_other_shapes_and_dtypes(self):
        m = strop.nn.Held(quantized())
        before, state = copy.deepcopy(m()), strop.nn.Held(quantized(seed=1)).state_dict()
        changes = {
            "scale is torch.float64": {"scale": state["scale"].double()},
            r"codes is torch.uint8 \[6, 33\]": {"codes": torch.zeros(6, 33, dtype=torch.uint8)},
            "scale is str": {"scale": "1"},
            r"state dict has \['codes', 'scale'\]": {"_extra_state": None},
            "format is None in the state dict": {
                "_extra_state": torch.tensor([7], dtype=torch.uint8)
            },
            "format is None in": {"_extra_state": "int4"},
        }
        for text, change in changes.items():
            with pytest.raises(RuntimeError, match=text):
                m.load_state_dict({k: v for k, v in {**state, **change}.items() if v is not None})
            assert_same(m(), before)
        with pytest.raises(RuntimeError, match="shape is"):
            m.load_state_dict(strop.nn.Held(quantized()[:3]).state_dict())

    def test_missing_keys(self):
        m = model()
        before = copy.deepcopy(held(m))
        with pytest.raises(RuntimeError, match="Missing key"):
            m.load_state_dict({"0.bias": torch.zeros(6)})
        m.load_state_dict({"0.bias": torch.zeros(6)}, strict=False)
        assert_same(held(m), before)

    def test_other_holders(self):
        packed = strop.pack_weight(torch.eye(4))
        for other in (packed, torch.ones(3), None):
            with pytest.raises(TypeError, match=f"holder is a {type(other).__name__}; a Quantized"):
                strop.nn.Held(other)
