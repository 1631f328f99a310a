"""Where memory is lacking, the user is told what torch itself would tell him, and nothing is written."""

import subprocess
import sys

import pytest
import torch

import strop
from strop._core import errors, failed_allocation
from strop._core.library import ops

# 2^50 elements that take no memory, of which no address space holds as much as a bit each.
HUGE = (1 << 20, 1 << 20, 1 << 10)
TEXT = "can't allocate memory: you tried to allocate"


def huge(*shape, dtype=torch.float32):
    return torch.zeros(1, dtype=dtype).expand(*(shape or HUGE))


def weight(dtype=torch.float32, plan="packed"):
    return strop.pack_weight(torch.eye(64, dtype=dtype), plan=plan)


ONE = torch.tensor(1.0)
MATRIX = torch.eye(2, 3)[None]
CALLS = {
    "fake_quantize": lambda: strop.fake_quantize(huge(), ONE),
    "fake_quantize, chosen": lambda: strop.fake_quantize(huge()),
    "fake_quantize, gradient": lambda: strop.fake_quantize(huge().requires_grad_(), ONE),
    "quantize": lambda: strop.quantize(huge(), ONE, format="int8"),
    "quantize, float16": lambda: strop.quantize(huge(dtype=torch.float16), format="mxfp4"),
    "choose_scale": lambda: strop.choose_scale(huge(), format="int8", block_size=(1, 1, 1)),
    "pack_bits": lambda: strop.pack_bits(huge(dtype=torch.uint8), 4),
    "unpack_bits": lambda: strop.unpack_bits(huge(dtype=torch.uint8), 8, 1 << 10),
    "prune_mask": lambda: strop.prune_mask(huge(), threshold=1.0),
    "soft_threshold": lambda: strop.soft_threshold(huge(), 1.0),
    "soft_threshold, amounts": lambda: strop.soft_threshold(huge(), ONE.clone().requires_grad_()),
    "pack_mask": lambda: strop.pack_mask(huge(dtype=torch.bool)),
    "unpack_mask": lambda: strop.unpack_mask(huge(dtype=torch.uint8), 1 << 13),
    "pack_weight": lambda: strop.pack_weight(huge(1 << 30, 1 << 20)),
    "packed_linear": lambda: strop.packed_linear(huge(1 << 45, 64), weight()),
    "packed_linear, rows": lambda: strop.packed_linear(
        huge(1 << 45, 1), strop.pack_weight(torch.ones(64, 1), plan="packed")
    ),
    "packed_linear, dense": lambda: strop.packed_linear(huge(1 << 45, 64), weight(plan="dense")),
    "augment_images": lambda: strop.augment_images(huge(1 << 30, 3, 1 << 10, 1 << 10)),
    "warp_masks": lambda: strop.warp_masks(
        huge(1 << 30, 1 << 10, 1 << 10, dtype=torch.uint8), MATRIX
    ),
    "warp_points": lambda: strop.warp_points(huge(1 << 40, 1 << 10, 2), MATRIX),
    "warp_boxes": lambda: strop.warp_boxes(huge(1 << 40, 1 << 10, 4), MATRIX, size=(4, 4)),
}


@pytest.mark.parametrize("call", list(CALLS))
def test_says_what_torch_says(call):
    with pytest.raises(RuntimeError, match=TEXT) as caught:
        CALLS[call]()
    assert "DefaultCPUAllocator" in str(caught.value)
    assert failed_allocation._C.take_failed_allocation() is None  # nothing is left behind


def planned(plan):
    w = weight(plan=plan)
    return [getattr(w, n) for n in strop._linear.masked_weight.TENSORS], list(w.methods)


RAW = {
    "fake_quantize": lambda: ops.fake_quantize(huge(), ONE, None, "int8", [], "half_even", True),
    "quantize": lambda: ops.quantize(huge(), ONE, None, "int8", [], "half_even", True),
    "dequantize": lambda: ops.dequantize(
        huge(dtype=torch.int8), ONE, None, None, "int8", [], list(HUGE), torch.float32
    ),
    "prune_masks": lambda: ops.prune_masks([huge()], 0.5),
    "soft_threshold": lambda: ops.soft_threshold(huge(), 1.0),
    "soft_threshold, gradient": lambda: ops._soft_threshold_gradient(huge(), huge(), 1.0),
    "warp_points": lambda: ops._warp_points(huge(1 << 40, 1 << 10, 2), MATRIX),
    "augment_images": lambda: ops.augment_images(huge(1 << 30, 3, 1 << 10, 1 << 10)),
    "packed_linear": lambda: ops.packed_linear.masked(
        huge(1 << 45, 64), *planned("packed")[0], planned("packed")[1], None, ""
    ),
    "packed_linear, dense": lambda: ops.packed_linear.masked(
        huge(1 << 45, 64), *planned("dense")[0], planned("dense")[1], None, "gelu"
    ),
}


