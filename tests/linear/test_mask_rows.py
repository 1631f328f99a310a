"""Bits and values multiplied as they are, with a few rows of input at a time."""

import ctypes
import mmap

import pytest
import torch

import strop
from core.devices import assert_same_bits
from linear.problems import generator
from strop._linear import ops, plans

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
ROWS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 17]
COLUMNS = [1, 7, 63, 64, 65, 300, 1100, 2100, 9000]  # x of these fits a first cache, or does not


@pytest.fixture(params=strop.supported_isas())
def isa(request):
    before = strop.isa()
    strop.set_isa(request.param)
    yield request.param
    strop.set_isa(before)


def problem(rows, shape, density, dtype, number=0):
    """x, the weight with its zeros, and its bits, values and starts."""
    g = generator(number)
    weight = torch.randn(shape, generator=g).to(dtype)
    kept = torch.rand(shape, generator=g) < density
    x = torch.randn(rows, shape[1], generator=g).to(dtype)
    bits, values = ops.pack_masked(weight, kept)
    starts = ops.layout(bits, values, shape[1], "starts")
    return x, torch.where(kept, weight, 0), (bits, values, starts)


def assert_near(y, x, weight):
    expected = x.double() @ weight.double().T
    most = x.double().abs() @ weight.double().abs().T
    steps = torch.finfo(torch.float32).eps * (x.shape[1] ** 0.5 + 8) * most
    rounded = torch.finfo(x.dtype).eps * expected.abs() if x.dtype != torch.float32 else 0
    assert ((y.double() - expected).abs() <= steps + rounded).all()


class TestProducts:
    @pytest.mark.parametrize("columns", COLUMNS)
    def test_are_near(self, isa, columns):
        for number, rows in enumerate(ROWS):
            dtype, density = FLOATS[number % 3], (0.5, 0.05, 1.0)[(number + columns) % 3]
            x, weight, bitmap = problem(rows, (45, columns), density, dtype, number)
            assert_near(ops.by_bits(x, *bitmap, None, ""), x, weight)

    @pytest.mark.parametrize("x_dtype", FLOATS)
    @pytest.mark.parametrize("dtype", FLOATS)
    def test_of_two_dtypes(self, isa, dtype, x_dtype):
        x, weight, bitmap = problem(6, (33, 200), 0.4, dtype)
        x = x.to(x_dtype)
        assert_near(ops.by_bits(x, *bitmap, None, ""), x, weight)

    def test_do_not_depend_on_threads_or_on_rows_of_the_weight(self, isa):
        x, _, (bits, values, starts) = problem(5, (700, 1300), 0.5, torch.float32)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)
            one = ops.by_bits(x, bits, values, starts, None, "")
            torch.set_num_threads(2)
            two = ops.by_bits(x, bits, values, starts, None, "")
        finally:
            torch.set_num_threads(before)
        assert_same_bits(one, two)
        last = values[int(starts[-2]) :].clone()
        own = ops.layout(bits[-1:], last, 1300, "starts")
        assert_same_bits(ops.by_bits(x, bits[-1:], last, own, None, ""), one[:, -1:])

    @pytest.mark.parametrize("rows", [1, 2, 5, 8])
    def test_what_is_pruned_takes_no_part(self, isa, rows):
        for dtype in FLOATS:
            x, weight, bitmap = problem(rows, (20, 500), 0.3, dtype)
            weight[:, ::3] = 0
            bitmap = (*ops.pack_masked(weight, None),)
            bitmap = (*bitmap, ops.layout(*bitmap, 500, "starts"))
            expected = ops.by_bits(x, *bitmap, None, "")
            for odd in (float("inf"), float("nan"), -float("inf")):
                there = x.clone()
                there[-1, ::3] = odd
                assert_same_bits(ops.by_bits(there, *bitmap, None, ""), expected)

    def test_a_number_that_is_none_stays_in_its_row(self, isa):
        x, weight, bitmap = problem(4, (20, 100), 1.0, torch.float32)
        expected = ops.by_bits(x, *bitmap, None, "")
        x[2, 50] = float("nan")
        found = ops.by_bits(x, *bitmap, None, "")
        assert found[2].isnan().all()
        assert_same_bits(found[[0, 1, 3]], expected[[0, 1, 3]])


