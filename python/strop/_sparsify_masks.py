"""Which weights stay: as the model has them, as given, or by one ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from strop._errors import in_the_name_of, unfit
from strop._prune import Pattern
from strop._prune_masks import prune_masks
from strop._sparsify_layers import Group
from strop.nn._sparse_linear import effective

_OP = "strop.sparsify"


def masks_of(
    groups: Sequence[Group],
    sparsity: float | None,
    given: Mapping[str, Tensor] | None,
    pattern: Pattern,
) -> dict[int, Tensor]:
    """Masks by the id of the group; a group without one stays as it is."""
    some = not isinstance(pattern, str) or pattern != "unstructured"
    prunes = sparsity is not None or some
    if given is not None:
        if prunes:
            what = "sparsity" if sparsity is not None else "pattern"
            raise ValueError(f"{_OP}: masks and {what} are both given; give one of them")
        return _given(groups, given)
    if not prunes:
        return {}
    wanted = [group for group in groups if not group.alone]
    for group in wanted:
        if group.layers[0].carries_mask:
            raise ValueError(
                f"{_OP}: sparsity or pattern is given, but '{group.name}' has a mask of "
                "torch.nn.utils.prune; give neither to keep it, or remove it first"
            )
    if not wanted:
        return {}
    weights = {f"{g.name}.weight": g.linear.weight for g in wanted}
    with in_the_name_of(_OP):
        masks = prune_masks(weights, sparsity=sparsity, pattern=pattern)
    return {id(group): mask for group, mask in zip(wanted, masks.values(), strict=True)}


def _given(groups: Sequence[Group], given: Mapping[str, Tensor]) -> dict[int, Tensor]:
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{_OP}: masks is a {type(given).__name__}; a dict of masks by the names of parameters, as "
            "strop.prune_masks returns it, is needed"
        )
    by_key = {key: group for group in groups for key in group.keys}
    found: dict[int, Tensor] = {}
    for name, mask in given.items():
        group = by_key.get(name)
        if group is None or not isinstance(group.layers[0].parameter, nn.Parameter):
            raise ValueError(f"{_OP}: masks has '{name}', which is no weight of an nn.Linear here")
        _check_mask(name, mask, group)
        before = found.setdefault(id(group), mask)
        if not torch.equal(before, mask):
            raise ValueError(f"{_OP}: masks has '{name}' unlike another name of the same weight")
    return found


def _check_mask(name: str, mask: Tensor, group: Group) -> None:
    shape = tuple(group.layers[0].parameter.shape)
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"{_OP}: masks has a {kind} for '{name}'; a bool tensor is needed")
    if (problem := unfit(mask)) is not None:
        raise TypeError(f"{_OP}: '{name}' of masks {problem}")
    if mask.is_meta:
        raise ValueError(f"{_OP}: '{name}' of masks is on meta, where there are no values")
    if tuple(mask.shape) != shape:
        raise ValueError(f"{_OP}: masks has shape {list(mask.shape)} for '{name}' of {list(shape)}")
    if group.layers[0].carries_mask:
        raise ValueError(
            f"{_OP}: masks has '{name}', which has a mask of torch.nn.utils.prune already"
        )


def apply_mask(group: Group, mask: Tensor) -> None:
    """Makes zeros of what is pruned, in the dense weight."""
    parameter = group.layers[0].parameter
    with torch.no_grad():
        parameter.masked_fill_(~mask.to(parameter.device), 0)


def weight_to_pack(group: Group) -> Tensor:
    """The dense weight, with its mask of ``torch.nn.utils.prune``."""
    return effective(group.linear, "weight")
