"""What pruning refuses, and in which words."""

import math
import re

import numpy as np
import pytest
import torch
from torch import nn

import strop
from strop import _C

W = torch.arange(12.0).view(3, 4)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "neither of threshold and sparsity is given; give exactly one"),
        ({"threshold": 1.0, "sparsity": 0.5}, "both of threshold and sparsity are given"),
        ({"sparsity": -0.1}, "sparsity is -0.1; it must be between 0 and 1"),
        ({"sparsity": 1.5}, "sparsity is 1.5; it must be between 0 and 1"),
        ({"sparsity": math.nan}, "sparsity is nan"),
        ({"threshold": math.nan}, "threshold is NaN"),
        ({"pattern": "2:4", "sparsity": 0.5}, "sparsity is given; pattern '2:4' says itself"),
        ({"pattern": "2:4", "threshold": 0.5}, "threshold is given; pattern '2:4' says itself"),
        ({"pattern": "5:4"}, "pattern '5:4' keeps 5 of 4; n:m needs 1 <= n < m <= 256"),
        ({"pattern": "4:4"}, "pattern '4:4' keeps 4 of 4"),
        ({"pattern": "0:4"}, "pattern '0:4' keeps 0 of 4"),
        ({"pattern": "2:999"}, "pattern '2:999' keeps 2 of 999"),
        ({"pattern": "-1:4"}, "pattern '-1:4' keeps -1 of 4"),
        ({"pattern": "structured", "sparsity": 0.5}, "pattern 'structured' is not known"),
        ({"pattern": "2:", "sparsity": 0.5}, "pattern '2:' is not known"),
        ({"pattern": "2:4x"}, "pattern '2:4x' is not known"),
        ({"pattern": "99999999999999999999:4"}, "is not known"),
        ({"pattern": "", "sparsity": 0.5}, "pattern '' is not known"),
        ({"pattern": (0, 4), "sparsity": 0.5}, r"pattern is a block of [0, 4]; two sizes of 1"),
        ({"pattern": (4,), "sparsity": 0.5}, r"pattern is a block of [4]; two sizes"),
        ({"pattern": (1, 2, 3), "sparsity": 0.5}, r"pattern is a block of [1, 2, 3]"),
        ({"per": "column", "sparsity": 0.5}, "per is 'column'; 'tensor' or 'row' is needed"),
        ({"norm": "max", "sparsity": 0.5}, "norm is 'max'; 'l1' or 'l2' is needed"),
    ],
)
def test_values(options, text):
    with pytest.raises(ValueError, match="strop.prune_mask: .*" + re.escape(text)):
        strop.prune_mask(W, **options)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sparsity": True}, "sparsity is a bool; a number is needed"),
        ({"sparsity": "0.5"}, "sparsity is a str; a number is needed"),
        ({"threshold": True}, "threshold is a bool"),
        ({"threshold": torch.tensor(1.0)}, "threshold is a Tensor"),
        ({"sparsity": 0.5, "pattern": 4}, "pattern is a int; a string or a tuple"),
        ({"sparsity": 0.5, "pattern": (4, True)}, "an entry of pattern is a bool"),
        ({"sparsity": 0.5, "pattern": (4, 2.0)}, "an entry of pattern is a float"),
        ({"sparsity": 0.5, "per": 1}, "per is a int; a string is needed"),
        ({"sparsity": 0.5, "norm": None}, "norm is a NoneType; a string is needed"),
    ],
)
def test_types(options, text):
    with pytest.raises(TypeError, match="strop.prune_mask: " + re.escape(text)):
        strop.prune_mask(W, **options)


def test_weights():
    for dtype in (torch.int8, torch.bool, torch.complex64):
        name = str(dtype).removeprefix("torch.")
        with pytest.raises(TypeError, match=f"prune_mask: weight has dtype {name}; float32"):
            strop.prune_mask(W.to(dtype), sparsity=0.5)
    with pytest.raises(TypeError, match="weight is a list; a tensor is needed"):
        strop.prune_mask([1.0], sparsity=0.5)
    with pytest.raises(TypeError, match="layout torch.sparse_coo; torch.strided is needed"):
        strop.prune_mask(W.to_sparse(), sparsity=0.5)
    with pytest.raises(TypeError, match="weight has dtype int64; float32"):
        strop.prune_mask(torch.arange(3, device="meta"), sparsity=0.5)
    with pytest.raises(ValueError, match=r"weight has shape \[12\]; .* needs two dimensions"):
        strop.prune_mask(W.view(-1), sparsity=0.5, pattern=(2, 2))
    with pytest.raises(ValueError, match="weight has no dimension along which"):
        strop.prune_mask(torch.tensor(1.0), pattern="2:4")


