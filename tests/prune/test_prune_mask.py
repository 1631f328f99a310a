"""prune_mask, prune_masks, pack_mask, unpack_mask: against the oracle, on every device."""

import math

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

import strop
from prune.problems import DTYPES, expected_mask, expected_masks, on, prune, prune_all, weights
from strop import _C

SHAPES = [(), (1,), (7,), (33,), (5, 31), (8, 64), (3, 4, 33), (2, 500), (0, 3), (3, 0)]
SPARSITIES = [0, 0.1, 0.5, 0.77, 1]


class TestOracle:
    """Everything is compared with the oracle; here the oracle is, with torch and by hand."""

    def test_order(self):
        w = torch.tensor([0.5, -2.0, math.nan, 0.0, -0.5, math.inf, 0.5, -0.0])
        order = [3, 7, 0, 4, 6, 1, 5, 2]  # zeros by index, the halves by index, NaN after Inf
        for pruned in range(9):
            keeps = torch.ones(8, dtype=torch.bool)
            keeps[order[:pruned]] = False
            assert torch.equal(expected_mask(w, sparsity=pruned / 8), keeps), pruned

    def test_against_a_stable_sort(self):
        w = weights((20, 30), torch.float32).nan_to_num(1e9, 1e8, 1e8)
        order = w.abs().flatten().argsort(stable=True)
        keeps = torch.ones(600, dtype=torch.bool)
        keeps[order[:420]] = False
        assert torch.equal(expected_mask(w, sparsity=0.7).flatten(), keeps)
        rows = torch.ones(20, 30, dtype=torch.bool)
        rows.scatter_(1, w.abs().argsort(dim=1, stable=True)[:, :21], False)
        assert torch.equal(expected_mask(w, sparsity=0.7, per="row"), rows)

    def test_threshold(self):
        w = torch.tensor([0.1, -0.1, 0.3, math.nan, math.inf, 0.0])
        assert expected_mask(w, threshold=0.1).tolist() == [False, False, True, True, True, False]
        assert expected_mask(w, threshold=0.0).tolist() == [True] * 5 + [False]
        assert expected_mask(w, threshold=-1.0).all()
        assert expected_mask(w, threshold=math.inf).tolist() == [False] * 3 + [True] + [False] * 2
        # A bfloat16's 0.1 is 0.10009765625, and is not what 0.1 would be rounded to.
        assert expected_mask(w[:1].bfloat16(), threshold=0.1).all()

    def test_groups(self):
        w = torch.tensor([[3.0, 1, 2, 2, 5, -6], [0, 0, 0, 0, 1, 1]])
        keeps = [[1, 0, 0, 1, 1, 1], [0, 0, 1, 1, 1, 1]]
        assert torch.equal(expected_mask(w, pattern="2:4"), torch.tensor(keeps).bool())
        assert expected_mask(w, pattern="1:4")[0].tolist() == [True] + [False] * 4 + [True]

    @pytest.mark.parametrize("norm", ["l1", "l2"])
    def test_blocks(self, norm):
        w = weights((10, 13), torch.float32).nan_to_num(0, 9, 9)
        scores = torch.tensor(
            [
                [
                    (block.abs().mean() if norm == "l1" else block.square().mean().sqrt()).item()
                    for block in rows.split(4, 1)
                ]
                for rows in w.split(3)
            ]
        )
        expected = torch.ones(16, dtype=torch.bool)
        expected[scores.flatten().argsort(stable=True)[:8]] = False
        expected = expected.view(4, 4).repeat_interleave(3, 0).repeat_interleave(4, 1)[:10, :13]
        assert torch.equal(expected_mask(w, sparsity=0.5, pattern=(3, 4), norm=norm), expected)
        kept = scores > 0.8
        kept = kept.repeat_interleave(3, 0).repeat_interleave(4, 1)[:10, :13]
        assert torch.equal(expected_mask(w, threshold=0.8, pattern=(3, 4), norm=norm), kept)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestMasks:
    def test_unstructured(self, device, dtype):
        for shape in SHAPES:
            w = weights(shape, dtype)
            for per in ("tensor", "row"):
                for sparsity in SPARSITIES:
                    options = {"sparsity": float(sparsity), "per": per}
                    found = prune(device, w, **options)
                    note = f"{shape} {options}"
                    assert torch.equal(found, expected_mask(w, **options)), note
                    count = w.numel() if per == "tensor" else (shape or (1,))[-1]
                    rows = w.numel() // max(count, 1)
                    assert int((~found).sum()) == rows * round(sparsity * count), note
            for threshold in (-1.0, 0.0, 0.25, 0.3, math.inf):
                found = prune(device, w, threshold=threshold)
                assert torch.equal(found, expected_mask(w, threshold=threshold))

    @pytest.mark.parametrize("pattern", ["1:2", "2:4", "4:8", "3:8", "2:5", "9:16"])
    def test_groups(self, device, dtype, pattern):
        for shape in [(1,), (4,), (5, 31), (3, 4, 33), (2, 1000), (0, 4), (4, 0)]:
            w = weights(shape, dtype)
            found = prune(device, w, pattern=pattern)
            assert torch.equal(found, expected_mask(w, pattern=pattern)), shape

    @pytest.mark.parametrize("block", [(1, 1), (1, 8), (4, 1), (3, 5), (16, 16), (999, 999)])
    def test_blocks(self, device, dtype, block):
        for shape in [(1, 1), (7, 19), (2, 9, 33), (40, 16), (0, 5), (2, 1050)]:
            w = weights(shape, dtype)
            for options in (
                {"sparsity": 0.4},
                {"sparsity": 0.5, "norm": "l2"},
                {"sparsity": 0.5, "per": "row"},
                {"threshold": 0.7, "norm": "l2"},
            ):
                found = prune(device, w, pattern=block, **options)
                expected = expected_mask(w, pattern=block, **options)
                assert torch.equal(found, expected), (shape, options)

    def test_strides(self, device, dtype):
        w = weights((24, 40), dtype)
        for view in (w.t(), w[::2, 1::3], w.flip(0).t(), w[:, :1].expand(24, 9), w[3]):
            for options in ({"sparsity": 0.5}, {"pattern": "1:4"}, {"threshold": 0.5}):
                found = prune(device, view, **options)
                assert torch.equal(found, expected_mask(view, **options))
                assert found.is_contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_large(device, dtype):
    # Several threads, tables and thread blocks; cuts among ties that lie far apart.
    w = weights(device.size((700, 1600), (60, 300)), dtype)
    coarse = (w.float() * 2).round().to(dtype)
    for tensor in (w, coarse, torch.zeros_like(w)):
        for options in ({"sparsity": 0.25}, {"sparsity": 0.9, "per": "row"}):
            assert torch.equal(prune(device, tensor, **options), expected_mask(tensor, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_a_sample_that_misleads(torch_device, dtype):
    # Large weights exactly where a selection looks first: every 32nd of 2^20, from the 16th on.
    w = (torch.arange(1 << 20) * 7919 % 10007 / 1e4).to(dtype)
    w[16::32] += 3
    for sparsity in (0.01, 0.5, 0.97):
        found = torch_device.prune_mask(w, sparsity=sparsity)
        assert torch.equal(found, expected_mask(w, sparsity=sparsity))


def test_any_number_of_threads():
    w = (torch.randn(900, 700) * 3).round()
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append([strop.prune_mask(w, sparsity=0.3), strop.prune_mask(w, pattern="2:4")])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))  # noqa: B905


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_every_16_bit_number(device, dtype):
    w = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype)
    for sparsity in (0.3, 0.5, 0.97):
        found = prune(device, w, sparsity=sparsity)
        assert torch.equal(found, expected_mask(w, sparsity=sparsity))
    assert torch.equal(prune(device, w, threshold=1.0), (w.float().abs() > 1) | w.isnan())


