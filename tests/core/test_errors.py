"""Wrong arguments of everything public: each is refused by name, or right, and nothing is written."""

import contextlib
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils import _pytree as pytree

import strop
from core.public_calls import CALLS, X, calls_of, parameters_of, public

FUNCTIONS = dict(public())
FAKES = FakeTensorMode()


def _tensor(valid: Any) -> Tensor:
    """A tensor of the valid one's shape and dtype."""
    plain = isinstance(valid, Tensor) and type(valid) is Tensor
    return valid.clone() if plain else X.clone()


def _cast(dtype: torch.dtype) -> Callable[[Any], Tensor]:
    return lambda valid: torch.empty(_tensor(valid).shape, dtype=torch.uint8).view(dtype)


class _NoStorage(Tensor):
    @classmethod
    def __torch_dispatch__(cls, function, types, arguments=(), options=None):
        raise NotImplementedError(f"no {function}")


def _subclass(valid: Any) -> Tensor:
    like = _tensor(valid)
    return Tensor._make_wrapper_subclass(_NoStorage, like.shape, dtype=like.dtype)


def _nested(valid: Any) -> Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


def _jagged(valid: Any) -> Tensor:
    rows = [torch.ones(2, 16), torch.ones(3, 16)]
    return torch.nested.nested_tensor(rows, layout=torch.jagged)


def _masked(valid: Any) -> Tensor:
    like = _tensor(valid).float()
    return torch.masked.masked_tensor(like, like > 0)


def _matrix(valid: Any) -> Tensor:
    like = _tensor(valid)
    dtype = torch.float32 if like.dtype == torch.float8_e4m3fn else like.dtype
    return like.to(dtype) if like.dim() == 2 else torch.ones(4, 16, dtype=dtype)


# Of what kind it is, and what makes it from the argument of a valid call.
NO_TENSORS = {
    "None": lambda valid: None,
    "str": lambda valid: "no such thing",
    "bytes": lambda valid: b"no",
    "float": lambda valid: 1.5,
    "nan": lambda valid: float("nan"),
    "int": lambda valid: 3,
    "bool": lambda valid: True,
    "huge": lambda valid: 2**80,
    "complex": lambda valid: 1j,
    "list": lambda valid: [1.0, 2.0],
    "strings": lambda valid: ["a"],
    "nones": lambda valid: [None],
    "empty": lambda valid: [],
    "huge list": lambda valid: [2**80, 2**80],
    "tuple": lambda valid: (1.5, None),
    "dict": lambda valid: {"a": 1},
    "set": lambda valid: {1},
    "array": lambda valid: np.ones((4, 16), np.float32),
    "scalar array": lambda valid: np.array(1.5),
    "numpy float": lambda valid: np.float32(1.5),
    "numpy bool": lambda valid: np.True_,
    "object": lambda valid: object(),
    "type": lambda valid: int,
    "dtype": lambda valid: torch.int32,
    "module": lambda valid: torch.nn.ReLU(),
}
TENSORS = {
    "0-d": lambda valid: torch.ones((), dtype=_tensor(valid).dtype),
    "17-d": lambda valid: torch.zeros([1] * 17, dtype=_tensor(valid).dtype),
    "wide 17-d": lambda valid: torch.zeros([2] * 17, dtype=_tensor(valid).dtype),
    "one more axis": lambda valid: _tensor(valid).unsqueeze(-1),
    "one axis": lambda valid: _tensor(valid).flatten(),
    "empty": lambda valid: _tensor(valid)[..., :0] if _tensor(valid).dim() else torch.ones(0),
    "negated": lambda valid: torch._neg_view(_tensor(valid).float()),
    "int64": lambda valid: torch.ones(_tensor(valid).shape, dtype=torch.int64),
    "boolean": lambda valid: torch.ones(_tensor(valid).shape, dtype=torch.bool),
    "complex64": lambda valid: _tensor(valid).to(torch.complex64),
    "conjugate": lambda valid: _tensor(valid).to(torch.complex64).conj(),
    "float8_e4m3fn": _cast(torch.float8_e4m3fn),
    "float8_e5m2fnuz": _cast(torch.float8_e5m2fnuz),
    "float8_e8m0fnu": _cast(torch.float8_e8m0fnu),
    "float4_e2m1fn_x2": _cast(torch.float4_e2m1fn_x2),
    "uint4": lambda valid: torch.empty(4, 16, dtype=torch.uint4),
    "bits8": lambda valid: torch.empty(4, 16, dtype=torch.bits8),
    "nested": _nested,
    "jagged": _jagged,
    "coo": lambda valid: _matrix(valid).to_sparse(),
    "csr": lambda valid: _matrix(valid).to_sparse_csr(),
    "mkldnn": lambda valid: _matrix(valid).float().to_mkldnn(),
    "quantized": lambda valid: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8),
    "masked": _masked,
    "subclass": _subclass,
    "meta": lambda valid: _tensor(valid).to("meta"),
    "fake": lambda valid: FAKES.from_tensor(_tensor(valid)),
    "leaf": lambda valid: _tensor(valid).float().requires_grad_(),
}
VALUES = {**NO_TENSORS, **{f"{name} tensor": make for name, make in TENSORS.items()}}
# What the arguments mean is left to somebody else.
JUDGED_ELSEWHERE = {("pack_model", "example_inputs")}
# What an error may call an argument beside its name.
SYNONYMS = {
    ("NumberFormat.get", "name"): "format",
    ("prune_masks", "model_or_params"): "'a'",
    ("quantization_report", "model_or_state_dict"): "state dict",
    ("set_isa", "name"): "instruction set",
}


