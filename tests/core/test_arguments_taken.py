"""What may stand for an argument: numpy's numbers, negated tensors, batches of no samples."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import strop
from core.public_calls import CALLS, X, calls_of, public

CALLED = {name: function for name, function in public() if name in CALLS}
# Which change a model, whose weights are drawn anew for each call.
OF_MODELS = {"load_packed", "quantization_report", "pack_model"}
OF_MODELS |= {"nn.PackedLinear.from_dense"}


def _tensors(result: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]


def _assert_same(found: Any, expected: Any, note: str) -> None:
    found, expected = _tensors(found), _tensors(expected)
    assert len(found) == len(expected), note
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype, note
        assert torch.equal(one.resolve_neg(), other), note


def _as_numpy(value: Any, integer: Callable, real: Callable) -> Any:
    """The same value in numpy's types, that of a sequence for each entry."""
    if isinstance(value, bool):
        return np.bool_(value)
    if isinstance(value, int):
        return integer(value)
    if isinstance(value, float):
        return real(value)
    if type(value) in (list, tuple):
        return type(value)(_as_numpy(entry, integer, real) for entry in value)
    return value


@pytest.mark.parametrize(
    ("integer", "real"),
    [(np.int64, np.float64), (np.int32, np.float64), (np.array, np.array)],
    ids=["int64", "int32", "0-d array"],
)
@pytest.mark.parametrize("name", CALLED)
def test_numbers_of_numpy(name, integer, real):
    for make in calls_of(name):
        for argument, value in make().items():
            other = _as_numpy(value, integer, real)
            if other is value or (type(value) in (list, tuple) and isinstance(value[0], str)):
                continue
            strop._quantize.options._specifications.clear()  # where an equal number may be known
            found = CALLED[name](**{**make(), argument: other})
            if name not in OF_MODELS:
                torch.manual_seed(0)
                expected = CALLED[name](**make())
                torch.manual_seed(0)
                found = CALLED[name](**{**make(), argument: other})
                _assert_same(found, expected, f"{argument} = {other!r}")


def test_numbers_of_numpy_in_a_report():
    weights = {"a": X}
    options = {"format": "int4", "block_size": (np.int32(1), 8), "symmetric": np.True_}
    report = strop.quantization_report(weights, formats={"q": {**options, "seed": np.int64(3)}})
    plain = {"format": "int4", "block_size": (1, 8), "symmetric": True, "seed": 3}
    expected = strop.quantization_report(weights, formats={"q": plain})
    assert json.dumps(report.to_dict()) == json.dumps(expected.to_dict())


def _negated(tensor: Tensor) -> Tensor:
    """An equal tensor whose memory has the opposite sign."""
    made = torch._neg_view(-tensor)
    assert made.is_neg()
    return made


@pytest.mark.parametrize("name", sorted(CALLED.keys() - OF_MODELS))
def test_negated_tensors(name):
    for make in calls_of(name):
        torch.manual_seed(0)
        expected = CALLED[name](**make())
        torch.manual_seed(0)
        for argument, value in make().items():
            if type(value) is not Tensor or value.dtype not in (torch.float32, torch.float64):
                continue
            torch.manual_seed(0)
            arguments = make()
            arguments[argument] = given = _negated(arguments[argument])
            found = CALLED[name](**arguments)
            if argument == "out" or name.endswith("_"):
                assert found is given or argument != "out"
            _assert_same(found, expected, argument)


def test_negated_tensors_of_complex_ones():
    z = torch.complex(X, 2 * X).conj()
    plain = z.imag.clone()
    assert z.imag.is_neg()
    assert torch.equal(strop.fake_quantize(z.imag), strop.fake_quantize(plain))
    out = torch.zeros_like(z).conj().imag
    strop.fake_quantize(plain, out=out)
    assert torch.equal(out, strop.fake_quantize(plain))
    version = z._version
    expected = strop.soft_threshold(plain, 0.5)
    strop.soft_threshold_(z.imag, 0.5)
    assert torch.equal(z.imag, expected)
    assert z._version > version
    leaf = torch.complex(X, X).requires_grad_()
    strop.fake_quantize(leaf.conj().imag, torch.tensor(0.1)).sum().backward()
    assert leaf.grad.imag.eq(-1).any()


