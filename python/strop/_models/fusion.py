"""Activations that follow a linear layer, and can be its last step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from strop._models.compiled_models import compiled_alone
from strop._models.layers import Layer, Place, hooked
from strop._models.linear_kinds import plain_attributes

_TAKEN = "_strop_taken"
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
        """Leaves nothing to do there, and a note of what there was."""
        taken, identity = self.place.holds, nn.Identity()
        if isinstance(taken, nn.Module):
            vars(identity).update(plain_attributes(taken))
            identity.train(taken.training)
        vars(identity)[_TAKEN] = (taken,)  # (in a tuple it is no submodule)
        self.place.put(identity)

    def undo(self) -> None:
        """Puts back what was there."""
        self.place.put(_taken(self.place.holds))


def _taken(identity: object) -> Any:
    """What an ``nn.Identity`` was put in place of; None of any other module."""
    note = vars(identity).get(_TAKEN, (None,)) if type(identity) is nn.Identity else (None,)
    return note[0]


def possible_fusions(model: nn.Module, layers: Sequence[Layer]) -> dict[int, Fusion]:
    """By the id of a linear layer, the activation that seems to take nothing but its result.

    In an ``nn.Sequential`` that is the next module; where a module has ``dense`` and
    ``intermediate_act_fn``, and nothing else, as transformers' BERT layers do, it is the latter. Both
    the layer and the activation have to be at one place in the model, without hooks. Whether the model
    runs so is for others to say.
    """
    once = {
        id(layer.linear) for layer in layers if len(layer.places) == 1 and not layer.packed_linear
    }
    uses: dict[int, int] = {}
    for parent in model.modules():
        for child in parent._modules.values():
            uses[id(child)] = uses.get(id(child), 0) + 1
    found = {}
    for linear, place in _followers(model):
        module = place.holds
        activation = activation_name(module)
        if id(linear) not in once or activation is None:
            continue
        if isinstance(module, nn.Module):
            plain = "forward" not in vars(module) and not compiled_alone(module)
            if uses[id(module)] > 1 or hooked(module) or not plain:
                continue
        elif place.name not in vars(place.parent):  # (a class has it, for all)
            continue
        found[id(linear)] = Fusion(activation, place)
    return found


def past_fusions(model: nn.Module) -> dict[int, Fusion]:
    """By the id of a packed layer, the activation that became a part of it and can be put back."""
    found = {}
    for layer, place in _followers(model):
        activation = activation_name(_taken(place.holds))
        if activation is not None:
            found[id(layer)] = Fusion(activation, place)
    return found


def _followers(model: nn.Module) -> Iterator[tuple[nn.Module | None, Place]]:
    """(module, where what takes its result is)."""
    for parent in model.modules():
        if isinstance(parent, nn.Sequential) and type(parent).forward is nn.Sequential.forward:
            names = list(parent._modules)
            for before, after in zip(names, names[1:], strict=False):
                yield parent._modules[before], Place(parent, after)
        elif hasattr(parent, "intermediate_act_fn") and set(parent._modules) in (_BERT, {"dense"}):
            yield parent._modules["dense"], Place(parent, "intermediate_act_fn")


def activation_name(found: object) -> str | None:
    """What :func:`strop.packed_linear` calls an activation, a module or function; None if not known."""
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
