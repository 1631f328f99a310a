"""Activations that follow a linear layer, and can be its last step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from strop._sparsify_layers import Layer, Place, hooked

_FUNCTIONS = {
    functional.relu: "relu",
    torch.relu: "relu",
    functional.gelu: "gelu",
    functional.silu: "silu",
}
# Those of the package transformers, by the names of their classes: it is not imported.
_TRANSFORMERS = {
    "GELUActivation": "gelu",
    "NewGELUActivation": "gelu_tanh",
    "FastGELUActivation": "gelu_tanh",
    "PytorchGELUTanh": "gelu_tanh",
    "GELUTanh": "gelu_tanh",
    "SiLUActivation": "silu",
}
_BERT = {"dense", "intermediate_act_fn"}


@dataclass(frozen=True)
class Fusion:
    """An activation, and where it is."""

    activation: str
    place: Place

    def apply(self) -> None:
        """Leaves nothing to do there."""
        self.place.put(nn.Identity())


def fusions(model: nn.Module, layers: Sequence[Layer]) -> dict[int, Fusion]:
    """By the id of a linear layer, the activation that takes nothing but its result.

    In an ``nn.Sequential`` that is the next module; where a module has ``dense`` and
    ``intermediate_act_fn``, and nothing else, as transformers' BERT layers do, it is the latter. Both
    the layer and the activation have to be at one place in the model, without hooks.
    """
    once = {id(layer.linear): layer for layer in layers if len(layer.places) == 1}
    uses: dict[int, int] = {}
    for parent in model.modules():
        for child in parent._modules.values():
            uses[id(child)] = uses.get(id(child), 0) + 1
    found = {}
    for parent in model.modules():
        for linear, name in _followers(parent):
            module = getattr(parent, name)
            activation = activation_name(module)
            if id(linear) not in once or activation is None:
                continue
            if isinstance(module, nn.Module) and (uses[id(module)] > 1 or hooked(module)):
                continue
            found[id(linear)] = Fusion(activation, Place(parent, name))
    return found


def _followers(parent: nn.Module) -> Iterator[tuple[nn.Module | None, str]]:
    """(module, name of what takes its result)."""
    if isinstance(parent, nn.Sequential) and type(parent).forward is nn.Sequential.forward:
        names = list(parent._modules)
        for before, after in zip(names, names[1:], strict=False):
            yield parent._modules[before], after
    elif hasattr(parent, "intermediate_act_fn") and set(parent._modules) in (_BERT, {"dense"}):
        yield parent._modules["dense"], "intermediate_act_fn"


def activation_name(found: object) -> str | None:
    """What :func:`strop.sparse_linear` calls an activation, a module or function; None if not known."""
    if isinstance(found, nn.Module):
        kind = type(found)
        if kind is nn.GELU:
            return "gelu" if found.approximate == "none" else "gelu_tanh"
        if kind in (nn.ReLU, nn.SiLU):
            return "relu" if kind is nn.ReLU else "silu"
        if kind.__module__ == "transformers.activations":
            return _TRANSFORMERS.get(kind.__name__)
        return None
    try:
        return _FUNCTIONS.get(found)  # type: ignore[call-overload, no-any-return]
    except TypeError:  # not hashable
        return None