def test_numbers_of_numpy_are_numbers():
    expected = strop.prune_mask(W, sparsity=0.5)
    for sparsity in (np.float32(0.5), np.float64(0.5)):
        assert torch.equal(strop.prune_mask(W, sparsity=sparsity), expected)
    assert int((~strop.prune_mask(W, threshold=np.int64(3))).sum()) == 4


def test_prune_masks():
    def refused(kind, text, *arguments, **options):
        with pytest.raises(kind, match="strop.prune_masks: .*" + re.escape(text)):
            strop.prune_masks(*arguments, **options)

    linear = nn.Linear(4, 4)
    refused(ValueError, "sparsity is not given; only an n:m pattern", linear)
    refused(ValueError, "sparsity is 2; it must be between 0 and 1", linear, sparsity=2)
    refused(
        ValueError, "sparsity is 0.3; pattern '2:4' has 0.5", linear, sparsity=0.3, pattern="2:4"
    )
    refused(ValueError, "pattern 'x' is not known", linear, sparsity=0.3, pattern="x")
    refused(TypeError, "sparsity is a str", linear, sparsity="0.3")
    refused(ValueError, "there is no weight to prune", nn.ReLU(), sparsity=0.5)
    refused(ValueError, "there is no weight to prune", {}, sparsity=0.5)
    nothing = {"filter": lambda name, parameter: False}
    refused(ValueError, "there is no weight to prune", linear, sparsity=0.5, **nothing)
    refused(TypeError, "filter is a str; a function is needed", linear, sparsity=0.5, filter="w")
    refused(TypeError, "'a' is a int; a tensor is needed", {"a": 1}, sparsity=0.5)
    refused(TypeError, "a weight has dtype int64", {"a": torch.arange(3)}, sparsity=0.5)
    refused(ValueError, "'a' is given twice", [("a", W), ("a", W)], sparsity=0.5)
    refused(TypeError, "model_or_params is a Tensor", W, sparsity=0.5)
    refused(TypeError, "model_or_params is a int", 3, sparsity=0.5)
    refused(TypeError, "a Tensor that is no pair (name, tensor)", [W, W], sparsity=0.5)
    refused(ValueError, "needs two dimensions", {"a": W[0]}, sparsity=0.5, pattern=(2, 2))


def test_soft_threshold():
    def refused(kind, text, *arguments, **options):
        with pytest.raises(kind, match="strop.soft_threshold: .*" + re.escape(text)):
            strop.soft_threshold(*arguments, **options)

    refused(ValueError, "amount is -1; it must be 0 or more", W, -1)
    refused(ValueError, "amount is nan", W, math.nan)
    refused(TypeError, "amount is a bool; a number is needed", W, True)
    refused(TypeError, "amount is a str", W, "1")
    refused(TypeError, "amount is None", W, None)
    refused(TypeError, "weight has dtype int64", torch.arange(3), 1.0)
    refused(TypeError, "weight is a list", [1.0], 1.0)
    refused(TypeError, "amount has dtype float64; weight of dtype float32", W, W.double())
    refused(TypeError, "amount has dtype float32; weight of dtype float64", W.double(), W)
    refused(TypeError, "amount has dtype int64", W, torch.tensor(1))
    refused(
        ValueError, "amount has shape [3], which does not broadcast to weight's [3, 4]", W, W[:, 0]
    )
    refused(ValueError, "does not broadcast", W[0], W)
    refused(TypeError, "out has dtype float64; weight has float32", W, 1.0, out=W.double())
    refused(ValueError, "out has shape [4]; weight has [3, 4]", W, 1.0, out=W[0].clone())
    refused(ValueError, "elements of out share memory", W, 1.0, out=torch.zeros(4).expand(3, 4))
    flat = torch.zeros(20)
    refused(ValueError, "out overlaps weight in part", flat[:12], 1.0, out=flat[4:16])
    refused(ValueError, "out overlaps amount", W, flat[:4], out=flat[:12].view(3, 4))
    refused(TypeError, "out is a int; a tensor is needed", W, 1.0, out=3)
    leaf = W.clone().requires_grad_()
    with pytest.raises(RuntimeError, match="strop.soft_threshold: a tensor requires a gradient"):
        strop.soft_threshold(leaf, 1.0, out=W.clone())
    with pytest.raises(RuntimeError, match="strop.soft_threshold_: a tensor requires a gradient"):
        strop.soft_threshold_(leaf, 1.0)
    with pytest.raises(ValueError, match="strop.soft_threshold_: amount is -1"):
        strop.soft_threshold_(W.clone(), -1.0)
    with pytest.raises(RuntimeError, match="neither of amount and amount_tensor is given"):
        torch.ops.strop.soft_threshold(W)


