"""Bad input: the error of each mistake, from all three doors, and nothing written."""

import numpy as np
import pytest
import torch

import strop
from strop import _C

X = torch.randn(4, 16)
ONE = torch.tensor(0.5)

MISTAKES = [
    ({"format": "int9"}, ValueError, "format 'int9' is not known; known are int2"),
    ({"rounding": "up"}, ValueError, "rounding 'up' is not known; known are half_even"),
    ({"rounding": "stochastic"}, ValueError, "rounding 'stochastic' needs a seed"),
    (
        {"block_size": (1, 2, 3)},
        ValueError,
        "strop.fake_quantize: block_size has 3 entries for a 2-D tensor; "
        "give one per dimension, -1 for a whole axis",
    ),
    ({"block_size": ()}, ValueError, "block_size has 0 entries for a 2-D tensor"),
    ({"block_size": (1, 0)}, ValueError, r"block_size\[1\] is 0; a positive size"),
    ({"block_size": (-2, 1)}, ValueError, r"block_size\[0\] is -2; a positive size"),
    ({"format": "integer"}, ValueError, "format integer is unbounded and needs a scale"),
    ({"quant_min": -200}, ValueError, "quant_min is -200; format int8 allows -128 to 127"),
    ({"quant_max": 128}, ValueError, "quant_max is 128; format int8 allows -128 to 127"),
    ({"quant_min": 5, "quant_max": 5}, ValueError, "quant_min 5 is not below quant_max 5"),
    ({"eps": 0.0}, ValueError, "eps is 0; a positive finite number is needed"),
    ({"eps": float("nan")}, ValueError, "eps is nan; a positive finite number"),
    ({"eps": 1e-60}, ValueError, "eps is 1e-60, which is 0 in float32"),
    ({"eps": 1e-45}, ValueError, "eps is 1e-45, by which float32 cannot divide; 1.17549e-38 is"),
    (
        {"eps": 1e-37, "format": "nvfp4", "block_size": None},
        ValueError,
        "eps is 1e-37, by which float32 cannot divide; 7.52316e-37 is large enough",
    ),
    ({"scale": torch.ones(3)}, ValueError, r"scale has shape \[3\]; input of shape \[4, 16\]"),
    ({"scale": torch.ones(1, 1, 1)}, ValueError, r"scale has shape \[1, 1, 1\]"),
    (
        {"scale": torch.ones(4, 2), "block_size": (1, 4)},
        ValueError,
        r"in these blocks needs \[4, 4\]",
    ),
    ({"scale": ONE.double()}, TypeError, "scale has dtype float64; .* needs float32"),
    ({"scale": ONE.bfloat16()}, TypeError, "scale has dtype bfloat16"),
    ({"zero_point": ONE}, ValueError, "zero_point is given without a scale"),
    (
        {"scale": ONE, "zero_point": torch.ones(5)},
        ValueError,
        r"zero_point has shape \[5\]",
    ),
    (
        {"scale": ONE, "zero_point": ONE.double()},
        TypeError,
        "zero_point has dtype float64; .* an integer dtype or float32",
    ),
    (
        {"scale": ONE, "zero_point": torch.tensor(True)},
        TypeError,
        "zero_point has dtype bool",
    ),
    ({"input": X.long()}, TypeError, "input has dtype int64; float32, bfloat16, float16 or"),
    ({"input": X.cfloat()}, TypeError, "input has dtype complex64"),
    ({"input": torch.zeros([1] * 17)}, ValueError, "input has 17 dimensions; at most 16"),
    ({"out": torch.empty(4, 15)}, ValueError, r"out has shape \[4, 15\]; input has \[4, 16\]"),
    ({"out": torch.empty(4, 16).half()}, TypeError, "out has dtype float16; input has float32"),
    ({"out": torch.empty(1).expand(4, 16)}, ValueError, "elements of out share memory"),
]
names = [f"{sorted(m)}-{text[:24]}" for m, _, text in MISTAKES]


@pytest.mark.parametrize(("mistake", "kind", "text"), MISTAKES, ids=names)
def test_mistakes(mistake, kind, text):
    arguments = {"input": X.clone(), **mistake}
    before = arguments["input"].clone()
    with pytest.raises(kind, match=text) as raised:
        strop.fake_quantize(**arguments)
    assert str(raised.value).startswith("strop.fake_quantize: ")
    assert torch.equal(arguments["input"], before)
    arrays = {
        k: v.numpy() if isinstance(v, torch.Tensor) and v.dtype != torch.bfloat16 else v
        for k, v in arguments.items()
    }
    for module in (_C.cpu, _C.reference):
        if (
            any(isinstance(v, torch.Tensor) for v in arrays.values())
            or mistake.get("block_size") == ()
        ):
            continue
        with pytest.raises((ValueError, TypeError)) as again:
            module.fake_quantize(**arrays)
        if "share memory" not in text:
            assert str(again.value) == str(raised.value)
            assert type(again.value) is kind


def test_the_raw_op_says_the_same():
    with pytest.raises(
        RuntimeError, match="strop.fake_quantize: block_size has 1 entries for a 2-D"
    ):
        torch.ops.strop.fake_quantize(X, None, None, "int8", [3], "half_even", True)
    with pytest.raises(RuntimeError, match="format 'int9' is not known"):
        torch.ops.strop.fake_quantize(X, None, None, "int9", [], "half_even", True)
    with pytest.raises(RuntimeError, match="-7 is not the index of a specification"):
        torch.ops.strop._fake_quantize(X, None, None, -7)