@pytest.mark.parametrize("call", list(RAW))
def test_of_an_op_as_it_is(call):
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        RAW[call]()


def test_an_older_failure_is_not_told_again():
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        ops._soft_threshold_gradient(huge(), huge(), 1.0)
    with pytest.raises(ValueError, match="amount"):
        strop.soft_threshold(torch.ones(3), -1.0)
    with pytest.raises(TypeError, match="tensor"):
        strop.prune_mask("weight", threshold=1.0)


class TestOnAGpu:
    """By a failure that is feigned."""

    @pytest.fixture
    def failed(self, monkeypatch):
        asked = []

        def empty_strided(shape, strides, *, dtype, device):
            asked.append((shape, strides, dtype, device))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 4.00 PiB.")

        left = ["aoti_torch_empty_strided(...) API call failed", [3, 5], [5, 1], 2, 1]
        monkeypatch.setattr(failed_allocation._C, "take_failed_allocation", lambda: tuple(left))
        monkeypatch.setattr(torch, "empty_strided", empty_strided)
        return left[0], asked

    def test_the_kind_is_torchs(self, failed):
        text, asked = failed
        error = errors.translated("strop.quantize", RuntimeError(text), {"input": ONE})
        assert type(error) is torch.OutOfMemoryError
        assert "CUDA out of memory" in str(error)
        assert asked == [([3, 5], [5, 1], torch.int16, torch.device("cuda", 1))]

    def test_of_what_torch_calls(self, failed):
        @failed_allocation.raises_memory_errors
        def backward():
            raise RuntimeError(failed[0])

        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            backward()

    def test_what_is_torchs_already_stays(self, failed):
        error = torch.OutOfMemoryError("CUDA out of memory")
        assert errors.translated("strop.quantize", error, {}) is error
        other = RuntimeError("something else")
        assert errors.translated("strop.quantize", other, {}) is other

    def test_memory_that_is_there_by_now(self, failed, monkeypatch):
        monkeypatch.setattr(torch, "empty_strided", lambda *_, **__: None)
        error = RuntimeError(failed[0])
        assert errors.translated("strop.quantize", error, {}) is error


LIMITED = """
import resource, torch, strop

def limit(more):
    pages = int(open("/proc/self/statm").read().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, -1))

torch.set_num_threads(2)
w = strop.pack_weight(torch.ones(4, 1 << 20), plan="packed")
out = torch.full((300, 4), 7.0)
x = torch.empty(300, 1 << 20)  # 1.2 GB, of which none is touched
strop.packed_linear(x[:2], w)  # (what is made at the first call)
strop.fake_quantize(torch.ones(1 << 20), torch.tensor(1.0))
limit(1 << 26)
for given in (torch.ones(1, 1).expand(300, 1 << 20), x):
    try:
        strop.packed_linear(given, w, out=out)
        print("no error")
    except Exception as error:
        print(type(error).__name__, error)
try:
    strop.fake_quantize(x, torch.tensor(1.0))
except Exception as error:
    print(type(error).__name__, error)
print((out == 7).all().item())
resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
print(strop.fake_quantize(torch.ones(3), torch.tensor(1.0)).tolist())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="address spaces are limited on Linux alone")
def test_with_little_memory():
    command = [sys.executable, "-c", LIMITED]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = found.stdout.splitlines()
    assert found.returncode == 0, found.stderr
    assert lines[0].startswith("RuntimeError")
    assert TEXT in lines[0]
    assert lines[1].startswith("MemoryError strop.packed_linear")  # what the kernels work with
    assert lines[2].startswith("RuntimeError")
    assert TEXT in lines[2]
    assert lines[3:] == ["True", "[1.0, 1.0, 1.0]"]
