"""Puts packed layers into a model, and dense ones back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from torch import nn
from torch.nn.utils import prune

from strop._models.compiled_models import compile_anew, compiled_alone, is_wrapper, unwrapped
from strop._models.compressed_layers import forget
from strop._models.fusion import Fusion
from strop._models.layers import Layer
from strop._models.linear_kinds import carry_over
from strop._models.masks import apply_mask
from strop._models.outcome import Outcome
from strop.nn import PackedLinear
from strop.nn._dense_layers import bias_for, masked

_NOTE = "_strop_fast_path"


def convert(model: nn.Module, outcomes: Iterable[Outcome], fusions: Mapping[int, Fusion]) -> None:
    """Changes the model; what could fail comes first."""
    made = [(layer, module) for o in outcomes for layer, module in _modules(o, fusions)]
    for one in outcomes:
        if not one.converted and one.mask is not None:
            apply_mask(one.group, one.mask)
        if not one.converted and not one.group.alone:
            for layer in one.group.layers:
                _settle(layer.linear)
    replace(model, made, fusions)


def _modules(one: Outcome, fusions: Mapping[int, Fusion]) -> Iterator[tuple[Layer, PackedLinear]]:
    if not one.converted or one.weight is None:
        return
    for layer in one.group.layers:
        fusion = fusions.get(id(layer.linear))
        activation = fusion.activation if fusion else None
        if layer.packed_linear is not None:
            activation = layer.packed_linear.activation
        bias = bias_for(cast(nn.Linear, layer.linear), one.weight.dtype)
        yield layer, PackedLinear(one.weight, bias, activation=activation)


def _settle(linear: nn.Module) -> None:
    """Makes masks of ``torch.nn.utils.prune`` zeros, for good."""
    for name in ("weight", "bias"):
        if masked(linear, name):
            prune.remove(linear, name)


def replace(
    model: nn.Module, made: Sequence[tuple[Layer, PackedLinear]], fusions: Mapping[int, Fusion]
) -> None:
    """Puts packed layers where dense ones are."""
    for layer, module in made:
        carry_over(layer.linear, module)
        if module.activation and id(layer.linear) in fusions:
            fusions[id(layer.linear)].apply()
    put(model, made)
    forget(model)


def put(model: nn.Module, made: Iterable[tuple[Layer, nn.Module]]) -> None:
    """Puts layers where others are, and lets torch know."""
    wrappers = []
    for layer, module in made:
        for place in layer.places:
            place.put(module)
            if is_wrapper(place.parent):
                wrappers.append(place.parent)
        if compiled_alone(layer.linear):
            module.compile()
    _choose_paths(model)
    if made:
        compile_anew(model, wrappers)


def _choose_paths(model: nn.Module) -> None:
    """Torch's encoder layers have a path in eval mode that reads dense weights past their layers."""
    off = set()
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            layers = [unwrapped(getattr(module, name, None)) for name in ("linear1", "linear2")]
            dense = not any(isinstance(layer, PackedLinear) for layer in layers)
            _switch(module, "activation_relu_or_gelu", 0, dense)
            if not dense:
                off.add(id(module))
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):
            dense = not any(id(unwrapped(layer)) in off for layer in module.layers)
            _switch(module, "use_nested_tensor", False, dense)


def _switch(module: nn.Module, name: str, off: int, dense: bool) -> None:
    """Turns such a path off, or back to what it was."""
    own = vars(module)
    if not dense and name in own:
        own.setdefault(_NOTE, own[name])
        own[name] = off
    elif dense and _NOTE in own:
        own[name] = own.pop(_NOTE)
