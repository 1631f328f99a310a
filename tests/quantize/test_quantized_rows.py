"""Rows of quantized tensors: the bits that indexing the restored tensor gives."""

import numpy as np
import pytest
import torch

import strop
from core.devices import assert_same_bits
from quantize.problems import RECIPES, sample

SHAPE = (7, 70)
INDICES = [
    0,
    6,
    -1,
    -7,
    np.int64(3),
    slice(None),
    slice(2, 5),
    slice(-3, None),
    slice(None, None, 3),
    slice(5, 2),
    slice(3, 100),
    ...,
    (),
    (2,),
    (2, ...),
    (..., slice(None)),
    (slice(1, 4), slice(None)),
    (-2, slice(None)),
    [1, 1, -2],
    [],
    [True, False, True, False, False, True, True],
    np.array([4, 0]),
    np.arange(7) > 3,
    torch.tensor(3),
    torch.tensor([5, -1, 0]),
    torch.tensor([5, 0], dtype=torch.int32),
    torch.tensor([[5, 0, 1], [2, 2, 6]]),
    torch.empty(0, dtype=torch.int64),
    torch.arange(7) % 2 == 0,
    torch.zeros(7, dtype=torch.bool),
]
# Of int4, whose rows of 70 are 35 bytes; each with what shares scales along the rows' axis.
BLOCKS = [None, (1, -1), (1, 32), (-1, 1), (-1, -1), (2, 32), (3, -1), (4, 1), (7, 70), (100, 5)]


def check(q, index):
    wanted, picked = q.dequantize(), q[index]
    rows = torch.from_numpy(index) if isinstance(index, np.ndarray) else index
    assert (picked.format, picked.dtype) == (q.format, q.dtype)
    picked.validate()
    assert_same_bits(picked.dequantize(), wanted[rows], index)


@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("symmetric", [True, False])
def test_blocks(block, symmetric):
    x = sample(SHAPE, torch.float32)
    q = strop.quantize(x, format="int4", block_size=block, symmetric=symmetric)
    for index in INDICES:
        check(q, index)


@pytest.mark.parametrize("format", [*RECIPES, "int3", "uint5", "int16", "float6_e3m2fn", "nf4"])
def test_formats(format):
    block = None if format in RECIPES else (1, 64)
    q = strop.quantize(sample(SHAPE, torch.bfloat16), format=format, block_size=block)
    for index in INDICES:
        check(q, index)


def test_more_axes():
    x = sample((4, 3, 40), torch.float32)
    for block in (None, (1, 1, 32), (2, 3, -1), (3, -1, 8)):
        q = strop.quantize(x, format="uint4", block_size=block)
        indices = (1, slice(1, 3), torch.tensor([[3, 0]]), (2, slice(None), ...), [False, True] * 2)
        for index in indices:
            check(q, index)
        check(q[2], 1)
        check(q[torch.tensor([[3, 0], [1, 1]])], torch.tensor([1, 0, 0]))


def test_parameters_of_other_shapes():
    x = sample(SHAPE, torch.float32)
    row, column, one = torch.rand(7, 1) + 0.1, torch.rand(3) + 0.1, torch.rand(()) + 0.1
    zeros = torch.randint(-3, 4, (7, 3)), torch.randint(-3, 4, (1, 3)), torch.tensor(2)
    for scale in (row, column, one):
        for zero in zeros:
            q = strop.quantize(x, scale, zero.int(), format="int4", block_size=(1, 32))
            for index in (2, slice(1, 4), torch.tensor([[6, 6], [0, 1]])):
                check(q, index)
    wide = strop.quantize(x.double(), row.double(), torch.rand(7, 1).double(), block_size=(1, -1))
    check(wide, slice(1, 4))


def test_one_row_many_times_and_none():
    q = strop.quantize(sample((1, 70), torch.float32), format="int4", block_size=(1, 32))
    check(q, [0, 0, 0, -1])
    empty = strop.quantize(torch.empty(0, 70), format="int4", block_size=(4, 32))
    for index in (slice(None), [], torch.empty(2, 0, dtype=torch.int64)):
        check(empty, index)


def test_a_row_at_a_time():
    q = strop.quantize(sample(SHAPE, torch.float32), format="nf4", block_size=(1, 64))
    assert len(q) == 7
    assert_same_bits(torch.stack([row.dequantize() for row in q]), q.dequantize())


def test_slices_are_views():
    q = strop.quantize(torch.randn(6, 64), format="int4", block_size=(1, 32))
    assert q[2:4].codes.data_ptr() == q.codes[2].data_ptr()


@pytest.mark.parametrize("block", [(1, 32), (2, 32)], ids=str)
def test_compiled(block):
    q = strop.quantize(sample(SHAPE, torch.float32), format="int4", block_size=block)
    rows = torch.tensor([4, 0, 6])

    def call(q, rows):
        return q[1].dequantize(), q[2:5].dequantize(), q[rows].dequantize(), q[..., :].dequantize()

    compiled = torch.compile(call, fullgraph=True)
    for ours, wanted in zip(compiled(q, rows), call(q, rows), strict=True):
        assert_same_bits(ours, wanted)


@pytest.mark.parametrize(
    ("index", "error", "text"),
    [
        (7, IndexError, "out of bounds"),
        (-8, IndexError, "out of bounds"),
        (torch.tensor([7]), IndexError, "out of"),
        ([0, -8], IndexError, "out of"),
        ((1, 2), TypeError, "index of more than rows"),
        ((slice(None), 2), TypeError, "index of more than rows"),
        ((..., 2), TypeError, "index of more than rows"),
        ((1, slice(0, 5)), TypeError, "index of more than rows"),
        ((1, slice(None), slice(None)), IndexError, "3 indices of a 2-D tensor"),
        (None, TypeError, "index is a NoneType"),
        (True, TypeError, "index is a bool"),
        (1.0, TypeError, "index is a float"),
        ("1", TypeError, "index is a str"),
        (torch.tensor(True), IndexError, r"mask has shape \(\); \(7,\)"),
        (torch.ones(6, dtype=torch.bool), IndexError, r"mask has shape \(6,\)"),
        (torch.ones(7, 70, dtype=torch.bool), IndexError, r"mask has shape \(7, 70\)"),
        (torch.tensor([1.0]), TypeError, "index has dtype torch.float32"),
        (torch.tensor([1], dtype=torch.uint8), TypeError, "index has dtype torch.uint8"),
    ],
    ids=repr,
)
def test_other_indices_are_refused(index, error, text):
    q = strop.quantize(torch.randn(SHAPE), format="int4", block_size=(1, 32))
    with pytest.raises(error, match=text):
        q[index]


def test_tensors_without_rows():
    for shape in ((), (5,)):
        q = strop.quantize(torch.randn(shape), format="int8")
        with pytest.raises(TypeError, match=f"index of a {len(shape)}-D tensor, which has no rows"):
            q[0]
    with pytest.raises(TypeError, match="has no length"):
        len(strop.quantize(torch.tensor(1.0), format="int8"))
