"""Weights with a mask: packed, kept, moved, planned; refused where it is forged."""

import copy
import dataclasses
import io
import json
import pickle

import pytest
import torch
from torch.utils import _pytree as pytree

import strop
from core.devices import assert_same_bits
from linear.problems import (
    LAYOUTS,
    altered,
    assert_close,
    choices_of,
    generator,
    kept,
    one_way,
    pruned,
)
from strop._linear import ops, plans
from strop._linear.masked_weight import MaskedWeight


def made(shape=(45, 70), sparsity=0.8, **options):
    return strop.pack_weight(pruned(shape, sparsity), plan="packed", **options)


def fields(w):
    return {field.name: getattr(w, field.name) for field in dataclasses.fields(w)}


class TestPacking:
    @pytest.mark.parametrize("shape", [(1, 1), (3, 8), (5, 9), (45, 70), (600, 130)])
    @pytest.mark.parametrize("sparsity", [0, 0.5, 0.95, 1])
    def test_restores_exactly(self, shape, sparsity):
        weight = pruned(shape, sparsity)
        w = strop.pack_weight(weight, plan="packed")
        assert_same_bits(w.to_dense(), weight)
        assert w.nnz == int((weight != 0).sum())
        assert w.sparsity == pytest.approx(1 - w.nnz / weight.numel())
        assert w.shape == shape

    def test_a_mask_and_strides(self):
        weight = torch.randn(70, 45, generator=generator()).t()
        mask = kept((70, 45), 0.6).t()
        w = strop.pack_weight(weight, mask)
        assert_same_bits(w.to_dense(), torch.where(mask, weight, 0).contiguous())
        assert_same_bits(w.values, weight[mask])

    def test_bits_are_pack_bits(self):
        mask = kept((9, 21), 0.5)
        w = strop.pack_weight(torch.ones(9, 21), mask)
        assert torch.equal(w.bits, strop.pack_bits(mask.byte(), 1))

    def test_a_parameter_leaves_no_gradient(self):
        weight = torch.nn.Parameter(torch.randn(4, 8))
        w = strop.pack_weight(weight, plan="packed")
        assert not w.values.requires_grad

    def test_rows_prepare_what_they_need(self):
        one = made(rows=1)
        assert one.pairs is None
        assert (one.starts is None) != (one.quads is None)
        assert made(rows=[2, 8]).pairs is None
        many = made(rows=512)
        assert (many.quads is None) != (many.pairs is None)
        both = made(rows=(8, 512))
        assert both.quads is not None
        assert both.methods[-1] in (2, 3)
        x = torch.randn(200, 70)
        for w in (one, both):  # and work for any
            for rows in (1, 9, 200):
                assert_close(strop.packed_linear(x[:rows], w), x[:rows], w.to_dense())

    def test_dtype(self):
        w = strop.pack_weight(pruned((4, 9), 0.5).double(), dtype=torch.float32, plan="packed")
        assert w.dtype == torch.float32
        assert w.to(torch.float64).dtype == torch.float64
        assert w.to(torch.float64).to(torch.float32).methods == w.methods
        x = torch.randn(3, 9).double()
        assert_close(strop.packed_linear(x, w.to(torch.float64)).float(), x, w.to_dense().double())

    def test_dense_float64(self):
        w = strop.pack_weight(pruned((4, 9), 0.5).double(), plan="dense")
        assert w.methods == choices_of("dense")
        x = torch.randn(3, 9).double()
        assert torch.equal(strop.packed_linear(x, w), x @ w.to_dense().t())

    def test_errors(self):
        weight = torch.randn(4, 8)
        pack = strop.pack_weight
        cases = [
            (ValueError, r"weight has shape \[4\]; two dim", lambda: pack(torch.randn(4))),
            (TypeError, "weight has dtype int64; float32, bfloat16", lambda: pack(weight.long())),
            (TypeError, "weight has dtype int32", lambda: pack(weight, dtype=torch.int32)),
            (TypeError, "weight is a list; a tensor", lambda: pack([[1.0]])),
            (TypeError, "mask has dtype uint8; bool", lambda: pack(weight, weight.byte())),
            (ValueError, r"mask has shape \[4, 7\]; weight has \[4, 8\]",
             lambda: pack(weight, torch.ones(4, 7, dtype=torch.bool))),
            (ValueError, "plan is 'best'; auto, measure", lambda: pack(weight, plan="best")),
            (ValueError, "rows is 0; numbers from 1 on", lambda: pack(weight, rows=0)),
            (TypeError, "rows is 'all'; an int or several", lambda: pack(weight, rows="all")),
            (TypeError, r"rows is \[\]", lambda: pack(weight, rows=[])),
        ]  # fmt: skip
        for kind, text, call in cases:
            with pytest.raises(kind, match="strop.pack_weight: " + text):
                call()