def _plain_tensors(arguments: Any) -> list[Tensor]:
    leaves = pytree.tree_leaves(arguments)
    tensors = [t for t in leaves if type(t) is Tensor and t.device.type == "cpu"]
    return [t for t in tensors if not t.is_nested and t.layout is torch.strided]


def _bytes(tensor: Tensor) -> Tensor:
    return torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())


def _check_refusal(name: str, argument: str, error: Exception, arguments: dict[str, Any]) -> None:
    text = str(error)
    owner = name.rpartition(".")[0]
    begins = text.startswith(f"strop.{name}: ") or (owner and text.startswith(f"strop.{owner}: "))
    assert begins, text
    if isinstance(error, RuntimeError):
        assert "gradient" in text, text
        return
    assert isinstance(error, ValueError | TypeError), repr(error)
    if SYNONYMS.get((name, argument), "\0") in text:
        return
    named = [n for n in arguments if re.search(rf"\b{re.escape(n)}\b", text)]
    beside = isinstance(error, ValueError) or isinstance(arguments[argument], Tensor)
    assert argument in named or (named and beside), text


def _tried(name: str, make: Callable[[], dict[str, Any]], argument: str, value: str) -> None:
    arguments = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments[argument] = VALUES[value](arguments.get(argument))
        if argument == "filter" and callable(arguments[argument]):
            return
        before = [(t, _bytes(t).clone()) for t in _plain_tensors(arguments)]
        try:
            FUNCTIONS[name](**arguments)
        except Exception as error:
            _check_refusal(name, argument, error, arguments)
            for tensor, was in before:
                assert torch.equal(_bytes(tensor), was), "an argument was written to"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_valid_calls_are_valid(name):
    assert name in CALLS, f"tests/core/public_calls.py needs a valid call of strop.{name}: a line"
    for make in calls_of(name):
        FUNCTIONS[name](**make())


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name in CALLS])
def test_wrong_arguments_are_refused_by_name(name):
    wrong = []
    for make in calls_of(name):
        for argument in parameters_of(FUNCTIONS[name]):
            for value in VALUES if (name, argument) not in JUDGED_ELSEWHERE else ():
                try:
                    _tried(name, make, argument, value)
                except AssertionError as error:
                    said = str(error).split("\nassert")[0]
                    wrong.append(f"{argument} = {value}: {said}")
    assert not wrong, "\n".join(wrong)


def test_what_lies_deeper_is_refused_by_name():
    layer = strop.nn.PackedLinear.from_dense(torch.nn.Linear(16, 4))
    for value in (None, "x", [1.0], np.ones((1, 16), np.float32)):
        with pytest.raises(
            TypeError, match=r"strop.packed_linear: input is a \w+; a tensor is needed"
        ):
            layer(value)
    model = torch.nn.Sequential(torch.nn.Linear(16, 4))
    keeps = torch.ones(4, 16, dtype=torch.bool)
    for mask in (keeps.to("meta"), keeps.to_sparse(), keeps.float(), keeps[0], None):
        with pytest.raises((ValueError, TypeError), match="strop.pack_model: .*masks"):
            strop.pack_model(model, masks={"0.weight": mask})
    nested = _nested(None)
    for weights in ({"a": X, "b": X.to("meta")}, {"a": X.to_sparse()}, {"a": X, "b": nested}):
        with pytest.raises((ValueError, TypeError), match="strop.prune_masks: "):
            strop.prune_masks(weights, sparsity=0.5)
    with pytest.raises(TypeError, match="strop.quantization_report: 'a' is a nested tensor"):
        strop.quantization_report({"a": nested})
    with pytest.raises(TypeError, match="input has dtype uint4; float32"):
        strop.fake_quantize(torch.empty(3, dtype=torch.uint4))
    with pytest.raises(RuntimeError, match="input has dtype float8_e8m0fnu; float32"):
        torch.ops.strop.choose_scale(X.byte().view(torch.float8_e8m0fnu), "int8", [], True)


