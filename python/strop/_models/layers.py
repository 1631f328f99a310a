"""The linear layers of a model: where they are, what their weights are tied to, which to leave alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune

from strop._core.library import FLOATING
from strop._core.tensors import identity, unreadable
from strop._models.compiled_models import plain_name, unwrapped
from strop._models.compressed_layers import other_call
from strop._models.foreign import Foreign, foreign_of
from strop._models.linear_kinds import (
    attribute_in_the_way,
    is_linear,
    is_transposed,
    other_forward,
    shape_of,
    stored,
)
from strop._models.parameter_users import Users
from strop.nn import PackedLinear
from strop.nn._dense_layers import masked
from strop.nn._packed_buffers import STATE_KEYS

_CALL_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_STATE_HOOKS = (
    *("_state_dict_hooks", "_state_dict_pre_hooks"),
    *("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
_WEIGHTS = {f"{name}{part}" for name in ("weight", "bias") for part in ("", "_orig", "_mask")}
Filter = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Place:
    """Where a module is: the attribute of its parent."""

    parent: nn.Module
    name: str

    @property
    def holds(self) -> Any:
        """What is there."""
        return getattr(self.parent, self.name)

    def put(self, found: Any) -> None:
        """Replaces what is there, by a module or by a function."""
        if not isinstance(found, nn.Module) and self.name in self.parent._modules:
            delattr(self.parent, self.name)
        setattr(self.parent, self.name, found)


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of a model, at every place that it has there."""

    names: tuple[str, ...]
    places: tuple[Place, ...]
    linear: nn.Module
    alone: str
    """Why it is left alone; nothing where it is not."""
    foreign: Foreign | None
    """Its weight, where that is quantized already."""

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def packed_linear(self) -> PackedLinear | None:
        """The layer, where it is packed already."""
        return self.linear if isinstance(self.linear, PackedLinear) else None

    @property
    def parameter(self) -> Tensor | None:
        """The weight as it is trained, below masks of ``torch.nn.utils.prune``; None if computed."""
        found = None if self.packed_linear else stored(self.linear, "weight")
        return found if isinstance(found, nn.Parameter) else None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        if self.foreign is not None:  # (whose parameter may be bytes, or not be there)
            linear = cast(nn.Linear, self.linear)
            return linear.out_features, linear.in_features
        return shape_of(self.linear)

    @property
    def carries_mask(self) -> bool:
        """Whether ``torch.nn.utils.prune`` masks the weight."""
        return masked(self.linear, "weight")


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that share a weight; most are of one layer."""

    layers: tuple[Layer, ...]
    alone: str
    """Why they are left alone; nothing where they are not."""
    shared: str
    """Who has the weight beside linear layers; nobody, most of the time."""
    keys: tuple[str, ...]
    """The names that the weight has as a parameter."""

    @property
    def name(self) -> str:
        """Of its first layer."""
        return self.layers[0].name

    @property
    def linear(self) -> nn.Module:
        """The first."""
        return self.layers[0].linear

    @property
    def packed_linear(self) -> PackedLinear | None:
        """The first, where it is packed already."""
        return self.layers[0].packed_linear

    @property
    def parameter(self) -> Tensor | None:
        """The weight as it is trained; None if it is computed, or packed."""
        return self.layers[0].parameter

    @property
    def transposed(self) -> bool:
        """Whether the parameter is [K, N]."""
        return is_transposed(self.linear)

    @property
    def on_meta(self) -> str:
        """That a weight is there, where it is; nothing otherwise."""
        tensors = (None if x.packed_linear else x.parameter for x in self.layers)
        there = any(not is_lazy(t) and t.is_meta for t in tensors if t is not None)
        devices = {x.packed_linear.packed.device for x in self.layers if x.packed_linear}
        devices |= {x.foreign.weight.device for x in self.layers if x.foreign and x.foreign.weight}
        there |= any(device.type == "meta" for device in devices)
        return "its weight is on meta, where there are no numbers" if there else ""

    @property
    def rankable(self) -> bool:
        """Whether its weight can have a part in a ranking.

        None has that something else has too, or whose numbers are not to be had.
        """
        if self.shared or self.on_meta or self.layers[0].foreign is not None:
            return False
        if self.packed_linear is not None:  # (codes stay as they are)
            return self.packed_linear.packed.format is None
        weight = self.parameter
        readable = weight is not None and not (unreadable(weight) or weight.dtype not in FLOATING)
        return readable and not any(layer.carries_mask for layer in self.layers)

    @property
    def parameter_shape(self) -> tuple[int, int]:
        """Of the parameter, and so of a mask: (N, K), or (K, N)."""
        rows, columns = self.layers[0].shape
        return (columns, rows) if self.transposed else (rows, columns)


def groups(model: nn.Module, filter: Filter | None) -> list[Group]:
    """Every linear layer of a model, by weight, in the model's order."""
    users = Users(model)
    by_weight: dict[Hashable, list[Layer]] = {}
    for layer in _layers(model, filter):
        by_weight.setdefault(_key(layer, users), []).append(layer)
    return [_group(layers, users) for layers in by_weight.values()]


