"""Pruned weights on a GPU: what is planned for it, and, where there is one, that it computes."""

import copy
import io

import pytest
import torch
from torch._subclasses import FakeTensorMode

import strop
from core.devices import assert_same_bits
from linear.gpu.problems import assert_calls_of_shapes, assert_columns_are_checked, replayed
from linear.problems import ACTIVATIONS, assert_close, generator, kept, pruned
from strop._linear import ops, planning, plans
from strop._linear.masked_layouts import fits, one_method
from strop._linear.masked_weight import TENSORS, MaskedWeight

needs_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
FLOATS = [torch.float32, torch.bfloat16, torch.float16]
EVERY = range(len(plans.CLASSES))


def planned(sparsity, dtype=torch.float32, input_dtype=None, *, packed_only=False):
    """The ways of the classes of rows for a weight of 4096 x 4096."""
    nonzeros = round((1 - sparsity) * 4096 * 4096)
    costs = plans.Costs((4096, 4096), nonzeros, dtype, input_dtype or dtype, gpu=True)
    chosen = planning.planned_by_costs(costs, EVERY, packed_only=packed_only)
    return [plans.METHOD_OF[n] for n in chosen]


class TestPlan:
    def test_by_bytes(self):
        by_fmas = ["bitmap"] * 3 + ["dense"] * 4
        assert planned(0.0) == ["dense"] * 7
        assert planned(0.3) == ["dense"] * 7  # 1.37 times the bytes
        assert planned(0.35) == by_fmas
        assert planned(0.95, torch.bfloat16) == ["bitmap"] * 4 + ["dense"] * 3
        assert planned(0.3, torch.bfloat16, torch.float32) == by_fmas

    def test_where_values_would_be_rounded(self):
        assert planned(0.95, torch.float32, torch.bfloat16) == ["dense"] * 7
        assert planned(0.95, torch.bfloat16, torch.float16) == ["dense"] * 7

    def test_packed_alone(self):
        assert planned(0.0, packed_only=True) == ["bitmap"] * 4 + ["unpack"] * 3

    def test_is_told(self):
        costs = plans.Costs((64, 64), 400, torch.float32, torch.float32, gpu=True)
        chosen = planning.planned_by_costs(costs, EVERY, packed_only=False)
        lines = planning.describe(chosen, costs, "auto")
        assert [line[1] for line in lines] == ["bitmap"] * 3 + ["dense"] * 4
        assert "predicted bitmap 7.8x dense" in lines[0][2]

    def test_fits_its_kind_of_device(self):
        gpu, cpu = torch.device("cuda"), torch.device("cpu")
        for way in plans.LAYOUTS:
            assert (fits(one_method(way), cpu), fits(one_method(way), gpu)) == (True, False)
        for way in plans.BY_STARTS:
            assert (fits(one_method(way), cpu), fits(one_method(way), gpu)) == (False, True)
        assert fits(one_method("dense"), cpu)
        assert fits(one_method("dense"), gpu)

    def test_of_a_gpu_is_made_anew_on_a_cpu(self):
        made = strop.pack_weight(pruned((16, 24), 0.5), plan="packed")
        facts = made.facts() | {"methods": ["bitmap"] * len(plans.CLASSES)}
        w = MaskedWeight.of_facts(made.held(), made.shape, facts)
        assert w.quads is not None
        assert not {"bitmap", "unpack"} & set(w.method_names())
        x = torch.randn(5, 24, generator=generator())
        assert_close(strop.packed_linear(x, w), x, w.to_dense())