# What every raw op is given: by names of its schema's arguments, else by types.
RAW: dict[str, Any] = {"Tensor": X, "List[Tensor]": [X], "str": "int8", "bool": True, "int": 4}
RAW |= {"float": 1.0, "List[int]": [1, 4], "List[float]": [1.0], "dtype": torch.float32}
RAW |= {
    "rounding": "half_even",
    "pattern": "unstructured",
    "per": "row",
    "norm": "l1",
    "layout": "mask",
}
RAW |= {"activation": "", "interpolation": "bilinear", "fill_mode": "constant", "size": [4, 5]}
RAW_OPS = [
    getattr(getattr(torch.ops.strop, packet), overload or "default")
    for packet, _, overload in (
        name.removeprefix("strop::").partition(".")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("strop::")
    )
]
RAW_TENSORS = [name for name in TENSORS if name not in ("leaf", "masked", "subclass", "fake")]


def _raw_arguments(op: Any, bad: str | None, value: str) -> tuple[list[Any], dict[str, Any]]:
    """With a wrong tensor as one of them, or as all."""
    given, options = [], {}
    for argument in op._schema.arguments:
        kind = str(argument.type).removeprefix("Optional[")
        kind = kind[:-1] if kind != str(argument.type) else kind
        valid = RAW[kind] if "Tensor" in kind else RAW.get(argument.name, RAW[kind])
        if "Tensor" in kind and bad in (argument.name, None):
            valid = [TENSORS[value](X)] if isinstance(valid, list) else TENSORS[value](X)
        if not argument.kwarg_only:
            given.append(valid)
        elif not argument.has_default_value():
            options[argument.name] = valid
    return given, options


@pytest.mark.parametrize("op", RAW_OPS, ids=lambda op: op.name().removeprefix("strop::"))
def test_raw_ops_refuse_what_does_not_fit(op):
    tensors = [a.name for a in op._schema.arguments if "Tensor" in str(a.type)]
    wrong = []
    for bad in [*tensors, None]:
        for value in RAW_TENSORS:
            given, options = _raw_arguments(op, bad, value)
            try:
                op(*given, **options)
            except NotImplementedError:  # torch's own: there is no kernel for that kind
                continue
            except (RuntimeError, ValueError, TypeError) as error:
                if not str(error).startswith("strop."):
                    kind = type(error).__name__
                    wrong.append(f"{bad or 'all'} = {value}: {kind} {str(error)[:200]}")
    assert not wrong, "\n".join(wrong)


def _without_data(arguments: Any, mode: FakeTensorMode | None) -> Any:
    """The same on the meta device, or as fake tensors."""
    convert = mode.from_tensor if mode is not None else (lambda tensor: tensor.to("meta"))
    return pytree.tree_map_only(Tensor, convert, arguments)


def _outcome(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Shapes and dtypes of a result, or the error."""
    try:
        made = function(**arguments)
    except Exception as error:
        return error
    return [(tuple(t.shape), t.dtype) for t in pytree.tree_leaves(made) if isinstance(t, Tensor)]


# Whose results depend on values.
NEED_DATA = {
    "PackedWeight.from_state_dict",
    "load_packed",
    "pack_weight",
}
NEED_DATA |= {
    "nn.PackedLinear.from_dense",
    "quantization_report",
    "pack_model",
}
NEED_DATA |= {"QuantizedTensor.from_bitsandbytes", "QuantizedTensor.from_compressed_tensors"}
NEED_DATA |= {"QuantizedTensor.from_torchao"}
OF_SHAPES = ["0-d", "17-d", "one more axis", "one axis", "empty", "int64", "boolean", "complex64"]
OF_SHAPES += ["float8_e4m3fn", "uint4"]


@pytest.mark.parametrize("mode", [None, FAKES], ids=["meta", "fake"])
@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n in CALLS and n not in NEED_DATA])
def test_tensors_without_data_are_taken_and_refused_alike(name, mode):
    function, wrong = FUNCTIONS[name], []
    for make in calls_of(name):
        tensors = [n for n, value in make().items() if isinstance(value, Tensor)]
        for bad, value in [("", ""), *((n, v) for n in tensors for v in OF_SHAPES)]:
            arguments = make()
            if bad:
                arguments[bad] = TENSORS[value](arguments[bad])
            if not pytree.tree_any(lambda leaf: isinstance(leaf, Tensor), arguments):
                continue
            without = _without_data(arguments, mode)
            expected = _outcome(function, arguments)
            if "must be finite" in str(expected):  # of a value, which is not there
                continue
            with mode or contextlib.nullcontext():
                found = _outcome(function, without)
            if isinstance(expected, Exception):
                alike = type(found) is type(expected) and str(found) == str(expected)
            else:
                alike = found == expected
            if not alike:
                wrong.append(f"{bad} {value}: {found!r:.150} in place of {expected!r:.150}")
    assert not wrong, "\n".join(wrong)
