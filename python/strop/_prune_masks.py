"""Masks of many weights at once, by one ranking of them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from strop import _prune_ops as ops
from strop._arguments import number
from strop._errors import translated
from strop._prune import Pattern, plain_options

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
            floating parameters. None: the weight of every ``nn.Linear`` in a module, everything that is
            given otherwise.

    Returns:
        Contiguous bool tensors by the names of ``named_parameters()``, in their order. A parameter that
        a module has under several names is under the first; a tensor that was given under several
        names is ranked once, and has its mask under each.

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
    weights = _chosen(model_or_params, filter)
    distinct: dict[int, Tensor] = {id(weight): weight for weight in weights.values()}
    try:
        name, block, norm = plain_options(_OP, pattern, "l1")
        share = number(_OP, "sparsity", sparsity)
        with torch.no_grad():
            masks = ops.prune_masks(list(distinct.values()), share, name, block, norm)
    except Exception as error:
        raise translated(_OP, error, {f"'{name}'": w for name, w in weights.items()}) from None
    by_weight: dict[int, Tensor] = dict(zip(distinct, masks, strict=True))
    return {name: by_weight[id(weight)] for name, weight in weights.items()}


def _chosen(source: Weights, filter: Filter | None) -> dict[str, Tensor]:
    """What is to be pruned, by name."""
    if filter is not None and not callable(filter):
        raise TypeError(f"{_OP}: filter is a {type(filter).__name__}; a function is needed")
    chosen: dict[str, Tensor] = {}
    for name, weight in _named(source, filter):
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


def _named(source: Weights, filter: Filter | None) -> Iterable[tuple[str, Tensor]]:
    if isinstance(source, nn.Module):
        parameters = ((n, p) for n, p in source.named_parameters() if p.is_floating_point())
        if filter is not None:
            return parameters
        linear = {id(m.weight) for m in source.modules() if isinstance(m, nn.Linear)}
        return ((name, p) for name, p in parameters if id(p) in linear)
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