class TestWithoutAGpu:
    """Shapes and devices alone, by tensors without numbers."""

    @pytest.fixture(autouse=True)
    def fake(self):
        with FakeTensorMode():
            yield

    @staticmethod
    def made(why, dtype=torch.bfloat16):
        bits = torch.empty(32, 8, dtype=torch.uint8, device="cuda")
        values = torch.empty(300, dtype=dtype, device="cuda")
        return MaskedWeight.prepared(
            bits, values, (32, 64), methods=one_method("quads"), plan_source=why, backward=True
        )

    def test_prepared_for_it(self):
        w = self.made("packed")
        assert [plans.METHOD_OF[n] for n in w.methods] == ["bitmap"] * 4 + ["unpack"] * 3
        assert w.starts.shape == (33,)
        assert w.starts.dtype == torch.int64
        assert all(getattr(w, name) is None for name in TENSORS[2:8])
        w = self.made("auto")
        assert [plans.METHOD_OF[n] for n in w.methods] == ["bitmap"] * 4 + ["dense"] * 3
        assert w.dense.shape == (32, 64)
        assert w.to_dense().is_cuda

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_calls(self, dtype):
        assert_calls_of_shapes(self.made("packed"), dtype)

    def test_errors(self):
        w = self.made("packed")
        assert_columns_are_checked(w)
        with pytest.raises(ValueError, match="input has shape"):
            strop.packed_linear(torch.empty(3, 63, device="cuda", requires_grad=True), w)