@pytest.mark.parametrize(
    ("mistake", "text"),
    [
        ({"input": [1.0]}, "input is a list; a tensor is needed"),
        ({"scale": 0.1}, "scale is a float; a tensor is needed"),
        ({"scale": ONE, "zero_point": 3}, "zero_point is a int; a tensor is needed"),
        ({"out": 3}, "out is a int; a tensor is needed"),
        ({"block_size": 3}, "block_size is a int; a tuple of ints or None"),
        ({"block_size": (1, 2.5)}, "an entry of block_size is a float; an int"),
        ({"format": 8}, "format is a int; a name, dtype or NumberFormat"),
        ({"rounding": None}, "rounding is a NoneType; a string"),
        ({"symmetric": 1}, "symmetric is a int; a bool"),
        ({"quant_min": 1.5}, "quant_min is a float; an int or None"),
        ({"eps": "x"}, "eps is a str; a float or None"),
        ({"seed": "x"}, "seed is a str; an int or an int64 tensor"),
        ({"seed": torch.tensor(1.0)}, "seed has dtype float32; int64 is needed"),
        ({"input": X.to_sparse()}, "input has layout torch.sparse_coo; torch.strided"),
        ({"input": torch.quantize_per_tensor(X, 0.1, 0, torch.qint8)}, "has dtype torch.qint8"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_wrong_types(mistake, text):
    strop._quantize.options._specifications.clear()  # 1 == True: a cached call would stand for the wrong one
    with pytest.raises(TypeError, match=text):
        strop.fake_quantize(**{"input": X, "symmetric": True, **mistake})


def test_other_values():
    with pytest.raises(ValueError, match="does not fit 64 bits"):
        strop.fake_quantize(X, rounding="stochastic", seed=2**64)
    with pytest.raises(ValueError, match=r"seed has shape \[2\]; one element"):
        strop.fake_quantize(X, rounding="stochastic", seed=torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="scale is on meta, input is on cpu"):
        strop.fake_quantize(X, torch.ones(1, device="meta"))
    with pytest.raises(ValueError, match="format 'float13' is not known"):
        strop.NumberFormat.get("float13")
    with pytest.raises(ValueError, match="no bounds to list"):
        strop.NumberFormat.get("integer").values()


@pytest.mark.parametrize("shift", [1, 3, 16])
def test_partial_overlap(shift):
    memory = torch.randn(200)
    before = memory.clone()
    x, out = memory[:100], memory[shift : shift + 100]
    with pytest.raises(ValueError, match="out overlaps input in part"):
        strop.fake_quantize(x, out=out)
    square = memory[:100].view(10, 10)
    with pytest.raises(ValueError, match="out overlaps input in part"):
        strop.fake_quantize(square, out=square.t())
    with pytest.raises(ValueError, match="out overlaps scale"):
        strop.fake_quantize(memory[:9], memory[20:21], out=memory[15:24])
    with pytest.raises(ValueError, match="out overlaps zero_point"):
        strop.fake_quantize(memory[:9], ONE, memory[20:21], out=memory[15:24])
    assert torch.equal(memory, before)


def test_in_place_names_itself():
    with pytest.raises(ValueError, match="strop.fake_quantize_: block_size has 1 entries"):
        strop.fake_quantize_(X.clone(), block_size=(1,))
    with pytest.raises(ValueError, match="strop.fake_quantize_: elements of out share memory"):
        strop.fake_quantize_(torch.zeros(1).expand(4))


def test_gradients_are_refused_by_what_writes_to_a_given_tensor():
    leaf = X.clone().requires_grad_()
    before = leaf.detach().clone()
    scale = ONE.clone().requires_grad_()
    spelled = ("int8", [], "half_even", True)
    text = "a tensor requires a gradient, which an op that writes to a given tensor does not have"
    for call in (
        lambda: strop.fake_quantize_(leaf),
        lambda: strop.fake_quantize_(X.clone(), scale),
        lambda: strop.fake_quantize(X, out=leaf),
        lambda: strop.fake_quantize(leaf, out=X.clone()),
        lambda: strop.fake_quantize(X, ONE, scale, out=X.clone()),
        lambda: torch.ops.strop.fake_quantize_(leaf, None, None, *spelled),
        lambda: torch.ops.strop.fake_quantize.out(X, scale, None, *spelled, out=X.clone()),
    ):
        with pytest.raises(RuntimeError, match=text):
            call()
    assert torch.equal(leaf, before)
    assert torch.equal(strop.fake_quantize(leaf.detach()), strop.fake_quantize(before))


def test_numpy_bindings_keep_to_their_arrays():
    x = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    out = np.empty_like(x)
    assert _C.cpu.fake_quantize(x, out=out) is out
    assert np.array_equal(out, _C.cpu.fake_quantize(x[::-1].copy())[::-1])
    frozen = np.zeros(3, np.float32)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        _C.cpu.fake_quantize(np.ones(3, np.float32), out=frozen)
    with pytest.raises(TypeError, match="input is a list; a numpy array is needed"):
        _C.cpu.fake_quantize([1.0])
    odd = np.frombuffer(bytes(13), np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        _C.cpu.fake_quantize(odd)