class TestPlans:
    def test_forced(self):
        weight = pruned((64, 64), 0.9)
        assert strop.pack_weight(weight, plan="dense").methods == choices_of("dense")
        sparse = strop.pack_weight(weight, plan="packed")
        assert sparse.dense is None
        assert sparse.methods[1:4] == (2, 2, 2)
        assert set(sparse.methods[4:]) <= {2, 3}
        assert strop.pack_weight(weight, plan="dense").quads is None

    def test_the_table_is_deterministic_and_never_packed_where_nothing_is_pruned(self):
        weight = torch.randn(512, 512)
        assert strop.pack_weight(weight).methods == strop.pack_weight(weight).methods
        chosen = strop.pack_weight(weight, rows=[512]).methods
        assert strop._linear.plans.METHOD_OF[chosen[-1]] == "dense"
        chosen = strop.pack_weight(pruned((512, 512), 0.98)).methods
        assert "dense" not in {plans.METHOD_OF[n] for n in chosen}

    def test_measured(self, one_thread):
        w = strop.pack_weight(pruned((1024, 1024), 0.99), plan="measure", rows=[8, 64])
        assert w.plan_source == "measure"
        forms = [plans.FORM_OF[plans.METHOD_OF[number]] for number in w.methods]
        assert forms[2] == "quads"  # a hundredth of the work
        assert forms[5] in ("quads", "pairs")

    def test_printed(self):
        text = made().plan()
        assert "45, 70" in text
        assert "80." in text or "79." in text
        for rows in ("1 rows", "2 to 4", "9 to 16", "129 and more"):
            assert rows in text
        assert "x dense" in text
        assert "17 to 32 rows: mask   (prepared for other rows)" in one_way(made(), "mask").plan()

    def test_every_instruction_set_has_an_entry(self):
        for entry in plans._table().values():
            for way in (*LAYOUTS, "dense"):
                for place in plans.PLACES:
                    assert len(entry[way][place]) == len(plans.CLASSES)


class TestKept:
    def test_state_dict(self):
        w = made(backward=True)
        state = w.state_dict()
        assert set(state) == {"bits", "values", "shape", "plan"}
        stream = io.BytesIO()
        torch.save(state, stream)
        stream.seek(0)
        again = MaskedWeight.from_state_dict(torch.load(stream, weights_only=True))
        x = torch.randn(20, 70)
        assert_same_bits(strop.packed_linear(x, again), strop.packed_linear(x, w))
        assert again.methods == w.methods
        assert again.back_pairs is not None
        big = made((256, 512), 0.9)
        dense = big.nnz * 4 + 256 * 512 / 8
        assert sum(t.nbytes for t in big.state_dict().values()) <= dense * 1.05

    def test_pickle_deepcopy_and_save(self):
        w = made(backward=True)
        stream = io.BytesIO()
        torch.save(w, stream)
        stream.seek(0)
        x = torch.randn(20, 70)
        for other in (pickle.loads(pickle.dumps(w)), copy.deepcopy(w), torch.load(stream)):
            assert_same_bits(strop.packed_linear(x, other), strop.packed_linear(x, w))
            assert other.values.data_ptr() != w.values.data_ptr()

    def test_pytree(self):
        w = made()
        leaves, spec = pytree.tree_flatten(w)
        again = pytree.tree_unflatten(leaves, spec)
        assert again.methods == w.methods
        assert again.bits is w.bits
        assert made(backward=True).nbytes > w.nbytes > w.values.nbytes


