"""What blocks of float32 keep, in panels of 16 rows: the layout, its kernels, and when plans have it."""

import pytest
import torch

import strop
from core.devices import assert_same_bits
from linear.problems import (
    ACTIVATIONS,
    CPU_DEVICES,
    altered,
    assert_close,
    generator,
    in_blocks,
    kept,
    multiplied,
    one_way,
    pruned,
)
from strop import _C
from strop._linear import machine_costs, ops, planning, plans

BLOCKS = [(16, 32), (32, 16), (16, 64), (16, 1), (5, 3)]
ROWS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 16, 17, 31, 33, 48, 49, 65, 127, 128, 129, 300)
SHAPE = (300, 700)


@pytest.fixture(params=CPU_DEVICES, ids=repr)
def cpu(request):
    with request.param as device:
        yield device


def input_of(rows, columns=SHAPE[1]):
    return torch.randn(rows, columns, generator=generator(rows))


class TestProducts:
    @pytest.mark.parametrize("block", BLOCKS)
    def test_every_number_of_rows(self, cpu, block):
        weight = in_blocks(SHAPE, block, 0.6)
        bias = torch.randn(SHAPE[0], generator=generator(3))
        for rows in ROWS:
            x = input_of(rows)
            assert_close(multiplied(x, weight, "panels", bias), x, weight, bias, note=rows)

    @pytest.mark.parametrize("sparsity", [0.0, 0.95, 1.0])
    def test_all_few_and_none_are_kept(self, cpu, sparsity):
        for shape in ((1, 1), (16, 8), (17, 65), (129, 513), (260, 2100)):
            weight = in_blocks(shape, (16, 32), sparsity)
            for rows in (1, 7, 20, 130):
                x = input_of(rows, shape[1])
                assert_close(multiplied(x, weight, "panels"), x, weight, note=(shape, rows))

    @pytest.mark.parametrize("inputs", [torch.bfloat16, torch.float16])
    def test_other_inputs(self, cpu, inputs):
        weight = in_blocks(SHAPE, (16, 32), 0.7)
        for rows in (1, 8, 9, 40, 140):
            x = input_of(rows).to(inputs)
            for activation in ACTIVATIONS:
                y = multiplied(x, weight, "panels", None, activation)
                assert_close(y, x, weight, None, activation)

    def test_is_of_the_size_of_what_is_kept(self):
        for block in BLOCKS[:3]:
            weight = in_blocks((512, 1024), block, 0.7)
            bits, values = ops.pack_masked(weight, None)
            layout = ops.layout(bits, values, 1024, "panels")
            assert layout.nbytes < 1.04 * values.nbytes + 8192


class TestWhatIsPruned:
    """Of columns that some rows of a panel have, and others not."""

    @pytest.mark.parametrize("special", [torch.inf, -torch.inf, torch.nan])
    def test_is_not_multiplied(self, cpu, special):
        mask = kept((150, 600), 0.5)
        weight = torch.where(mask, torch.rand(mask.shape, generator=generator(1)) + 0.5, 0)
        for rows in (1, 6, 9, 33, 100):
            x = input_of(rows, 600)
            clean = multiplied(x, weight, "panels")
            row, columns = rows // 2, [3, 300, 599]
            x[row, columns] = special
            y = multiplied(x, weight, "panels")
            others = torch.arange(rows) != row
            assert_same_bits(y[others], clean[others], rows)
            meets = mask[:, columns].any(1)
            assert not y[row, meets].isfinite().any()
            rest = x[row].clone()
            rest[columns] = 0
            assert_close(y[row, ~meets][None], rest[None], weight[~meets])

    def test_signs_and_kept_zeros(self, cpu):
        mask = torch.zeros(20, 40, dtype=torch.bool)
        mask[3:6, 5] = True
        weight = torch.zeros(20, 40)
        weight[3, 5], weight[4, 5] = 2.0, -1.0
        bits, values = ops.pack_masked(weight, mask)
        layout = ops.layout(bits, values, 40, "panels")
        for rows in (1, 9, 40):
            x = torch.ones(rows, 40)
            x[-1, 5] = torch.inf
            y = ops.by_layout(x, layout, 20, None, "")[-1]
            assert y[3:5].tolist() == [torch.inf, -torch.inf]
            assert y[5].isnan()
            assert not y[:3].any()
            assert not y[6:].any()


