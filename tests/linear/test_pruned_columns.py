"""What x holds where the weight was pruned is not read: no bit of a product depends on it."""

import pytest
import torch

from core.devices import _cuda_host, assert_same_bits, to_array, to_tensor
from linear.problems import CPU_DEVICES, generator, kept, layouts_of, multiplied

NARROW = (torch.float32, torch.bfloat16, torch.float16)
ROWS = (1, 2, 4, 8, 17, 130)
SPECIALS = (torch.inf, -torch.inf, torch.nan, 3e38, -3e38)  # (beyond float16: Inf)
SHAPE = (70, 300)


@pytest.fixture(params=CPU_DEVICES, ids=repr)
def cpu(request):
    with request.param as device:
        yield device


def weight_of(dtype, sparsity):
    """A weight, and which columns all of its rows have pruned."""
    weight = torch.randn(SHAPE, generator=generator(1))
    weight = torch.where(kept(SHAPE, sparsity), weight, 0)
    pruned = torch.rand(SHAPE[1], generator=generator(2)) < 0.3
    pruned[-3:] = True  # beside the end of a row, of a block of columns, of a vector
    pruned[127:130] = True
    weight[:, pruned] = 0
    return weight.to(dtype), pruned


def inputs_of(rows, dtype, pruned):
    """x with 0 in these columns, then with each special number in them, then with all kinds."""
    x = torch.randn(rows, SHAPE[1], generator=generator(rows)).to(dtype)
    x[:, pruned] = 0
    yield x
    for special in SPECIALS:
        yield torch.where(pruned, torch.tensor(special).to(dtype), x)
    kinds = torch.tensor([0.0, -0.0, 1.0, *SPECIALS])
    drawn = kinds[torch.randint(len(kinds), x.shape, generator=generator(rows))].to(dtype)
    yield torch.where(pruned, drawn, x)


def assert_one_result(multiply, rows, dtype, pruned, note):
    first, *others = inputs_of(rows, dtype, pruned)
    expected = multiply(first)
    assert expected.isfinite().all()
    for x in others:
        assert_same_bits(multiply(x), expected, f"{note} {rows} rows {x[0, pruned][:2]}")


def layouts(dtypes):
    """The layouts of values of each dtype."""
    made = [(layout, dtype) for dtype in dtypes for layout in layouts_of(dtype)]
    return pytest.mark.parametrize(("layout", "values"), made, ids=str)


@pytest.mark.parametrize("inputs", NARROW, ids=str)
@layouts(NARROW)
def test_by_every_layout(cpu, layout, values, inputs):
    for sparsity in (0.1, 0.8):
        weight, pruned = weight_of(values, sparsity)
        for rows in ROWS:
            assert_one_result(
                lambda x, w=weight: multiplied(x, w, layout), rows, inputs, pruned, sparsity
            )


def test_float64(cpu):
    weight, pruned = weight_of(torch.float64, 0.5)
    for rows in ROWS:
        assert_one_result(
            lambda x: multiplied(x, weight, "mask"), rows, torch.float64, pruned, "float64"
        )


@layouts(NARROW)
def test_beside_weights_that_are_no_numbers(cpu, layout, values):
    weight, pruned = weight_of(values, 0.5)
    kept_column = int((~pruned).nonzero()[4])
    others = torch.arange(SHAPE[0]) != 5
    for special in (torch.inf, torch.nan):
        weight[5, kept_column] = special
        plain = {
            rows: multiplied(next(inputs_of(rows, values, pruned)), weight, layout) for rows in ROWS
        }
        for rows in ROWS:
            for x in inputs_of(rows, values, pruned):
                y = multiplied(x, weight, layout)
                assert not y[:, 5].isfinite().any()
                assert_same_bits(y[:, others], plain[rows][:, others], f"{special} {rows}")


@layouts(NARROW[:2])
def test_the_sign_of_what_underflows(cpu, layout, values):
    # Each product is a negative number that rounds to -0.
    weight = torch.full((3, 1024), 1e-30)
    weight[:, 1::2] = 0
    for rows in ROWS:
        x = torch.full((rows, 1024), -1e-30)
        expected = multiplied(x, weight.to(values), layout)
        for beside in (1.0, -1.0, torch.inf, torch.nan):
            x[:, 1::2] = beside
            assert_same_bits(multiplied(x, weight.to(values), layout), expected, beside)


@pytest.mark.cuda_host
@pytest.mark.skipif(_cuda_host is None, reason="strop._cuda_host is not built here")
@pytest.mark.parametrize(
    ("values", "inputs"),
    [*((d, d) for d in NARROW), (NARROW[1], NARROW[0]), (NARROW[2], NARROW[0])],
    ids=str,
)
def test_by_the_kernels_of_a_gpu(values, inputs):
    weight, pruned = weight_of(values, 0.5)
    held = _cuda_host.pack_masked(to_array(weight[:9]), None)

    def multiply(x):
        return to_tensor(_cuda_host.packed_linear(to_array(x), held, None, ""))

    for rows in (1, 2, 8):
        assert_one_result(multiply, rows, inputs, pruned, "GPU")
