"""The modules that are linear layers, whatever their class, and what each of them was before."""

from __future__ import annotations

from abc import ABC
from typing import Any, Generic, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from strop._core.tensors import metadata
from strop._models.compressed_layers import attributes
from strop.nn import PackedLinear
from strop.nn._dense_layers import effective, masked
from strop.nn._packed_buffers import STATE_KEYS, PackedBuffers

_ORIGIN = "_strop_origin"
_WEIGHTS = {"weight", "bias"}
_OF_MODULE = frozenset(vars(nn.Module()))
_OF_LINEAR = frozenset(vars(nn.Linear(1, 1, device="meta")))
# (Its tensors of codes are buffers, which code that reads an attribute of that name does not meet.)
_CODES = {"codes", "scale", "zero_point", "tensor_scale"}
_OF_PACKED = frozenset((*dir(PackedLinear), *PackedBuffers.__annotations__, *STATE_KEYS)) - _CODES
# What a subclass of nn.Linear may have of its own and still be one: how it is made and shown, and what
# the interpreter gives to every class.
_HARMLESS = {
    *("__init__", "reset_parameters", "extra_repr", "__repr__", "__constants__", "__doc__"),
    *("__module__", "__qualname__", "__dict__", "__weakref__", "__parameters__", "__orig_bases__"),
    *("__abstractmethods__", "_abc_impl"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"),
    *("__firstlineno__", "__static_attributes__", "__classdictcell__", "__slots__"),
}


def is_linear(module: object) -> bool:
    """Whether a module is an ``nn.Linear``, or names itself like another kind of it."""
    return isinstance(module, nn.Linear | PackedLinear) or is_transposed(module)


def is_transposed(module: object) -> bool:
    """Whether it is the Conv1D of GPT-2 by name and shape: a linear layer of weight [K, N].

    (It is transformers', which is not imported.)
    """
    if type(module).__name__ != "Conv1D" or not isinstance(module, nn.Module):
        return False
    if isinstance(module, nn.modules.conv._ConvNd):
        return False
    weight, bias = (stored(module, name) for name in ("weight", "bias"))
    if not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        return False
    shape = metadata(weight)[0]
    return len(shape) == 2 and metadata(bias)[0] == shape[1:]


def stored(module: nn.Module, name: str) -> Tensor | None:
    """A weight or bias as it is trained, below masks of ``torch.nn.utils.prune``.

    None if it is computed, or no tensor.
    """
    if parametrize.is_parametrized(module, name):
        return None
    found = getattr(module, f"{name}_orig" if masked(module, name) else name, None)
    return found if isinstance(found, Tensor) else None


def matrix(module: nn.Module) -> Tensor:
    """The weight [N, K] as the layer uses it, detached."""
    if isinstance(module, PackedLinear):
        return module.packed.to_dense()
    weight = effective(cast(nn.Linear, module), "weight")
    return weight.t() if is_transposed(module) else weight


def shape_of(module: nn.Module) -> tuple[int, int]:
    """(N, K)."""
    if isinstance(module, PackedLinear):
        return module.out_features, module.in_features
    weight = stored(module, "weight")
    shape = () if weight is None else metadata(weight)[0]
    if len(shape) != 2:
        linear = cast(nn.Linear, module)
        return linear.out_features, linear.in_features
    rows, columns = shape
    return (columns, rows) if is_transposed(module) else (rows, columns)


def other_forward(module: nn.Module) -> str:
    """Why a module's class does not compute what ``nn.Linear`` does; nothing if it does."""
    kind = type(module)
    if kind is nn.Linear or isinstance(module, PackedLinear):
        return ""
    if is_transposed(module):
        return "" if _multiplies(module) else "a Conv1D that is not x @ weight + bias"
    what = f"a subclass of nn.Linear, {kind.__name__}"
    if kind.forward is not nn.Linear.forward:
        return f"{what}, with a forward of its own"
    if more := sorted(name for name, value in _members(kind).items() if not _is_data(name, value)):
        return f"{what}, that has {', '.join(more)} as well"
    return ""


def _members(kind: type) -> dict[str, Any]:
    """What a class has beside ``nn.Linear``."""
    bases = [base for base in kind.__mro__ if base not in (*nn.Linear.__mro__, Generic, ABC)]
    found = {name: value for base in reversed(bases) for name, value in vars(base).items()}
    return {name: value for name, value in found.items() if name not in _HARMLESS}


def _is_data(name: str, value: object) -> bool:
    """Whether a member of a class is a value that an instance could have as well."""
    return name not in _OF_PACKED and not hasattr(type(value), "__get__")


def _multiplies(module: nn.Module) -> bool:
    """Whether a Conv1D does what its name says, on small numbers that are exact."""
    columns = shape_of(module)[0]
    weight = torch.arange(2.0 * columns, device="cpu").reshape(2, columns) % 7 - 3
    bias = torch.arange(float(columns), device="cpu") % 5 - 2
    x = torch.tensor([[[1.0, 2.0], [-3.0, 1.0], [2.0, -2.0]]], device="cpu")
    probe = type(module).__new__(type(module))
    nn.Module.__init__(probe)
    vars(probe).update(plain_attributes(module))
    probe.register_parameter("weight", nn.Parameter(weight))
    probe.register_parameter("bias", nn.Parameter(bias))
    try:
        with torch.no_grad():
            found = type(module).forward(probe, x)
    except Exception:  # (whatever it does, it is not that)
        return False
    return isinstance(found, Tensor) and torch.equal(found, x @ weight + bias)


def plain_attributes(module: nn.Module) -> dict[str, Any]:
    """What somebody set on an instance, beside what its class makes, and how it is shown."""
    own = _OF_MODULE | _WEIGHTS | {"_compiled_call_impl", "extra_repr"}
    own |= attributes(module)
    return {name: value for name, value in vars(module).items() if name not in own}


def attribute_in_the_way(module: nn.Module) -> str:
    """An attribute of a dense layer that a packed one has for itself; nothing if there is none."""
    if isinstance(module, PackedLinear):
        return ""
    names = (name for name in plain_attributes(module) if name not in _OF_LINEAR)
    return next((name for name in names if name in _OF_PACKED), "")


def carry_over(dense: nn.Module, layer: PackedLinear) -> None:
    """Gives a layer what its predecessor had beside its weights, and notes what that was."""
    mine, kind = vars(layer), type(dense)
    layer.train(dense.training)
    if isinstance(dense, nn.Linear) and other_forward(dense):  # whose own is for another weight
        mine[_ORIGIN] = (nn.Linear, False, ())
        return
    members = _members(kind) if isinstance(dense, nn.Linear) else {}
    for name, value in {**members, **plain_attributes(dense)}.items():
        mine.setdefault(name, value)
    if not isinstance(dense, PackedLinear):
        trained = stored(dense, "weight")
        trains = trained is not None and trained.requires_grad
        mine[_ORIGIN] = (kind, trains, tuple(members.keys() - vars(dense).keys()))


def restored(layer: PackedLinear, weight: nn.Parameter | None) -> nn.Module:
    """The dense layer that a packed one was, without its activation; weight: that of a tied one."""
    kind, trains, of_class = vars(layer).get(_ORIGIN, (nn.Linear, True, ()))
    dense = cast(nn.Module, kind.__new__(kind))
    nn.Module.__init__(dense)
    theirs = vars(layer)
    for name in _OF_MODULE - {"_parameters", "_buffers", "_modules"}:
        if "state_dict" not in name and name in theirs:
            vars(dense)[name] = theirs[name]
    own = {*vars(PackedLinear(layer.packed)), _ORIGIN, *of_class}
    for name, value in plain_attributes(layer).items():
        if name not in own:
            vars(dense)[name] = value
    if issubclass(kind, nn.Linear):
        vars(dense).update(in_features=layer.in_features, out_features=layer.out_features)
    if weight is None:
        packed = layer.packed
        made = packed.to_dense().to(packed.input_dtype)
        made = made if issubclass(kind, nn.Linear) else made.t().contiguous()
        weight = nn.Parameter(made, requires_grad=trains)
    dense.register_parameter("weight", weight)
    dense.register_parameter("bias", _bias(layer, weight.dtype))
    for name, buffer in layer._buffers.items():
        if name not in STATE_KEYS:
            dense.register_buffer(name, buffer, name not in layer._non_persistent_buffers_set)
    for name, parameter in layer._parameters.items():
        if name not in _WEIGHTS:
            dense.register_parameter(name, parameter)
    for name, child in layer._modules.items():
        dense.register_module(name, child)
    return dense


def _bias(layer: PackedLinear, dtype: torch.dtype) -> nn.Parameter | None:
    """The same parameter, where it is of the model's dtype."""
    bias = layer.bias
    if bias is None or bias.dtype == dtype:
        return bias
    return nn.Parameter(bias.detach().to(dtype), requires_grad=bias.requires_grad)
