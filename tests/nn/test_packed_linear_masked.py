"""strop.nn.PackedLinear: in place of nn.Linear, its state, its moves, errors."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
import torch.nn.utils.prune
from torch import nn

import strop
from core.devices import assert_same_bits
from linear.problems import ACTIVATIONS, assert_close, kept
from models.problems import SHAPE, dense, inputs, layer


class TestFromDense:
    @pytest.mark.parametrize("plan", ["auto", "packed", "dense"])
    @pytest.mark.parametrize("bias", [True, False])
    def test_computes_the_same(self, plan, bias):
        linear = dense(bias=bias)
        made = strop.nn.PackedLinear.from_dense(linear, plan=plan)
        for rows in (1, 3, 40, 200):
            x = inputs(rows)
            assert_close(made(x), x, linear.weight, linear.bias)
        assert (made.in_features, made.out_features) == (40, 24)
        assert made.packed.plan_source == plan
        assert made.packed.sparsity == pytest.approx(float((linear.weight == 0).float().mean()))

    def test_mask_rows_dtype(self):
        linear, mask = nn.Linear(40, 24), kept(SHAPE, 0.7)
        made = strop.nn.PackedLinear.from_dense(
            linear, mask, rows=1, dtype=torch.float64, plan="packed"
        )
        assert made.packed.dtype == torch.float64
        assert made.packed.nnz == int(mask.sum())
        assert made.bias.dtype == torch.float64  # all of it, or nothing
        x = inputs().double()
        expected = nn.functional.linear(x, (linear.weight * mask).double(), linear.bias.double())
        assert torch.allclose(made(x), expected)

    @pytest.mark.parametrize("activation", list(ACTIVATIONS)[1:])
    def test_activation(self, activation):
        linear = dense()
        made = strop.nn.PackedLinear.from_dense(linear, plan="packed", activation=activation)
        assert_close(made(inputs()), inputs(), linear.weight, linear.bias, activation)
        back = made.to_dense()
        assert torch.equal(back[0].weight, linear.weight)
        assert_close(back(inputs()), inputs(), linear.weight, linear.bias, activation)

    def test_there_and_back(self):
        linear = dense().eval()
        back = strop.nn.PackedLinear.from_dense(linear).to_dense()
        assert type(back) is nn.Linear
        assert not back.training
        assert torch.equal(back.weight, linear.weight)
        assert torch.equal(back.bias, linear.bias)
        assert back.bias is not linear.bias

    def test_masks_of_torch_prune(self):
        linear = nn.Linear(40, 24)
        nn.utils.prune.random_unstructured(linear, "weight", 0.8)
        nn.utils.prune.random_unstructured(linear, "bias", 0.5)
        with torch.no_grad():
            linear.weight_orig.mul_(2)  # (linear.weight is the last forward's)
            linear.bias_orig.mul_(2)
        made = strop.nn.PackedLinear.from_dense(linear, plan="packed")
        assert torch.equal(made.to_dense().weight, linear.weight_orig * linear.weight_mask)
        assert torch.equal(made.bias, linear.bias_orig * linear.bias_mask)
        assert isinstance(made.bias, nn.Parameter)

    def test_bias_is_the_same_parameter_and_alone_is_trained(self):
        linear = dense()
        made = strop.nn.PackedLinear.from_dense(linear, plan="packed").train()
        assert made.bias is linear.bias
        assert [name for name, _ in made.named_parameters()] == ["bias"]
        x = inputs(requires_grad=True)
        found = torch.autograd.grad(made(x).square().sum(), (x, made.bias))
        expected = torch.autograd.grad(linear(x).square().sum(), (x, linear.bias))
        for a, b in zip(found, expected, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)
        step = torch.optim.SGD(made.parameters(), lr=0.1)
        before = made.bias.detach().clone()
        made(x).sum().backward()
        step.step()
        assert torch.allclose(made.bias, before - 0.1 * made.bias.grad)

    def test_repr(self):
        text = repr(layer(activation="gelu"))
        for part in (
            "in_features=40, out_features=24, bias=True, activation=gelu, ",
            "% pruned",
            "in memory",
            "plan=packed: ",
        ):
            assert part in text

    def test_errors(self):
        make, linear = strop.nn.PackedLinear.from_dense, dense()
        with pytest.raises(TypeError, match="linear is a Conv2d; an nn.Linear is needed"):
            make(nn.Conv2d(1, 1, 1))
        with pytest.raises(ValueError, match="mask"):
            make(linear, torch.ones(3, 3, dtype=torch.bool))
        with pytest.raises(ValueError, match="plan is 'fast'; auto, measure"):
            make(linear, plan="fast")
        with pytest.raises(ValueError, match="activation is 'tanh'; None, relu, gelu"):
            make(linear, activation="tanh")
        with pytest.raises(ValueError, match="weight is not initialised"):
            make(nn.LazyLinear(4))
        with pytest.raises(ValueError, match="is on meta"):
            make(nn.Linear(4, 4, device="meta"))
        with pytest.raises(TypeError, match="weight is a Parameter; a PackedWeight is needed"):
            strop.nn.PackedLinear(linear.weight)
        with pytest.raises(TypeError, match="bias is a list"):
            strop.nn.PackedLinear(strop.pack_weight(linear.weight), [1.0])
        with pytest.raises(ValueError, match=r"bias has shape \[3\]; \[24\] is needed"):
            strop.nn.PackedLinear(strop.pack_weight(linear.weight), torch.ones(3))


class TestState:
    def test_every_entry_is_a_tensor_and_little(self):
        state = layer(shape=(256, 512), activation="relu").state_dict()
        assert set(state) == {"bits", "values", "shape", "plan", "bias", "activation"}
        assert all(isinstance(tensor, torch.Tensor) for tensor in state.values())
        nnz = state["values"].numel()
        assert sum(t.nbytes for t in state.values()) < 1.05 * (4 * nnz + 256 * 64) + 4 * 256

    @pytest.mark.parametrize("assign", [False, True])
    def test_saved_and_loaded(self, assign):
        first, second = layer(), layer("dense", sparsity=0.3)
        stream = io.BytesIO()
        torch.save(first.state_dict(), stream)
        stream.seek(0)
        state = torch.load(stream, weights_only=True)
        second.load_state_dict(state, assign=assign)
        assert_same_bits(second(inputs()), first(inputs()))
        assert second.packed.methods == first.packed.methods
        shared = second.packed.values.data_ptr() == state["values"].data_ptr()
        assert shared == assign

    def test_keeps_its_dtype_unless_assigned(self):
        state, wide = layer().state_dict(), layer().double()
        wide.load_state_dict(state)
        assert wide.packed.dtype == torch.float64
        assert torch.equal(wide.packed.values, state["values"].double())
        wide.load_state_dict(state, assign=True)
        assert wide.packed.dtype == torch.float32

    def test_safetensors(self, tmp_path):
        safetensors = pytest.importorskip(
            "safetensors.torch", reason="safetensors is not installed"
        )
        first, second = layer(), layer(sparsity=0.5)
        safetensors.save_file(first.state_dict(), tmp_path / "layer.safetensors")
        second.load_state_dict(safetensors.load_file(tmp_path / "layer.safetensors"))
        assert_same_bits(second(inputs()), first(inputs()))

    def test_errors_say_what_does_not_fit(self):
        made = layer()
        before = made(inputs())
        state = made.state_dict()
        cases = [
            (
                layer(shape=(25, 40)).state_dict(),
                r"shape is \(25, 40\) in the state dict; the layer",
            ),
            (
                layer(activation="relu").state_dict(),
                "activation is relu in the state dict; the layer",
            ),
            (dense().state_dict(), "the layer: weight is dense; strop.nn.PackedLinear needs bits"),
            ({k: v for k, v in state.items() if k != "values"}, "Missing key.*values"),
            ({k: v for k, v in state.items() if k != "bias"}, "Missing key.*bias"),
            ({**state, "extra": torch.ones(1)}, "Unexpected key.*extra"),
            ({**state, "values": torch.ones(3)}, "PackedLinear|MaskedWeight|values"),
            ({**state, "values": 3}, "values is a int in the state dict"),
            ({**state, "activation": torch.tensor(9)}, "activation is tensor.9. in the state dict"),
        ]
        for wrong, text in cases:
            with pytest.raises(RuntimeError, match=text):
                made.load_state_dict(wrong)
            assert_same_bits(made(inputs()), before)

    def test_not_strict(self):
        made = layer()
        found = made.load_state_dict({"bias": torch.zeros(24)}, strict=False)
        assert sorted(found.missing_keys) == ["bits", "plan", "shape", "values"]
        assert not made.bias.any()

    @pytest.mark.parametrize(
        "copied",
        [
            copy.deepcopy,
            lambda x: pickle.loads(pickle.dumps(x)),
            lambda x: torch.load(_saved(x), weights_only=False),
        ],
        ids=["deepcopy", "pickle", "torch.save"],
    )
    def test_copies(self, copied):
        made = layer(activation="silu").eval()
        again = copied(made)
        assert_same_bits(again(inputs()), made(inputs()))
        assert again.bias is not made.bias
        assert not again.training
        with torch.no_grad():
            again.packed.values.zero_()
        assert made.packed.values.any()


def _saved(module):
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return stream


class TestMoves:
    def test_dtypes(self):
        made = layer()
        x = inputs()
        expected = made(x)
        assert torch.allclose(made.double()(x.double()), expected.double(), atol=1e-5)
        assert made.packed.dtype == made.bias.dtype == torch.float64
        assert torch.allclose(made.float()(x), expected, atol=1e-5)
        assert made.packed.dtype == torch.float32

    @pytest.mark.parametrize("plan", ["packed", "dense", "auto"])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_half(self, dtype, plan):
        made, x = layer(plan, activation="relu"), inputs()
        expected = made.to_dense().to(dtype)(x.to(dtype))
        made = made.half() if dtype == torch.float16 else made.bfloat16()
        assert made.packed.dtype == made.packed.input_dtype == made.bias.dtype == dtype
        y = made(x.to(dtype))
        assert y.dtype == dtype
        assert torch.allclose(y, expected, rtol=0.02, atol=0.05)
        again = strop.nn.PackedLinear.from_dense(dense(dtype=dtype), plan=plan, activation="relu")
        again.load_state_dict(made.state_dict())
        assert_same_bits(again(x.to(dtype)), y)
        assert made.float().packed.input_dtype == torch.float32
        assert made(x).dtype == torch.float32

    def test_values_of_bfloat16_beside_float32(self):
        linear, x = dense(), inputs()
        made = strop.nn.PackedLinear.from_dense(linear, plan="packed", dtype=torch.bfloat16)
        assert made.bias is linear.bias
        assert made(x).dtype == torch.float32
        assert_close(made(x), x, linear.weight.bfloat16(), linear.bias)
        assert made.to_dense().weight.dtype == torch.float32
        wide = layer()
        wide.load_state_dict(made.state_dict())  # keeps its dtype
        assert wide.packed.dtype == torch.float32
        made.load_state_dict(layer(sparsity=0.5).state_dict())
        assert (made.packed.dtype, made.packed.input_dtype) == (torch.bfloat16, torch.float32)
        assert made.bfloat16().packed.input_dtype == torch.bfloat16

    @pytest.mark.parametrize("plan", ["packed", "dense"])
    def test_autocast(self, plan):
        made, x = layer(plan), inputs()
        linear = made.to_dense()
        with torch.autocast("cpu", torch.bfloat16):
            y = made(x)
            assert y.dtype == linear(x).dtype == torch.bfloat16
        assert torch.allclose(y.float(), linear(x), rtol=0.02, atol=0.1)

    def test_what_changes_nothing_keeps_the_weight(self):
        made = layer()
        packed = made.packed
        assert made.to("cpu").float().packed is packed

    def test_meta_and_back(self):
        made = layer()
        state, expected = made.state_dict(), made(inputs())
        made.to("meta")
        assert made.packed.device.type == made.bias.device.type == "meta"
        assert made(torch.empty(2, 7, 40, device="meta")).shape == (2, 7, 24)
        made.to_empty(device="cpu")
        with pytest.raises(ValueError, match="strop"):  # nothing uninitialised is read
            made(inputs())
        assert "not loaded" in repr(made)
        made.load_state_dict(state)
        assert_same_bits(made(inputs()), expected)
        made.to_empty(device="cpu").load_state_dict(state, assign=True)
        assert_same_bits(made(inputs()), expected)

    @pytest.mark.cuda
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
    def test_cuda_keeps_the_weight(self):
        made = layer()
        expected = made(inputs())
        assert_same_bits(made.cuda().cpu()(inputs()), expected)

    def test_shared_memory_and_a_forked_worker(self):
        made = layer()
        expected = made(inputs())
        made.share_memory()
        assert made.packed.values.is_shared()
        assert made.packed.bits.is_shared()
        assert_same_bits(made(inputs()), expected)
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        worker = context.Process(target=lambda: queue.put(_in_worker(made)))
        worker.start()
        found = queue.get()
        worker.join()
        assert worker.exitcode == 0
        assert_same_bits(torch.tensor(found), expected)

    def test_loader_with_workers(self):
        made = layer()
        batches = [inputs(rows) for rows in (1, 5, 40)]
        loaded = list(torch.utils.data.DataLoader(Through(made, batches), None, num_workers=1))
        for found, x in zip(loaded, batches, strict=True):
            assert_same_bits(found, made(x).detach())


class Through(torch.utils.data.Dataset):
    """Batches that went through a layer in a worker."""

    def __init__(self, module, batches):
        self.module, self.batches = module, batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, i):
        if i >= len(self):
            raise IndexError
        with torch.no_grad():
            return self.module(self.batches[i])


def _in_worker(module):
    torch.set_num_threads(1)
    with torch.no_grad():
        return module(inputs()).tolist()
