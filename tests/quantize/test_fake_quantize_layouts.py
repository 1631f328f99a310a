"""fake_quantize against the oracle: problems at random, of any layout."""

import math

import pytest
import torch

from core.devices import DEVICES, assert_same_bits, oracle
from quantize.problems import (
    DTYPES,
    FLOATS,
    INTEGERS,
    RECIPES,
    grid_of,
    roundings_of,
    sample,
    scale_dtype,
)

pytest.importorskip("hypothesis")
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

reference = oracle("fake_quantize")


@st.composite
def problems(draw):
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 7, 17, 33]), min_size=0, max_size=4))
    while math.prod(shape) > 4000:
        shape.pop()
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in shape]
    block = draw(st.none() | st.tuples(*[st.sampled_from([-1, 1, 2, 5, 16, 32]) for _ in shape]))
    dtype = draw(st.sampled_from(DTYPES))
    whole = sample(
        tuple(n * s for n, s in zip(shape, steps, strict=True)), dtype, draw(st.integers(0, 9))
    )
    x = whole[tuple(slice(None, None, s) for s in steps)].permute(order)
    format = draw(st.sampled_from(draw(st.sampled_from([INTEGERS, FLOATS, RECIPES]))))
    integer = format in INTEGERS
    block = None if format in RECIPES or block is None else tuple(block[i] for i in order)
    options = {
        "format": format,
        "block_size": block,
        "rounding": draw(st.sampled_from(roundings_of(format))),
        "symmetric": not integer or draw(st.booleans()),
        "seed": draw(st.integers(-(2**63), 2**63 - 1)),
    }
    scale = zero = None
    if format not in RECIPES and draw(st.booleans()):
        grid = [g if draw(st.booleans()) else 1 for g in grid_of(x.shape, block)]
        scale = (torch.rand(grid) + 0.05).to(scale_dtype(dtype))
        kind = draw(
            st.sampled_from([None, torch.uint8, torch.int8, torch.int16, torch.int64, "float"])
            if integer
            else st.none()
        )
        if kind == "float":
            zero = torch.randn(grid).to(scale.dtype)
        elif kind is not None:
            zero = torch.randint(0, 9, grid).to(kind)
    return x, scale, zero, options


@pytest.mark.parametrize("device", DEVICES, ids=repr)
@given(problem=problems())
def test_any_layout(device, problem):
    x, scale, zero, options = problem
    with device:
        y = device.fake_quantize(x, scale, zero, **options)
    assert_same_bits(y, reference(x, scale, zero, **options), options)