def packed_layers(model: nn.Module) -> list[Layer]:
    """Every layer that is packed already, in the model's order."""
    return [layer for layer in _layers(model, None) if layer.packed_linear]


def _key(layer: Layer, users: Users) -> Hashable:
    if layer.packed_linear is not None:
        return weight_key(layer.packed_linear)
    weight = layer.parameter
    return id(layer.linear) if weight is None else users.key(weight)


def weight_key(layer: PackedLinear) -> Hashable:
    """Equal for packed layers that share their weight."""
    held = layer.packed.held().values()
    return tuple(None if tensor is None else identity(tensor) for tensor in held)


def _group(layers: list[Layer], users: Users) -> Group:
    alone = next((layer.alone for layer in layers if layer.alone), "")
    weight, shared = layers[0].parameter, ""
    keys = tuple(f"{name}.weight".lstrip(".") for layer in layers for name in layer.names)
    if weight is not None:
        plain = {id(layer.linear) for layer in layers if not _reads_otherwise(layer)}
        shared = ", ".join(users.others(weight, plain or {id(layer.linear) for layer in layers}))
        keys = (*keys, *users.names(weight))
    if shared:
        alone = f"shares its weight with {shared}"
    elif len(layers) > 1 and alone:
        name = next(layer.name for layer in layers if layer.alone)
        alone = f"shares its weight with '{name}': {alone}"
    elif len({layer.carries_mask for layer in layers}) > 1:
        alone = "shares its weight, but not its mask of torch.nn.utils.prune"
    elif len({is_transposed(layer.linear) for layer in layers}) > 1:
        alone = "shares its weight with a layer that has it transposed"
    names = dict.fromkeys((*keys, *(plain_name(key) for key in keys)))
    return Group(tuple(layers), alone, shared, tuple(names))


def _reads_otherwise(layer: Layer) -> bool:
    """Whether a layer is none that multiplies by its weight and no more."""
    return bool(other_forward(layer.linear)) or other_call(layer.linear)


def _layers(model: nn.Module, filter: Filter | None) -> Iterator[Layer]:
    names: dict[int, list[str]] = {}
    places: dict[int, list[Place]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    for parent in model.modules():
        for name, child in parent._modules.items():
            if is_linear(child):
                places.setdefault(id(child), []).append(Place(parent, name))
    attention = {
        id(unwrapped(module._modules.get("out_proj")))
        for module in model.modules()
        if isinstance(module, nn.MultiheadAttention)
    }
    for module in model.modules():
        if is_linear(module):
            mine = tuple(names[id(module)])
            reads, foreign = id(module) in attention, foreign_of(module)
            alone = "nn.MultiheadAttention reads its weight" if reads else _reason(module, foreign)
            if not alone and filter is not None and not filter(mine[0], module):
                alone = "not chosen by filter"
            yield Layer(mine, tuple(places.get(id(module), ())), module, alone, foreign)


def _reason(linear: nn.Module, foreign: Foreign | None) -> str:
    """Why a layer cannot be replaced; nothing if it can."""
    if parametrize.is_parametrized(linear):
        return "its parameters are computed (torch.nn.utils.parametrize)"
    weight = None if isinstance(linear, PackedLinear) else stored(linear, "weight")
    if weight is not None and is_lazy(weight):
        return f"its weight is not initialised ({type(linear).__name__})"
    if foreign is None and weight is not None and (why := _unfit(weight)):
        return f"its weight {why}"
    if foreign is None and (why := other_forward(linear)):
        return why
    if other_call(linear):
        return "its forward was replaced"
    if foreign is not None and foreign.reason:
        return foreign.reason
    if hooked(linear, *_STATE_HOOKS):
        return "it has hooks"
    if name := attribute_in_the_way(linear):
        return f"its attribute {name!r} is one that strop.nn.PackedLinear has"
    more = {*linear._parameters, *linear._buffers, *linear._modules}
    if isinstance(linear, PackedLinear):
        return "it has more than a weight and a bias" if more - {"bias", *STATE_KEYS} else ""
    if foreign is None and more - _WEIGHTS:
        return "it has more than a weight and a bias"
    if foreign is None and not isinstance(weight, nn.Parameter):
        return "its weight is computed"
    bias = stored(linear, "bias")
    return f"its bias {why}" if bias is not None and (why := _unfit(bias)) else ""


def _unfit(weight: Tensor) -> str:
    """Why a weight or a bias cannot be packed; nothing if it can."""
    why = unreadable(weight)
    if why and not why.startswith("on meta"):
        return f"is {why}"
    if weight.dtype not in FLOATING:
        return f"has dtype {weight.dtype}"
    return "is empty" if weight.numel() == 0 else ""


def hooked(module: nn.Module, *more: str) -> bool:
    """Whether a call of a module does more than its forward; masks of prune are known."""
    return any(
        not isinstance(hook, prune.BasePruningMethod)
        for name in (*_CALL_HOOKS, *more)
        for hook in cast("dict[int, object]", getattr(module, name)).values()
    )