class TestOnAGpu:
    pytestmark = needs_gpu

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_every_kernel_once(self, dtype):
        # Short: it also runs under the toolkit's sanitizers, which take a hundred times as long.
        for shape in ((9, 77), (5, 1040)):
            weight, mask = pruned(shape, 0.5).to(dtype), kept(shape, 0.5, seed=3)
            for keep in (None, mask):
                here = ops.pack_masked(weight, keep)
                there = ops.pack_masked(weight.cuda(), None if keep is None else keep.cuda())
                assert torch.equal(there[0].cpu(), here[0])
                assert_same_bits(there[1].cpu(), here[1])
                dense = ops.unpack_masked(*there, shape[1])
                assert_same_bits(dense.cpu(), ops.unpack_masked(*here, shape[1]))
            w = strop.pack_weight(weight.cuda(), plan="packed")
            for input_dtype in FLOATS:
                for rows in (1, 2, 3, 8, 16, 17):
                    x = torch.randn(rows, shape[1], generator=generator(rows)).to(input_dtype)
                    y = strop.packed_linear(x.cuda(), w)
                    assert y.dtype == input_dtype
                    if input_dtype == torch.float32 or rows <= 16 and input_dtype == dtype:
                        assert_close(y.cpu(), x, weight, note=f"{rows} rows")

    @pytest.mark.parametrize("activation", list(ACTIVATIONS))
    def test_activations(self, activation):
        weight, bias = pruned((33, 70), 0.5), torch.randn(33, generator=generator(1))
        w = strop.pack_weight(weight.cuda(), plan="packed")
        for rows in (1, 8, 16, 40):
            x = torch.randn(rows, 70, generator=generator(rows))
            y = strop.packed_linear(x.cuda(), w, bias.cuda(), activation=activation or None)
            assert_close(y.cpu(), x, weight, bias, activation)

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_what_was_pruned_contributes_nothing(self, dtype):
        weight = pruned((40, 300), 0.6).to(dtype)
        weight[:, ::3] = 0
        w = strop.pack_weight(weight.cuda(), plan="packed")
        for rows in (2, 8, 16):
            x = torch.randn(rows, 300, generator=generator(rows)).to(dtype)
            spoilt = x.clone()
            spoilt[::2, ::3] = torch.inf
            assert_close(strop.packed_linear(spoilt.cuda(), w).cpu(), x, weight, note=rows)

    def test_there_and_back(self):
        weight = pruned((40, 64), 0.8)
        here = strop.pack_weight(weight, plan="packed", backward=True)
        there = here.to("cuda")
        assert there.starts is not None
        assert there.quads is None
        assert torch.equal(there.to_dense().cpu(), weight)
        assert there.to("cpu").methods == here.methods
        half = there.to(torch.bfloat16)
        assert half.values.dtype == torch.bfloat16
        assert half.starts.is_cuda
        again = copy.deepcopy(there)
        stream = io.BytesIO()
        torch.save(there.state_dict(), stream)
        stream.seek(0)
        loaded = MaskedWeight.from_state_dict(torch.load(stream, map_location="cuda"))
        x = torch.randn(3, 64, device="cuda")
        for other in (again, loaded):
            assert_same_bits(
                strop.packed_linear(x, other).cpu(), strop.packed_linear(x, there).cpu()
            )

    def test_layer_moves(self):
        layer = strop.nn.PackedLinear.from_dense(torch.nn.Linear(64, 32), kept((32, 64), 0.7))
        x = torch.randn(4, 64)
        expected = layer(x)
        assert torch.allclose(layer.cuda()(x.cuda()).cpu(), expected, atol=1e-5)

    def test_gradients(self):
        weight = pruned((24, 40), 0.8).cuda()
        w = strop.pack_weight(weight, plan="packed")
        for rows in (2, 20):
            x = torch.randn(rows, 40, device="cuda", requires_grad=True)
            bias = torch.randn(24, device="cuda", requires_grad=True)
            found = torch.autograd.grad(strop.packed_linear(x, w, bias).square().sum(), (x, bias))
            y = torch.nn.functional.linear(x, weight, bias)
            for a, b in zip(found, torch.autograd.grad(y.square().sum(), (x, bias)), strict=True):
                assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)

    def test_opcheck(self):
        w = strop.pack_weight(pruned((24, 40), 0.8).cuda(), plan="packed")
        tensors = [getattr(w, name) for name in TENSORS]
        starts = (w.bits, w.values, w.starts)
        for rows in (1, 20):
            x = torch.randn(rows, 40, device="cuda")
            call = (x.clone().requires_grad_(), *tensors, list(w.methods), None, "gelu")
            torch.library.opcheck(torch.ops.strop.packed_linear.masked, call)
            private = torch.ops.strop._packed_linear_bits
            torch.library.opcheck(private.default, (x, *starts, None, ""))
            out = {"out": torch.empty(rows, 24, device="cuda")}
            torch.library.opcheck(private.out, (x, *starts, None, ""), out)
        torch.library.opcheck(torch.ops.strop._unpack_by_starts.default, (*starts, 40))
        torch.library.opcheck(
            torch.ops.strop._masked_layout.default, (w.bits, w.values, 40, "starts")
        )

    def test_graphs_and_waits(self):
        weight = pruned((70, 256), 0.8)
        w = strop.pack_weight(weight.cuda(), plan="packed")
        for rows in (3, 33):
            x = torch.randn(rows, 256, device="cuda")
            y = replayed(lambda x: strop.packed_linear(x, w, activation="silu"), x)
            assert_close(y.cpu(), x.cpu(), weight, activation="silu")

    def test_transforms(self):
        w = strop.pack_weight(pruned((24, 40), 0.8).cuda(), plan="packed")
        call = lambda x: strop.packed_linear(x, w, activation="relu") * 2  # noqa: E731
        compiled = torch.compile(call, fullgraph=True, dynamic=True, backend="aot_eager")
        for rows in (2, 7, 40):
            x = torch.randn(rows, 40, device="cuda")
            assert_same_bits(compiled(x).cpu(), call(x).cpu())
        x = torch.randn(3, 2, 40, device="cuda")
        assert torch.allclose(torch.vmap(call)(x), call(x), atol=1e-5)

    def test_autocast(self):
        w = strop.pack_weight(pruned((24, 40), 0.8).cuda(), plan="packed")
        with torch.autocast("cuda", dtype=torch.bfloat16):
            assert strop.packed_linear(torch.randn(3, 40, device="cuda"), w).dtype == torch.bfloat16

    def test_measured(self):
        w = strop.pack_weight(pruned((512, 512), 0.9).cuda(), plan="measure")
        assert w.plan_source == "measure"
        assert fits(w.methods, w.device)

    def test_errors(self):
        weight = pruned((24, 40), 0.8)
        there = strop.pack_weight(weight.cuda(), plan="packed")
        here = strop.pack_weight(weight)
        x = torch.randn(2, 40)
        for given, w in ((x, there), (x.cuda(), here)):
            with pytest.raises(ValueError, match="the weight is on|on another device"):
                strop.packed_linear(given, w)
        with pytest.raises(TypeError, match="weight has dtype float64; on a GPU float32"):
            strop.pack_weight(weight.double().cuda())
        with pytest.raises(ValueError, match=r"bits are set"):
            ops.unpack_masked(there.bits, there.values[1:], 40)