E4 = {"format": "int4"}
BATCHES = [
    ("fake_quantize", [(3, 8)], {}),
    ("fake_quantize", [(3, 8), ()], E4),
    ("fake_quantize", [(3, 8)], {"rounding": "stochastic", "seed": 3}),
    ("fake_quantize", [(8,)], {"format": "mxfp4"}),
    ("fake_quantize", [(3, 16)], {"format": "nvfp4"}),
    ("prune_mask", [(3, 8)], {"sparsity": 0.5}),
    ("soft_threshold", [(3, 8), (3, 1)], {}),
    ("augment_images", [(2, 3, 4, 5), (2, 2, 3)], {"size": (6, 7)}),
    ("augment_images", [(2, 3, 4, 5), (2, 2, 3), (3,)], {}),
    ("warp_masks", [(2, 4, 5), (2, 2, 3)], {"size": (6, 7)}),
    ("warp_points", [(2, 4, 2), (2, 2, 3)], {}),
    ("warp_boxes", [(2, 4, 4), (2, 2, 3)], {"size": (6, 7)}),
    ("choose_scale", [(3, 8)], E4),
]
POSITIONS = {"augment_images": ("images", "matrices", "mean")}


def _on_batch(name: str, options: dict[str, Any]) -> Callable[..., Any]:
    def call(*tensors: Tensor) -> Any:
        named = dict(zip(POSITIONS.get(name, ()), tensors, strict=False))
        made = CALLED[name](**named, **options) if named else CALLED[name](*tensors, **options)
        return tuple(t for t in made if t is not None) if isinstance(made, tuple) else made

    return call


@pytest.mark.parametrize("randomness", ["error", "different", "same"])
@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize(("name", "shapes", "options"), BATCHES)
def test_batches_of_no_samples(name, shapes, options, dim, randomness):
    def mapped(size: int) -> Any:
        tensors = [torch.rand((size, *shape)).movedim(0, dim).add(0.1) for shape in shapes]
        return torch.func.vmap(call, in_dims=dim, randomness=randomness)(*tensors)

    call = _on_batch(name, options)
    for none, some in zip(_tensors(mapped(0)), _tensors(mapped(2)), strict=True):
        assert none.shape == (0, *some.shape[1:])
        assert none.dtype == some.dtype
    if len(shapes) > 1:  # the first alone has a batch
        first, *others = [torch.rand(0, *shapes[0]), *(torch.rand(shape) for shape in shapes[1:])]
        mapped_first = torch.func.vmap(call, in_dims=(0, *(None for _ in others)))
        assert _tensors(mapped_first(first, *others))[0].shape[0] == 0


def test_other_batches_of_no_samples():
    codes = torch.zeros(0, 3, 8, dtype=torch.uint8)
    vmap = torch.func.vmap
    assert vmap(lambda x: strop.pack_bits(x, 4))(codes).shape == (0, 3, 4)
    assert vmap(lambda x: strop.unpack_bits(x, 4, 16))(codes).shape == (0, 3, 16)
    assert vmap(strop.pack_mask)(codes.bool()).shape == (0, 3, 1)
    assert vmap(lambda x: strop.unpack_mask(x, 64))(codes).shape == (0, 3, 64)
    w = strop.pack_weight(X, plan="packed")
    x, bias = torch.rand(0, 5, 16), torch.rand(0, 4)
    assert vmap(lambda t: strop.packed_linear(t, w))(x).shape == (0, 5, 4)
    assert vmap(lambda t, b: strop.packed_linear(t, w, b))(x, bias).shape == (0, 5, 4)
    masks = vmap(lambda a, b: strop.prune_masks({"a": a, "b": b}, sparsity=0.5))(x, bias)
    assert [masks[name].shape for name in "ab"] == [(0, 5, 16), (0, 4)]
    restored = vmap(lambda t: strop.dequantize(strop.quantize(t, format="int4")))(x)
    assert restored.shape == (0, 5, 16)
    leaf = torch.rand(0, 8, requires_grad=True)
    vmap(lambda t: strop.fake_quantize(t, rounding="stochastic", seed=1))(leaf).sum().backward()
    assert leaf.grad.shape == (0, 8)


def test_rules_for_each_sample_give_what_each_gives():
    x = torch.randn(3, 4, 16)
    vmap = torch.func.vmap
    quantized = [strop.quantize(one, format="int4") for one in x]
    found = vmap(lambda t: strop.dequantize(strop.quantize(t, format="int4")))(x)
    assert torch.equal(found, torch.stack([strop.dequantize(q) for q in quantized]))
    chosen = vmap(lambda t: strop.choose_scale(t, format="uint4")[:2], in_dims=1, out_dims=1)(
        x.movedim(0, 1)
    )
    for field in range(2):
        parts = [strop.choose_scale(one, format="uint4")[field] for one in x]
        assert torch.equal(chosen[field].movedim(1, 0), torch.stack(parts))
    codes = torch.randint(0, 16, (4, 2, 6), dtype=torch.uint8)
    packed = vmap(lambda t: strop.pack_bits(t, 4))(codes)
    assert torch.equal(packed, strop.pack_bits(codes, 4))
    assert torch.equal(vmap(lambda t: strop.unpack_bits(t, 4, 6))(packed), codes)