class TestChecks:
    def made(self, block=(16, 4)):
        weight = in_blocks((20, 24), block, 0.4)
        bits, values = ops.pack_masked(weight, None)
        return ops.layout(bits, values, 24, "panels")

    @pytest.mark.parametrize("block", [(16, 4), (3, 4)])
    def test_what_passes_is_harmless(self, block):
        layout, x, refused = self.made(block).numpy(), input_of(9, 24), 0
        for forged in altered(layout):
            try:
                _C.check_layout(forged, 20, 24)
            except ValueError:
                refused += 1
                continue
            for rows in (1, 9):
                ops.by_layout(x[:rows], torch.from_numpy(forged), 20, None, "")
        assert refused > 100

    def test_messages(self):
        layout = self.made()
        words = layout.view(torch.int64) if layout.numel() % 8 == 0 else None
        assert words is not None
        first, second = int(words[9]), int(words[10])  # as of LayoutHeader
        for place, value, message in (
            (first // 8, 1, "a list begins elsewhere"),
            (second // 8, -1, "a column is out of range"),
            (9, 8, "a part of it lies outside"),
            (10, 1 << 40, "a part of it lies outside"),
            (7, 4, "its header makes no sense"),
            (3, 3, "its header makes no sense"),
        ):
            forged = layout.clone()
            forged.view(torch.int64)[place] = value
            with pytest.raises(ValueError, match=message):
                _C.check_layout(forged.numpy(), 20, 24)


class TestPlans:
    def planned(self, sparsity=0.8, **options):
        weight = in_blocks((256, 512), (16, 32), sparsity)
        return weight, strop.pack_weight(weight, **options)

    def test_have_them_where_whole_columns_are_kept(self):
        for weight, has in (
            (in_blocks((256, 512), (16, 32), 0.8), True),
            (in_blocks((256, 512), (16, 1), 0.8), True),
            (in_blocks((256, 512), (4, 32), 0.8), False),
            (pruned((256, 512), 0.8), False),
        ):
            w = strop.pack_weight(weight, plan="packed")
            assert ("panels" in w.method_names()) is has
            assert ("panels" in w.plan()) is has

    def test_by_costs(self, monkeypatch):
        _, w = self.planned(0.9)
        assert set(w.method_names()) == {"panels"}
        assert w.nbytes < 0.3 * 4 * 256 * 512
        assert self.planned(0.05)[1].panels is None
        dear = {"panels": dict.fromkeys(plans.PLACES, [9.0] * 7)}
        monkeypatch.setattr(machine_costs, "factors", lambda group: dear)
        assert "panels" not in self.planned(0.9)[1].method_names()

    @pytest.mark.parametrize("fastest", ["panels", "quads"])
    def test_by_measuring(self, monkeypatch, fastest):
        costs = plans.costs_of(
            *ops.pack_masked(in_blocks((256, 512), (16, 32), 0.9), None), (256, 512), torch.float32
        )

        def medians(runs, **_):
            names = planning.ways(costs, 0)
            assert len(runs) == len(names)
            return [0.1 if name == fastest else 1.0 for name in names]

        monkeypatch.setattr(planning, "medians", medians)
        assert set(self.planned(0.9, plan="measure", rows=1)[1].method_names()) == {fastest}

    def test_machine_costs_have_a_factor_for_them(self):
        found = machine_costs.measured("32 bits", seconds=0.3)
        assert set(found["panels"]) == set(plans.PLACES)

    def test_eager_compiled_and_into_a_tensor(self, compiled_product):
        weight, w = self.planned(0.9)
        for rows in (1, 40):
            x = input_of(rows, 512)
            y = strop.packed_linear(x, w)
            assert_close(y, x, weight)
            assert_same_bits(compiled_product(x, w), y)
            assert_same_bits(strop.packed_linear(x, w, out=torch.empty_like(y)), y)

    @pytest.mark.parametrize("backward", [True, False])
    def test_gradients(self, backward):
        weight, w = self.planned(0.9, backward=backward)
        x = input_of(20, 512).requires_grad_()
        strop.packed_linear(x, w, activation="relu").sum().backward()
        dense = x.detach().requires_grad_()
        torch.relu(dense @ weight.t()).sum().backward()
        assert torch.allclose(x.grad, dense.grad, rtol=1e-4, atol=1e-4)

    def test_saved_moved_and_written_to(self, monkeypatch):
        weight, w = self.planned(0.9)
        x = input_of(9, 512)
        y = strop.packed_linear(x, w)
        again = strop.PackedWeight.from_state_dict(w.state_dict())
        assert again.methods == w.methods
        assert_same_bits(strop.packed_linear(x, again), y)
        monkeypatch.setattr(plans, "machine_key", lambda: "another")
        again = strop.PackedWeight.from_state_dict(w.state_dict())
        assert set(again.method_names()) == {"panels"}
        short = w.to(torch.float16)
        assert short.panels is None
        assert_close(strop.packed_linear(x.half(), short), x.half(), weight.half())
        w.values.mul_(2)
        assert_same_bits(strop.packed_linear(x, w), y * 2)

    def test_forced_for_any_mask(self):
        weight = pruned((100, 90), 0.6)
        w = strop.pack_weight(weight, plan="packed")
        made = one_way(w, "panels")
        made.validate()
        assert "panels" in made.plan()
        for rows in (1, 40):
            x = input_of(rows, 90)
            assert_close(strop.packed_linear(x, made), x, weight)