@hypothesis.settings(max_examples=60)
@hypothesis.given(
    st.lists(st.floats(width=32), min_size=1, max_size=60), st.floats(0, 1), st.integers(1, 8)
)
def test_any_floats(values, sparsity, columns):
    values += values[: -len(values) % columns]
    values += [0.0] * (-len(values) % columns)
    w = torch.tensor(values).view(-1, columns)
    for options in ({"sparsity": sparsity}, {"sparsity": sparsity, "per": "row"}):
        assert torch.equal(strop.prune_mask(w, **options), expected_mask(w, **options))


class TestPruneMasks:
    def test_one_ranking(self, device):
        tensors = [weights(s, torch.float32, i) for i, s in enumerate([(9, 20), (0, 4), (33,), ()])]
        for sparsity in SPARSITIES:
            found = prune_all(device, tensors, sparsity=float(sparsity))
            expected = expected_masks(tensors, sparsity=float(sparsity))
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
            pruned = sum(int((~m).sum()) for m in found)
            assert pruned == round(sparsity * sum(t.numel() for t in tensors))

    def test_as_of_one_tensor(self, device):
        w = weights((30, 40), torch.float32)
        whole = prune(device, w, sparsity=0.6)
        parts = prune_all(device, list(w.split((7, 1, 22))), sparsity=0.6)
        assert torch.equal(torch.cat(parts), whole)

    def test_ties_by_the_order_of_parameters(self, device):
        masks = prune_all(device, [torch.ones(3), -torch.ones(3)], sparsity=2 / 3)
        assert [m.tolist() for m in masks] == [[False] * 3, [False, True, True]]
        masks = prune_all(device, [torch.ones(3), -torch.ones(3)], sparsity=0.5)
        assert [m.tolist() for m in masks] == [[False] * 3, [True] * 3]

    def test_dtypes(self, device):
        tensors = [weights((50,), dtype, i) for i, dtype in enumerate(DTYPES)]
        for some in (tensors, tensors[1:3], tensors[3:], [tensors[0], tensors[3]]):
            found = prune_all(device, some, sparsity=0.5)
            for a, b in zip(found, expected_masks(some, sparsity=0.5), strict=True):
                assert torch.equal(a, b)

    @pytest.mark.parametrize("pattern", [(4, 4), (1, 16)], ids=str)
    def test_blocks(self, device, pattern):
        tensors = [weights(s, torch.float32, i) for i, s in enumerate([(9, 20), (3, 7), (0, 8)])]
        found = prune_all(device, tensors, sparsity=0.4, pattern=pattern)
        expected = expected_masks(tensors, sparsity=0.4, pattern=pattern)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    def test_groups(self, device):
        tensors = [weights(s, torch.float32) for s in [(9, 20), (3, 7)]]
        for more in ({}, {"sparsity": 0.5}):
            found = prune_all(device, tensors, pattern="2:4", **more)
            for mask, tensor in zip(found, tensors, strict=True):
                assert torch.equal(mask, expected_mask(tensor, pattern="2:4"))

    def test_modules(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                self.embed = nn.Embedding(10, 6)
                self.norm = nn.LayerNorm(6)
                self.body = nn.Linear(6, 6)
                self.head = nn.Linear(6, 10, bias=False)
                self.head.weight = self.embed.weight
                self.register_parameter("steps", nn.Parameter(torch.zeros(2).int(), False))

        model = Tied()
        masks = strop.prune_masks(model, sparsity=0.5)
        assert list(masks) == ["body.weight"]  # not what an embedding has as well
        assert int((~masks["body.weight"]).sum()) == 18
        every = strop.prune_masks(model, sparsity=0.5, filter=lambda name, p: p.dim() == 1)
        assert list(every) == ["norm.weight", "norm.bias", "body.bias"]
        named = strop.prune_masks(dict(model.named_parameters()), sparsity=0.5, filter=_is_weight)
        assert list(named) == ["embed.weight", "norm.weight", "body.weight"]
        pairs = [("a", model.body.weight), ("b", model.body.weight)]
        twice = strop.prune_masks(iter(pairs), sparsity=0.5)
        assert int((~twice["a"]).sum()) == 18
        assert torch.equal(twice["a"], twice["b"])
        assert not any(m.requires_grad for m in masks.values())


def _is_weight(name, parameter):
    return name.endswith("weight")


class TestBits:
    def test_against_numpy(self, device):
        for shape in [(1,), (7,), (8,), (9,), (31,), (64,), (3, 130), (2, 3, 1000), (1, 40000)]:
            mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5
            packed = on(device, "pack_mask", mask)
            expected = np.packbits(mask.numpy(), axis=-1, bitorder="little")
            np.testing.assert_array_equal(packed.numpy(), expected, strict=True)
            assert torch.equal(on(device, "unpack_mask", packed, shape[-1]), mask)
            again = _C.reference.unpack_mask(packed.numpy(), shape[-1])
            np.testing.assert_array_equal(again, mask.numpy(), strict=True)
            codes = torch.where(mask, torch.randint(1, 256, shape), 0).to(torch.uint8)
            assert torch.equal(on(device, "pack_mask", codes), packed)

    def test_empty(self, device):
        assert on(device, "pack_mask", torch.zeros(3, 0, dtype=torch.bool)).shape == (3, 0)
        assert on(device, "pack_mask", torch.zeros(0, 9, dtype=torch.bool)).shape == (0, 2)
        assert on(device, "unpack_mask", torch.zeros(3, 0, dtype=torch.uint8), 0).shape == (3, 0)
        assert on(device, "unpack_mask", torch.zeros(0, 2, dtype=torch.uint8), 9).shape == (0, 9)

    def test_padding_is_not_read(self, device):
        bits = torch.full((2, 2), 255, dtype=torch.uint8)
        assert torch.equal(on(device, "unpack_mask", bits, 9), torch.ones(2, 9, dtype=torch.bool))

    def test_strides(self, torch_device):
        mask = torch.rand(20, 30) < 0.5
        for view in (mask.t(), mask[:, ::2], mask[0].expand(3, 30)):
            packed = torch_device.pack_mask(view)
            assert torch.equal(
                torch_device.unpack_mask(packed.t().contiguous().t(), 0 + view.shape[-1]), view
            )