def test_bits():
    with pytest.raises(ValueError, match="strop.pack_mask: mask has no dimension to pack along"):
        strop.pack_mask(torch.tensor(True))
    with pytest.raises(TypeError, match="pack_mask: mask has dtype float32; bool or uint8"):
        strop.pack_mask(W)
    with pytest.raises(TypeError, match="pack_mask: mask is a list; a tensor is needed"):
        strop.pack_mask([True])
    bits = torch.zeros(2, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="bits has rows of 3 bytes; 25 elements take 4"):
        strop.unpack_mask(bits, 25)
    with pytest.raises(ValueError, match="K is -1; it cannot be negative"):
        strop.unpack_mask(bits, -1)
    with pytest.raises(TypeError, match="K is a float; an int is needed"):
        strop.unpack_mask(bits, 20.0)
    with pytest.raises(TypeError, match="K is a bool; an int is needed"):
        strop.unpack_mask(bits, True)
    with pytest.raises(TypeError, match="bits has dtype bool; uint8 is needed"):
        strop.unpack_mask(bits.bool(), 20)
    with pytest.raises(ValueError, match="bits has no dimension"):
        strop.unpack_mask(bits[0, 0], 0)


def test_raw_ops_and_bindings_say_the_same():
    text = "strop.prune_mask: sparsity is 7; it must be between 0 and 1"
    with pytest.raises(RuntimeError, match=text):
        torch.ops.strop.prune_mask(W, sparsity=7.0)
    for module in (_C.cpu, _C.reference):
        with pytest.raises(ValueError, match=text):
            module.prune_mask(W.numpy(), sparsity=7.0)
        with pytest.raises(ValueError, match="weight is not contiguous"):
            module.prune_mask(W.t().numpy(), sparsity=0.5)
        with pytest.raises(TypeError, match="there is no argument colour"):
            module.prune_mask(W.numpy(), sparsity=0.5, colour=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_numbers_that_float32_does_not_hold(dtype):
    w = torch.tensor([[1.0, -2.0, math.inf, math.nan]]).to(dtype)
    for value in (1e39, 1e300):
        with pytest.raises(ValueError, match="threshold is .*; at most 3.40282e\\+38 is needed"):
            strop.prune_mask(w, threshold=value)
        with pytest.raises(ValueError, match="amount is .*; at most 3.40282e\\+38 is needed"):
            strop.soft_threshold(w, value)
        before = w.clone()
        with pytest.raises(ValueError, match="amount is .*; at most"):
            strop.soft_threshold_(w, value)
        assert torch.equal(w.nan_to_num(), before.nan_to_num())
    assert strop.prune_mask(w, threshold=3.4e38).tolist() == [[False, False, True, True]]
    assert strop.prune_mask(w, threshold=math.inf).tolist() == [[False, False, False, True]]
    assert strop.prune_mask(w, threshold=-1e300).all()
    assert strop.soft_threshold(w, 3e38)[0, :3].tolist() == [0, 0, math.inf]
    wide = w.double()  # computes with 1e300 itself
    assert strop.prune_mask(wide, threshold=1e300).tolist() == [[False, False, True, True]]
    assert strop.soft_threshold(wide, 1e300)[0, :3].tolist() == [0, 0, math.inf]
