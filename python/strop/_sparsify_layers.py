"""The linear layers of a model: where they are, what their weights are tied to, which to leave alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize, prune

from strop._library import FLOATING
from strop.nn import SparseLinear
from strop.nn._sparse_linear import masked

_OP = "strop.sparsify"
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
Filter = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Place:
    """Where a module is: the attribute of its parent."""

    parent: nn.Module
    name: str

    def put(self, module: nn.Module) -> None:
        """Replaces what is there."""
        setattr(self.parent, self.name, module)


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer of a model, at every place that it has there."""

    names: tuple[str, ...]
    places: tuple[Place, ...]
    linear: nn.Linear
    alone: str
    """Why it is left alone; nothing where it is not."""

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def parameter(self) -> Tensor:
        """The weight as it is trained, below masks of ``torch.nn.utils.prune``."""
        return original(self.linear, "weight")

    @property
    def carries_mask(self) -> bool:
        """Whether ``torch.nn.utils.prune`` masks the weight."""
        return masked(self.linear, "weight")


@dataclass(frozen=True, eq=False)
class Group:
    """Layers that share a weight; most are of one layer."""

    layers: tuple[Layer, ...]
    alone: str

    @property
    def name(self) -> str:
        """Of its first layer."""
        return self.layers[0].name

    @property
    def linear(self) -> nn.Linear:
        """The first."""
        return self.layers[0].linear

    @property
    def keys(self) -> list[str]:
        """The names that its weight has as a parameter."""
        names = [name for layer in self.layers for name in layer.names]
        suffixes = ("weight", "weight_orig")
        return [f"{name}.{suffix}".lstrip(".") for name in names for suffix in suffixes]


def original(linear: nn.Module, name: str) -> Tensor:
    """A parameter, below a mask of ``torch.nn.utils.prune``."""
    found: Tensor = getattr(linear, f"{name}_orig" if masked(linear, name) else name)
    return found


def groups(model: nn.Module, filter: Filter | None) -> list[Group]:
    """Every ``nn.Linear`` of a model, by weight, in the model's order."""
    found = list(_layers(model, filter))
    owners = _owners(model)
    by_weight: dict[int, list[Layer]] = {}
    for layer in found:
        by_weight.setdefault(id(layer.parameter), []).append(layer)
    return [_group(layers, owners.get(key, [])) for key, layers in by_weight.items()]


def _group(layers: list[Layer], owners: list[tuple[str, nn.Module]]) -> Group:
    alone = next((layer.alone for layer in layers if layer.alone), "")
    mine = {id(layer.linear) for layer in layers}
    others = [f"'{name}' ({type(m).__name__})" for name, m in owners if id(m) not in mine]
    if len(layers) > 1 and alone:
        name = next(layer.name for layer in layers if layer.alone)
        alone = f"shares its weight with '{name}': {alone}"
    elif others and not alone:
        alone = f"shares its weight with {', '.join(others)}"
    elif len({layer.carries_mask for layer in layers}) > 1:
        alone = "shares its weight, but not its mask of torch.nn.utils.prune"
    return Group(tuple(layers), alone)


def _owners(model: nn.Module) -> dict[int, list[tuple[str, nn.Module]]]:
    """The modules that have a parameter, by the parameter's id."""
    owners: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((name, module))
    return owners


def _layers(model: nn.Module, filter: Filter | None) -> Iterator[Layer]:
    names: dict[int, list[str]] = {}
    places: dict[int, list[Place]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    for parent in model.modules():
        for name, child in parent._modules.items():
            if isinstance(child, nn.Linear | SparseLinear):
                places.setdefault(id(child), []).append(Place(parent, name))
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module) in places:
            mine = tuple(names[id(module)])
            at = tuple(places[id(module)])
            alone = _reason(module, [place.parent for place in at])
            if not alone and filter is not None and not filter(mine[0], module):
                alone = "not chosen by filter"
            yield Layer(mine, at, module, alone)


def _reason(linear: nn.Linear, parents: list[nn.Module]) -> str:
    """Why a layer cannot be replaced; nothing if it can."""
    if any(isinstance(parent, nn.MultiheadAttention) for parent in parents):
        return "nn.MultiheadAttention reads its weight"
    if parametrize.is_parametrized(linear):
        return "its parameters are computed (torch.nn.utils.parametrize)"
    if type(linear) is not nn.Linear:
        return f"a subclass of nn.Linear, {type(linear).__name__}"
    if "forward" in vars(linear):
        return "its forward was replaced"
    if hooked(linear):
        return "it has hooks"
    more = {*linear._parameters, *linear._buffers, *linear._modules}
    if more - {f"{name}{part}" for name in ("weight", "bias") for part in ("", "_orig", "_mask")}:
        return "it has more than a weight and a bias"
    weight = original(linear, "weight")
    if is_lazy(weight):
        return "its weight is not initialised"
    if not isinstance(weight, nn.Parameter):
        return "its weight is computed"
    if weight.dtype not in FLOATING:
        return f"its weight has dtype {weight.dtype}"
    if weight.numel() == 0:
        return "its weight is empty"
    return ""


def hooked(module: nn.Module) -> bool:
    """Whether a call of a module does more than its forward; masks of prune are known."""
    return any(
        not isinstance(hook, prune.BasePruningMethod)
        for name in _HOOKS
        for hook in getattr(module, name).values()
    )
