"""Rebuilds a model that :func:`strop.pack_model` changed, from its state dict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from strop._linear.masked_weight import MaskedWeight
from strop._linear.packed_weight import PackedWeight, kind_of, needed_keys
from strop._models.compiled_models import plain_name
from strop._models.convert import replace
from strop._models.fusion import Fusion, possible_fusions
from strop._models.layers import Group, Layer, groups
from strop.nn import PackedLinear
from strop.nn._packed_buffers import STATE_KEYS, activation_of, weight_of

_OP = "strop.load_packed"
_Model = TypeVar("_Model", bound=nn.Module)
_SHOWN = 8  # keys of an error
_OF_WEIGHT = frozenset(STATE_KEYS) - {"activation"}


def load_packed(model: _Model, state_dict: Mapping[str, Any]) -> _Model:
    """Makes of a dense model the packed one whose state dict this is.

    Each linear layer that the state dict has packed becomes a :class:`strop.nn.PackedLinear`
    with what was set on it, and with its activation if that had become a part of the
    layer, as :func:`strop.pack_model` would have put it there; the rest is loaded as ``load_state_dict``
    does, strictly. Names may differ by what ``torch.compile`` adds to them. On the same
    processor and instruction set, for a model of the same dtype, the results are those of the model that was
    saved, to the bit; elsewhere what was not forced is planned anew.

    Args:
        model: as it was before it was converted, changed in place; its weights are of no matter, and
            it may be on the meta device, or have been loaded before.
        state_dict: of the converted model, as ``torch.load(weights_only=True)`` or safetensors give it.
            The packed layers copy what they take.

    Returns:
        The model.

    Raises:
        ValueError: for keys that are missing or unexpected, shapes that do not fit, and layers or
            activations that the model does not have. The model is then as it was.
        TypeError: for arguments of another type.

    Example:
        >>> import strop, torch
        >>> from torch import nn
        >>> def build():
        ...     return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        >>> model = build()
        >>> _ = strop.pack_model(model, sparsity=0.9, only_if_faster=False)
        >>> again = strop.load_packed(build(), model.state_dict())
        >>> x = torch.randn(3, 64)
        >>> torch.equal(again(x), model(x))
        True

    """
    _check(model, state_dict)
    state_dict = _renamed(model, state_dict)
    made: list[tuple[Layer, PackedLinear]] = []
    found = [group for group in groups(model, None) if group.packed_linear is None]
    for group in found:
        made += _modules(group, state_dict)
    layers = [layer for group in found for layer in group.layers if not layer.alone]
    fused = _fused(possible_fusions(model, layers), made)
    rest = _rest(model, state_dict, [layer for layer, _ in made])
    on_meta = any(t.is_meta for name, t in model.state_dict().items() if name in rest)
    try:
        model.load_state_dict(rest, strict=False, assign=on_meta)
    except RuntimeError as error:
        raise ValueError(f"{_OP}: {error}") from None
    replace(model, made, fused)
    return model


def _check(model: object, state_dict: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"{_OP}: model is a {type(model).__name__}; a torch.nn.Module is needed")
    if isinstance(model, nn.Linear):
        raise ValueError(f"{_OP}: model is an nn.Linear, which cannot be replaced in place")
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            f"{_OP}: state_dict is a {type(state_dict).__name__}; a dict of tensors is needed"
        )
    for name, value in state_dict.items():
        if not isinstance(name, str):
            raise TypeError(f"{_OP}: a key of state_dict is a {type(name).__name__}, no string")
        if not isinstance(value, Tensor) and not name.endswith("_extra_state"):
            kind = type(value).__name__
            raise TypeError(f"{_OP}: '{name}' of state_dict is a {kind}; a tensor is needed")


def _renamed(model: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state by the model's names, which ``torch.compile`` lengthens, in the one or in the other."""
    names = {plain_name(name): name for name, _ in model.named_modules(remove_duplicate=False)}
    renamed = OrderedDict()
    for key, value in state.items():
        module, _, own = key.rpartition(".")
        name = names.get(plain_name(module), module)
        renamed[f"{name}.{own}".lstrip(".")] = value
    if renamed.keys() == state.keys():
        return state
    if hasattr(state, "_metadata"):
        found = {names.get(plain_name(name), name): data for name, data in state._metadata.items()}
        renamed._metadata = found  # type: ignore[attr-defined]
    return renamed


def _modules(group: Group, state: Mapping[str, Any]) -> list[tuple[Layer, PackedLinear]]:
    """The packed layers of a group; none where the state dict has it dense."""
    made = []
    first: tuple[PackedWeight, dict[str, Any]] | None = None
    for layer in group.layers:
        own = _own(layer, state)
        if not own.keys() & _OF_WEIGHT:
            continue
        if layer.alone:
            raise ValueError(
                f"{_OP}: state_dict has '{layer.name}' packed, but the layer of the model cannot be "
                f"replaced: {layer.alone}"
            )
        # (of tied tensors, safetensors' save_model keeps one)
        if first is not None and all(torch.equal(t, own.get(k, t)) for k, t in first[1].items()):
            weight = first[0]
        else:
            weight = _weight(layer, own)
            first = first or (weight, {name: own[name] for name in own.keys() & _OF_WEIGHT})
        made.append((layer, _module(layer, weight, own)))
    return made


