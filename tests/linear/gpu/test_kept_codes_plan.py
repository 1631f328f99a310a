"""Weights with a mask and a format on a GPU: what is planned, and made for it."""

import copy

import pytest
import torch
from torch._subclasses import FakeTensorMode

import strop
from core.devices import assert_same_bits
from linear.codes import random_input
from linear.gpu.problems import assert_calls_of_shapes, assert_columns_are_checked
from linear.problems import assert_close, generator, kept
from strop._linear import coded_linear, masked_codes, planning, plans
from strop._linear.masked_codes import MaskedCodes

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def by_methods(w):
    return [plans.METHOD_OF[n] for n in w.methods]


FEW_BY_CODES = ["codes"] * 4 + ["unpack"] * 3
EVERY = range(len(plans.CLASSES))


class TestPlan:
    @staticmethod
    def planned(code_bytes, dtype=torch.bfloat16, classes=EVERY, *, packed_only=False):
        costs = plans.Costs((1024, 1024), 0, dtype, dtype, gpu=True, code_bytes=code_bytes)
        made = planning.planned_kept_codes(costs, classes, packed_only=packed_only)
        return None if made is None else [plans.METHOD_OF[n] for n in made]

    def test_by_bytes(self):
        weights = 1024 * 1024  # beside which bits are an eighth of a byte each
        assert self.planned(weights // 4) == FEW_BY_CODES
        assert self.planned(round(1.29 * weights)) == FEW_BY_CODES
        assert self.planned(round(1.31 * weights)) is None
        assert self.planned(round(1.31 * weights), torch.float32) == FEW_BY_CODES
        assert self.planned(weights // 4, classes=[5, 6]) is None
        assert self.planned(2 * weights, packed_only=True) == FEW_BY_CODES

    @pytest.fixture
    def as_on_a_gpu(self, monkeypatch):
        monkeypatch.setattr(masked_codes, "_is_on_gpu", lambda _: True)

    @pytest.mark.parametrize("format", ["int4", "uint8", "float8_e4m3fn", "nvfp4"])
    def test_what_is_made_for_a_gpu(self, as_on_a_gpu, format):
        weight, mask = torch.randn(45, 96, generator=generator()), kept((45, 96), 0.7)
        w = strop.pack_weight(weight, mask, format=format, symmetric="u" not in format)
        assert w.values.numel() == 0
        assert by_methods(w) == FEW_BY_CODES
        assert w.nnz == int(mask.sum())
        assert (w.dtype, w.input_dtype) == (torch.float32, torch.float32)
        assert w.starts.tolist() == [0, *mask.sum(1).cumsum(0).tolist()]
        block = w.quantized().block_size
        q = strop.quantize(
            weight * mask, format=format, block_size=block, symmetric="u" not in format
        )
        assert_same_bits(w.to_dense(), torch.where(mask, q.dequantize(), 0))
        of_gradient = coded_linear.CodedArguments.of(w, torch.float32)
        assert of_gradient.layout is w.starts
        assert_same_bits(of_gradient.dense(torch.float32), w.to_dense())
        assert f"{w.format} beside float32 input" in w.plan()
        assert "predicted codes" in w.plan()
        w.scale.add_(0)
        w.follow()
        assert by_methods(w) == FEW_BY_CODES
        again = copy.deepcopy(w)
        assert by_methods(again) == FEW_BY_CODES
        assert again.codes is not w.codes

    def test_is_made_anew_on_a_cpu(self, monkeypatch):
        weight, mask = torch.randn(45, 96, generator=generator()), kept((45, 96), 0.7)
        with monkeypatch.context() as patched:
            patched.setattr(masked_codes, "_is_on_gpu", lambda _: True)
            there = strop.pack_weight(weight, mask, format="int4")
            state = there.state_dict()
        here = strop.PackedWeight.from_state_dict(state)
        assert not here.by_codes
        assert here.values.numel() == here.nnz
        assert set(by_methods(here)) <= {"mask", "quads", "pairs", "dense", "prepacked"} | set(
            plans.BY_AVX2
        )
        x = random_input(3, 96)
        assert_close(strop.packed_linear(x, here), x, here.to_dense())

    def test_dense_is_values(self, as_on_a_gpu):
        weight, mask = torch.randn(45, 96, generator=generator()), kept((45, 96), 0.7)
        w = strop.pack_weight(weight, mask, format="int4", plan="dense")
        assert not w.by_codes
        assert w.dense is not None


class TestWithoutAGpu:
    """Shapes and devices alone, by tensors without numbers."""

    @pytest.fixture(autouse=True)
    def fake(self):
        with FakeTensorMode():
            yield

    @staticmethod
    def made():
        tensors = dict.fromkeys((*MaskedCodes.tensor_fields,)) | {
            "bits": torch.empty(32, 8, dtype=torch.uint8, device="cuda"),
            "values": torch.empty(0, device="cuda"),
            "starts": torch.empty(33, dtype=torch.int64, device="cuda"),
            "codes": torch.empty(150, dtype=torch.uint8, device="cuda"),
            "scale": torch.empty(32, 2, device="cuda"),
        }
        return MaskedCodes._trusted(
            **tensors,
            shape=(32, 64),
            methods=tuple(plans.NUMBER_OF[name] for name in FEW_BY_CODES),
            plan_source="auto",
            input_dtype=torch.float32,
            number_format="int4",
            block_size=(1, 32),
        )

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_calls(self, dtype):
        assert_calls_of_shapes(self.made(), dtype)

    def test_errors(self):
        assert_columns_are_checked(self.made())