class TestEnds:
    """Vectors of values are read from wherever those of a word begin."""

    @pytest.mark.parametrize("dtype", FLOATS)
    @pytest.mark.parametrize("empty", [0, 1, 17, 44])
    def test_nothing_is_read_beyond_the_last_value(self, isa, dtype, empty):
        x, weight, (bits, values, starts) = problem(3, (45, 130), 0.2, dtype)
        kept = 45 - empty
        bits[kept:], starts[kept:] = 0, starts[kept]
        with at_end_of_memory(values[: int(starts[-1])]) as values:
            y = ops.by_bits(x, bits, values, starts, None, "")
        assert_near(y[:, :kept], x, weight[:kept])
        assert torch.equal(y[:, kept:], torch.zeros(3, empty, dtype=dtype))

    def test_of_nothing(self, isa):
        none = torch.zeros(0)
        starts = torch.zeros(4, dtype=torch.int64)
        bits = torch.zeros(3, 2, dtype=torch.uint8)
        assert torch.equal(
            ops.by_bits(torch.ones(2, 9), bits, none, starts, None, ""), torch.zeros(2, 3)
        )
        assert ops.by_bits(torch.ones(0, 9), bits, none, starts, None, "").shape == (0, 3)
        assert torch.equal(
            ops.by_bits(torch.ones(2, 0), bits[:, :0], none, starts, torch.ones(3), "relu"),
            torch.ones(2, 3),
        )


class at_end_of_memory:
    """A copy of a tensor whose last byte is the last of what may be read."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __enter__(self):
        page, size = mmap.PAGESIZE, self.tensor.numel() * self.tensor.element_size()
        room = -(-size // page) * page
        self.memory = mmap.mmap(-1, room + page)
        self.place = ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) + room
        self.protect(0)
        buffer = memoryview(self.memory)[room - size : room]
        copy = torch.frombuffer(buffer, dtype=self.tensor.dtype, count=self.tensor.numel())
        return copy.copy_(self.tensor)

    def __exit__(self, *_):
        self.protect(mmap.PROT_READ | mmap.PROT_WRITE)

    def protect(self, how):
        libc = ctypes.CDLL(None, use_errno=True)
        place, size = ctypes.c_void_p(self.place), ctypes.c_size_t(mmap.PAGESIZE)
        assert libc.mprotect(place, size, how) == 0, ctypes.get_errno()


class TestRefused:
    def test_what_does_not_fit(self):
        x, _, (bits, values, starts) = problem(2, (5, 20), 0.5, torch.float32)
        cases = {
            "values has": (x, bits, values[:-1], starts),
            "starts has": (x, bits, values, starts[:-1]),
            "starts has dtype int32": (x, bits, values, starts.int()),
            "input has shape": (x[:, :16], bits, values, starts),
            "input has dtype float64": (x.double(), bits, values, starts),
        }
        for text, given in cases.items():
            with pytest.raises(RuntimeError, match=f"strop.packed_linear: {text}"):
                ops.by_bits(*given, None, "")


@pytest.mark.skipif("avx2" not in strop.supported_isas(), reason="the processor has no AVX2")
def test_are_candidates_for_few_rows():
    assert "mask" in plans.candidates(plans.row_class(8))
    assert "mask" not in plans.candidates(plans.row_class(33))
    costs = plans.Costs((512, 512), 512 * 256, torch.float32, torch.float32)
    one, more = (costs.by_table("mask", plans.row_class(rows)) for rows in (1, 8))
    assert one < more < 8 * one
