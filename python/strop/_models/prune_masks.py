"""Masks of many weights at once, by one ranking of them all."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from strop._core.arguments import number
from strop._core.call_path import transformed
from strop._core.errors import translated
from strop._core.library import FLOATING
from strop._core.tensors import identity, unreadable
from strop._models.layers import Group, groups
from strop._models.linear_kinds import matrix
from strop._prune import ops
from strop._prune.prune_mask import Pattern, plain_options

_OP = "strop.prune_masks"
Filter = Callable[[str, Tensor], bool]
Weights = nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]


def prune_masks(
    model_or_params: Weights,
    *,
    sparsity: float | None = None,
    pattern: Pattern = "unstructured",
    filter: Filter | None = None,
) -> dict[str, Tensor]:
    """The weights of a model that stay when the smallest of them all are pruned: True keeps.

    One ranking goes through every weight, in the order that :func:`strop.prune_mask` prunes in (of equal
    magnitudes the earlier parameter's first), so that exactly ``round(sparsity * total)`` are pruned;
    blocks are ranked by their mean ``|w|``, and a block counts as one whatever its parameter. Nothing is
    concatenated, sorted or changed.

    Args:
        model_or_params: a module; or a mapping, or pairs, of names and tensors. All on one device.
            Dtypes may differ: magnitudes compare as float32 (as float64 where every tensor is that).
        sparsity: the share that is pruned, 0 to 1. A pattern ``"n:m"`` has its own, ``1 - n / m``, and
            needs none.
        pattern: as of :func:`strop.prune_mask`.
        filter: called with a parameter's name and the parameter, for those to prune; of a module's
            floating parameters. None: the weight of every linear layer in a module, everything that is
            given otherwise.

    Without a filter a module's linear layers are those that :func:`strop.pack_model` knows: ``nn.Linear``
    and its subclasses, GPT-2's ``Conv1D`` (whose weight, and mask, is [K, N]; a pattern goes along its
    inputs all the same), and :class:`strop.nn.PackedLinear`, by its dense weight. A weight that something
    else has as well, such as an embedding, has no part in it; nor has one that cannot be read: computed,
    masked by ``torch.nn.utils.prune``, quantized by another library, distributed, or on meta. A filter
    chooses whatever it likes.

    Returns:
        Contiguous bool tensors by the names of ``named_parameters()``, in their order. A parameter that
        a module has under several names is under the first; a tensor that was given under several
        names, as in a state dict, is ranked once, and has its mask under each.

    Raises:
        ValueError: a value or shape that does not fit, or nothing to prune.
        TypeError: a dtype or type that does not fit.

    Example:
        >>> import strop, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> masks = strop.prune_masks(model, sparsity=0.75)
        >>> list(masks), sum(int((~mask).sum()) for mask in masks.values())
        (['0.weight', '2.weight'], 30)

    """
    if isinstance(model_or_params, nn.Module) and filter is None:  # (a filter chooses by itself)
        found = [group for group in groups(model_or_params, None) if group.rankable]
        if not found:
            raise ValueError(f"{_OP}: there is no weight to prune")
        return ranked_masks(found, sparsity, pattern)
    return _masks(_chosen(model_or_params, filter), set(), sparsity, pattern)


def ranked_masks(
    found: Sequence[Group], sparsity: float | None, pattern: Pattern
) -> dict[str, Tensor]:
    """Of linear layers, of the shapes of their parameters, in one ranking."""
    weights: dict[str, Tensor] = {}
    turned = set()
    for group in found:
        name, weight = group.keys[0], group.parameter
        if weight is None:
            weight = matrix(group.linear)
        elif group.transposed and pattern != "unstructured":  # which is told along the inputs
            turned.add(name)
            weight = weight.t()
        weights[name] = weight
    return _masks(weights, turned, sparsity, pattern)


def _masks(
    weights: Mapping[str, Tensor], turned: Set[str], sparsity: float | None, pattern: Pattern
) -> dict[str, Tensor]:
    # (a transform's tensors have no memory to be known by)
    plain = not (is_compiling() or transformed())
    keys = {name: identity(w) if plain else id(w) for name, w in weights.items()}
    distinct: dict[Hashable, Tensor] = {}
    for name, weight in weights.items():
        distinct.setdefault(keys[name], weight)
    try:
        name, block, norm = plain_options(_OP, pattern, "l1")
        share = number(_OP, "sparsity", sparsity)
        if len({weight.is_meta for weight in distinct.values()}) > 1:
            raise ValueError(f"{_OP}: some weights are on meta, where there are no numbers to rank")
        with torch.no_grad():
            masks = ops.prune_masks(list(distinct.values()), share, name, block, norm)
    except Exception as error:
        for name, weight in weights.items():
            if why := unreadable(weight):
                raise TypeError(f"{_OP}: '{name}' is {why}; it cannot be ranked") from error
        raise translated(_OP, error, {f"'{name}'": w for name, w in weights.items()}) from None
    by_weight: dict[Hashable, Tensor] = dict(zip(distinct, masks, strict=True))
    made = {name: by_weight[key] for name, key in keys.items()}
    return {name: m.t().contiguous() if name in turned else m for name, m in made.items()}


def _chosen(source: Weights, filter: Filter | None) -> dict[str, Tensor]:
    """What is to be pruned, by name."""
    if filter is not None and not callable(filter):
        raise TypeError(f"{_OP}: filter is a {type(filter).__name__}; a function is needed")
    chosen: dict[str, Tensor] = {}
    for name, weight in _named(source):
        if not isinstance(weight, Tensor):
            kind = type(weight).__name__
            raise TypeError(f"{_OP}: '{name}' is a {kind}; a tensor is needed")
        if name in chosen:
            raise ValueError(f"{_OP}: '{name}' is given twice")
        if filter is None or filter(name, weight):
            chosen[name] = weight
    if not chosen:
        raise ValueError(f"{_OP}: there is no weight to prune in model_or_params")
    return chosen


def _named(source: Weights) -> Iterable[tuple[str, Tensor]]:
    if isinstance(source, nn.Module):
        readable = ((n, p) for n, p in source.named_parameters() if not unreadable(p))
        return ((name, p) for name, p in readable if p.dtype in FLOATING)
    if isinstance(source, Mapping):
        return cast("Mapping[str, Tensor]", source).items()
    single = isinstance(source, np.ndarray) and source.ndim == 0
    if single or isinstance(source, Tensor) or not isinstance(source, Iterable):
        kind = type(source).__name__
        raise TypeError(
            f"{_OP}: model_or_params is a {kind}; a module, a mapping, or pairs of name and tensor "
            "are needed"
        )
    pairs = list(source)
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[0], str):
            kind = type(pair).__name__
            raise TypeError(f"{_OP}: model_or_params has a {kind} that is no pair (name, tensor)")
    return pairs