def planned(**facts):
    """The plan of a state dict, with other facts."""
    text = json.dumps(made().facts() | facts).encode()
    return {"plan": torch.tensor(list(text), dtype=torch.uint8)}


class TestForged:
    def test_state(self):
        state = made().state_dict()
        cases = {
            "bits has shape": state | {"bits": state["bits"][:-1]},
            "bits are set": state | {"values": state["values"][:-1]},
            "beyond its 70 columns": state | {"bits": state["bits"] | 128},
            "values has dtype int64": state | {"values": state["values"].long()},
            "bits has dtype": state | {"bits": state["bits"].int()},
            "which is unknown": state | planned(methods=["mask"] * 6 + ["best"]),
            "a method of weights that are no codes": state | planned(methods=["mask"]),
            "a method of weights that are no": state | planned(methods=["codes"] * 7),
            "which is unknown ": state | planned(plan="best"),
            "the plan is not as": state | {"plan": state["plan"][:9]},
            "shape is not 2 integers": state | {"shape": state["shape"].float()},
            "is unknown": state | {"shape": -state["shape"]},
            "state dict has keys": state | {"more": state["bits"]},
        }
        for text, forged in cases.items():
            with pytest.raises(
                (ValueError, TypeError), match="strop.PackedWeight: .*" + text.strip()
            ):
                MaskedWeight.from_state_dict(forged)
        with pytest.raises(ValueError, match="state dict has keys"):
            MaskedWeight.from_state_dict({k: v for k, v in state.items() if k != "values"})

    def test_starts(self):
        w = strop.pack_weight(pruned((45, 70), 0.6), plan="packed")
        w = one_way(w, "mask")
        MaskedWeight(**fields(w))  # as they are, they are taken
        for forged in (w.starts[:-1], w.starts + 1, w.starts.flip(0)):
            with pytest.raises(ValueError, match="starts are not where the rows' values begin"):
                MaskedWeight(**fields(w) | {"starts": forged})
        with pytest.raises(ValueError, match="which is not prepared"):
            MaskedWeight(**fields(w) | {"starts": None})

    @pytest.mark.parametrize("name", ["quads", "pairs"])
    def test_layouts(self, name):
        weight = pruned((45, 70), 0.6, "blocks")
        w = strop.pack_weight(weight, plan="packed")
        w = one_way(w, name)
        layout = getattr(w, name)
        MaskedWeight(**fields(w))  # as it is, it is taken
        with pytest.raises(ValueError, match="not made by pack_weight"):
            MaskedWeight(**fields(w) | {name: layout[:-8].clone()})
        other = getattr(
            one_way(strop.pack_weight(weight[:44], plan="packed"), name),
            name,
        )
        with pytest.raises(ValueError, match=r"the layout is of shape \[44, 70\]"):
            MaskedWeight(**fields(w) | {name: other})
        with pytest.raises(ValueError, match="which is not prepared"):
            MaskedWeight(**fields(w) | {name: None})

    @pytest.mark.parametrize("name", ["mask", "quads", "pairs"])
    def test_no_altered_layout_makes_a_kernel_read_elsewhere(self, name):
        # Each word but those of values, made small, large, negative: refused, or harmless.
        w = strop.pack_weight(pruned((21, 40), 0.6, "blocks"))
        layout = ops.layout(w.bits, w.values, 40, name).numpy()
        refused = 0
        x = torch.randn(19, 40).numpy()
        for forged in altered(layout):
            try:
                strop._C.check_layout(forged, 21, 40)
            except (ValueError, TypeError):
                refused += 1
                continue
            assert strop._C.cpu.packed_linear(x, forged).shape == (19, 21)
        assert refused > 300