def _own(layer: Layer, state: Mapping[str, Any]) -> dict[str, Any]:
    """What the state dict has of a layer, under any of its names."""
    return {
        key: state[f"{name}.{key}"]
        for name in reversed(layer.names)
        for key in (*STATE_KEYS, "bias")
        if f"{name}.{key}" in state
    }


def _weight(layer: Layer, own: Mapping[str, Any]) -> PackedWeight:
    needed = needed_keys(kind_of(own) or MaskedWeight)
    if missing := [key for key in needed if key not in own]:
        raise ValueError(f"{_OP}: '{layer.name}' lacks {', '.join(missing)} in state_dict")
    try:
        weight = weight_of(own, copy=True)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_OP}: '{layer.name}': {error}") from None
    if weight.shape != (shape := layer.shape):
        raise ValueError(
            f"{_OP}: '{layer.name}' has shape {weight.shape} in state_dict, {shape} in the model"
        )
    before = layer.parameter
    if layer.foreign is not None and layer.foreign.weight is not None:
        return weight.to(layer.foreign.weight.device)
    return weight if before is None or before.is_meta else weight.to(before.device)


def _module(layer: Layer, weight: PackedWeight, own: Mapping[str, Any]) -> PackedLinear:
    before, bias = cast("Tensor | None", layer.linear.bias), own.get("bias")
    if (before is None) != (bias is None):
        where = "the model" if bias is None else "state_dict"
        raise ValueError(f"{_OP}: '{layer.name}' has a bias in {where} alone")
    if bias is not None and before is not None:
        moved = bias.detach().clone().to(weight.device)
        bias = nn.Parameter(moved, requires_grad=before.requires_grad)
    try:
        module = PackedLinear(weight, bias, activation=activation_of(own))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{_OP}: '{layer.name}': {error}") from None
    return module


def _fused(
    possible: Mapping[int, Fusion], made: Iterable[tuple[Layer, PackedLinear]]
) -> dict[int, Fusion]:
    """The activations that became a part of their layers."""
    fused = {}
    for layer, module in made:
        if module.activation is None:
            continue
        found = possible.get(id(layer.linear))
        if found is None or found.activation != module.activation:
            after = "none that could be a part of it" if found is None else found.activation
            raise ValueError(
                f"{_OP}: '{layer.name}' has activation {module.activation} in state_dict; the model has "
                f"{after} after it"
            )
        fused[id(layer.linear)] = found
    return fused


def _rest(
    model: nn.Module, state: Mapping[str, Any], packed: Sequence[Layer]
) -> OrderedDict[str, Any]:
    """What is loaded as usual: exactly what the model has beside its packed layers."""
    names = tuple(f"{name}." for layer in packed for name in layer.names)
    own = {f"{name}{key}" for name in names for key in (*STATE_KEYS, "bias")}
    rest = OrderedDict((key, value) for key, value in state.items() if key not in own)
    replaced = set(names)
    # (bitsandbytes saves what a weight has beside it below its name)
    inside = tuple(f"{name}weight." for name in replaced)
    wanted = {
        key: tensor
        for key, tensor in model.state_dict(keep_vars=True).items()
        if key.rpartition(".")[0] + "." not in replaced and not key.startswith(inside)
    }
    already = {n for n, m in model.named_modules(remove_duplicate=False) if _is_packed(m)}
    theirs = {f"{name}.{key}".lstrip(".") for name in already for key in _OF_WEIGHT}
    needed = {key for name in already for key in _needed(name, state)}
    given = {id(wanted[key]) for key in rest if key in wanted}
    missing = [
        key
        for key, t in wanted.items()
        if key not in rest and id(t) not in given and key not in theirs - needed
    ]
    missing += [key for key in needed if key not in rest and key not in missing]
    unlike = [
        f"{key}: {list(rest[key].shape)} for {list(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in rest and key.rpartition(".")[0] not in already and _unlike(rest[key], tensor)
    ]
    _raise(
        "has what the model has not",
        [key for key in rest if key not in wanted and key not in needed],
    )
    _raise("lacks", missing)
    _raise("has other shapes", unlike)
    if hasattr(state, "_metadata"):
        rest._metadata = state._metadata  # type: ignore[attr-defined]
    return rest


def _needed(name: str, state: Mapping[str, Any]) -> set[str]:
    """The keys of a layer that is packed already, of the kind of weight that it is given."""
    own = {key: state.get(f"{name}.{key}".lstrip(".")) for key in STATE_KEYS}
    own = {key: tensor for key, tensor in own.items() if tensor is not None}
    kind = kind_of(own) or MaskedWeight
    keys = {*needed_keys(kind), *(own.keys() & set(kind._optional) & set(kind.canonical))}
    return {f"{name}.{key}".lstrip(".") for key in keys}


def _is_packed(module: nn.Module) -> bool:
    return isinstance(module, PackedLinear)


def _unlike(given: Any, wanted: Any) -> bool:
    both = isinstance(given, Tensor) and isinstance(wanted, Tensor)
    return both and given.shape != wanted.shape


def _raise(what: str, keys: Sequence[str]) -> None:
    if keys:
        more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
        raise ValueError(f"{_OP}: state_dict {what}: {', '.join(keys[:_SHOWN])}{more}")
